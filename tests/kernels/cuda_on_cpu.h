// Runs the CUDA sources of v2f_kernels on the CPU, thread by thread, so that a machine without a GPU can judge them.
//
// Every CUDA thread is a fiber; blocks run one after the other. A fiber runs until it must wait: at a warp operation,
// a block barrier, an mbarrier. Warps are visited in random order (seed fixed by the caller), so that a missing
// barrier shows. The matrix instructions are written from their definitions in the PTX ISA, fragment by fragment.
// Asynchronous work happens as late as the instruction set allows: cp.async at its wait_group, bulk copies at the
// barrier that counts them, wgmma at its wait_group. wgmma is computed at issue as well, and both results must be the
// same: a buffer that is overwritten while products are in flight is an error. Shared memory starts out poisoned.
//
// Not modelled: time, memory ordering between warps, races inside one barrier interval that the order hides.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#define V2F_ON_CPU
#ifndef V2F_WGMMA_ON
#define V2F_WGMMA_ON 0
#endif
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define WARP_FULL 0xffffffffu
#define V2F_DYNAMIC_SHARED(name) unsigned char* name = cuda_on_cpu::shared_memory
#define threadIdx (cuda_on_cpu::self->thread)
#define blockIdx (cuda_on_cpu::block_index)
#define blockDim (cuda_on_cpu::block_size)
#define gridDim (cuda_on_cpu::grid_size)

using std::max;
using std::min;
struct uint4 {
  unsigned x, y, z, w;
};

namespace cuda_on_cpu {

struct Index {
  int x = 0, y = 0, z = 0;
};

constexpr int kSharedMost = 232448;  // sm_90
alignas(1024) inline unsigned char shared_memory[kSharedMost];
inline Index block_index, block_size, grid_size;

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "cuda_on_cpu: %s (block %d, %d)\n", what.c_str(), block_index.x, block_index.y);
  std::abort();
}

struct Copy {
  unsigned to;
  const void* from;
  unsigned bytes;
};

using Product = std::function<void(int*)>;  // writes 64 sums

struct PendingProduct {
  int* sums;
  Product run;
  std::vector<int> at_issue;
};

struct Fiber {
  Index thread;
  bool started = false, finished = false;
  jmp_buf where;
  ucontext_t first;
  std::vector<char> stack;
  std::vector<std::vector<Copy>> copies;  // cp.async groups, oldest first; the last one is open
  std::vector<std::vector<PendingProduct>> products;
};

inline Fiber* self = nullptr;
inline jmp_buf scheduler;
inline std::function<void()> kernel;

inline void yield() {
  if (!_setjmp(self->where)) _longjmp(scheduler, 1);
}

// Everyone of a group gives a value, and receives all values once the last one has come.
struct Meeting {
  struct Value {
    unsigned word[8];
  };
  std::vector<Value> in, out;
  std::vector<bool> here;
  int arrived = 0, expected = 0;
  uint64_t round = 0;

  explicit Meeting(int n = 0) : in(n), out(n), here(n, false), expected(n) {}
  void open() {
    out = in;
    std::fill(here.begin(), here.end(), false);
    arrived = 0;
    ++round;
  }
  const std::vector<Value>& meet(int me, const Value& value) {
    if (here[me]) fail("a thread came twice to one warp or block operation");
    in[me] = value;
    here[me] = true;
    const uint64_t mine = round;
    if (++arrived == expected) open();
    while (round == mine) yield();
    return out;
  }
  void leave() {
    --expected;
    if (expected && arrived == expected) open();
  }
};

struct Barrier {
  unsigned count = 0, pending = 0, phase = 0;
  int64_t bytes = 0;
  std::vector<Copy> copies;

  void check() {
    if (pending == 0 && bytes == 0) {
      ++phase;
      pending = count;
    }
  }
  void arrive() {
    if (pending == 0) fail("an mbarrier received more arrivals than it was made for");
    --pending;
    check();
  }
  void land() {  // the copies counted by this barrier
    for (const Copy& c : copies) {
      if (c.to + c.bytes > kSharedMost) fail("bulk copy past shared memory");
      std::memcpy(shared_memory + c.to, c.from, c.bytes);
      bytes -= c.bytes;
    }
    if (!copies.empty()) {
      copies.clear();
      check();
    }
  }
};

inline std::vector<Meeting> warps;
inline Meeting everyone;
inline std::map<unsigned, Barrier> barriers;

inline int lane() { return self->thread.x % 32; }
inline const std::vector<Meeting::Value>& in_warp(const Meeting::Value& v) {
  return warps[self->thread.x / 32].meet(lane(), v);
}

template <class T>
T shuffle(T value, int source) {
  static_assert(sizeof(T) <= 8, "one or two words");
  Meeting::Value v{};
  std::memcpy(v.word, &value, sizeof(T));
  std::memcpy(&v.word[2], &source, 4);
  const auto& all = in_warp(v);
  std::memcpy(&value, all[source & 31].word, sizeof(T));
  return value;
}

inline void land(const std::vector<Copy>& group) {
  for (const Copy& c : group) {
    if (c.to + c.bytes > kSharedMost) fail("copy past shared memory");
    std::memcpy(shared_memory + c.to, c.from, c.bytes);
  }
}

inline void entry() {
  kernel();
  for (const auto& group : self->products)
    if (!group.empty()) fail("a thread ended with products in flight");
  self->finished = true;
  warps[self->thread.x / 32].leave();
  everyone.leave();
  _longjmp(scheduler, 1);
}

inline void run_block(int threads, std::mt19937& order) {
  static std::vector<Fiber> fibers;
  if (fibers.size() < static_cast<size_t>(threads)) fibers.resize(threads);
  std::memset(shared_memory, 0xA5, sizeof shared_memory);
  warps.assign((threads + 31) / 32, Meeting(32));
  everyone = Meeting(threads);
  barriers.clear();
  for (int t = 0; t < threads; ++t) {
    Fiber& f = fibers[t];
    f.thread = {t, 0, 0};
    f.started = f.finished = false;
    f.copies.assign(1, {});
    f.products.assign(1, {});
    if (f.stack.empty()) f.stack.resize(128 * 1024);
  }
  std::vector<int> sequence(threads / 32);
  for (size_t w = 0; w < sequence.size(); ++w) sequence[w] = static_cast<int>(w);
  int left = threads;
  for (int idle = 0; left;) {
    std::shuffle(sequence.begin(), sequence.end(), order);
    const int before = left;
    for (int w : sequence)
      for (int t = w * 32; t < w * 32 + 32; ++t) {
        Fiber& f = fibers[t];
        if (f.finished) continue;
        self = &f;
        if (!_setjmp(scheduler)) {
          if (f.started) _longjmp(f.where, 1);
          f.started = true;
          getcontext(&f.first);
          f.first.uc_stack.ss_sp = f.stack.data();
          f.first.uc_stack.ss_size = f.stack.size();
          f.first.uc_link = nullptr;
          makecontext(&f.first, entry, 0);
          setcontext(&f.first);
        }
        left -= f.finished;
      }
    idle = left == before ? idle + 1 : 0;
    if (idle > 2000000) fail("deadlock");
  }
}

inline void run(Index grid, int threads, unsigned seed, std::function<void()> body) {
  std::mt19937 order(seed);
  kernel = std::move(body);
  grid_size = grid;
  block_size = {threads, 1, 1};
  for (int y = 0; y < grid.y; ++y)
    for (int x = 0; x < grid.x; ++x) {
      block_index = {x, y, 0};
      run_block(threads, order);
    }
}

// One 128-byte row of a K-major operand with the 128-byte swizzle: byte k of row r, as wgmma addresses it.
inline int8_t operand(unsigned long long descriptor, int r, int k) {
  if (descriptor >> 62 != 1) fail("only the 128-byte swizzle is modelled");
  const unsigned start = (descriptor & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
  const unsigned linear = start + r / 8 * stride + r % 8 * 128 + k;  // before the swizzle
  return static_cast<int8_t>(shared_memory[linear ^ (linear >> 3 & 0x70)]);
}

}  // namespace cuda_on_cpu

// ---- what device.cuh would define -------------------------------------------------------------------------------

inline unsigned shared_address(const void* p) {
  return static_cast<unsigned>(static_cast<const unsigned char*>(p) - cuda_on_cpu::shared_memory);
}

inline void load_matrices(unsigned (&r)[4], unsigned address) {
  cuda_on_cpu::Meeting::Value v{{address}};
  if (address % 16 || address + 16 > cuda_on_cpu::kSharedMost) cuda_on_cpu::fail("ldmatrix address");
  const auto all = cuda_on_cpu::in_warp(v);
  const int lane = cuda_on_cpu::lane();
  for (int m = 0; m < 4; ++m)
    std::memcpy(&r[m], cuda_on_cpu::shared_memory + all[8 * m + lane / 4].word[0] + 4 * (lane % 4), 4);
}

inline void mma_16x8x32(int (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  cuda_on_cpu::Meeting::Value v{{a[0], a[1], a[2], a[3], b0, b1}};
  const auto& all = cuda_on_cpu::in_warp(v);
  const int lane = cuda_on_cpu::lane(), g = lane / 4, t = lane % 4;
  const auto byte = [](unsigned word, int i) { return static_cast<int>(static_cast<int8_t>(word >> (8 * i))); };
  // A: row g (+ 8 for registers 1, 3), columns 4 t + i (+ 16 for registers 2, 3) in lane 4 g + t.
  // B: column n of lane 4 n + t, rows 4 t + i (+ 16 for register 1). D: row g (+ 8), column 2 t + (0, 1).
  for (int e = 0; e < 4; ++e) {
    const int row = g + e / 2 * 8, column = 2 * t + e % 2;
    for (int k = 0; k < 32; ++k) {
      const auto& left = all[row % 8 * 4 + k % 16 / 4];
      const auto& right = all[column * 4 + k % 16 / 4];
      d[e] += byte(left.word[row / 8 + k / 16 * 2], k % 4) * byte(right.word[4 + k / 16], k % 4);
    }
  }
}

inline void copy16_async(unsigned to, const void* from) {
  if (to % 16 || reinterpret_cast<uintptr_t>(from) % 16) cuda_on_cpu::fail("cp.async alignment");
  cuda_on_cpu::self->copies.back().push_back({to, from, 16});
}
inline void copy_commit() { cuda_on_cpu::self->copies.emplace_back(); }
template <int PENDING>
void copy_wait() {
  auto& groups = cuda_on_cpu::self->copies;
  while (groups.size() > PENDING + 1) {
    cuda_on_cpu::land(groups.front());
    groups.erase(groups.begin());
  }
}

inline void barrier_init(unsigned barrier, unsigned arrivals) {
  cuda_on_cpu::Barrier b;
  b.count = b.pending = arrivals;
  cuda_on_cpu::barriers[barrier] = b;
}
inline void barrier_init_fence() {}
inline cuda_on_cpu::Barrier& barrier_at(unsigned address) {
  const auto found = cuda_on_cpu::barriers.find(address);
  if (found == cuda_on_cpu::barriers.end()) cuda_on_cpu::fail("mbarrier used before its initialisation");
  return found->second;
}
inline void barrier_expect(unsigned barrier, unsigned bytes) {
  barrier_at(barrier).bytes += bytes;
  barrier_at(barrier).arrive();
}
inline void barrier_arrive(unsigned barrier) { barrier_at(barrier).arrive(); }
inline void barrier_wait(unsigned barrier, unsigned parity) {
  for (;;) {
    cuda_on_cpu::Barrier& b = barrier_at(barrier);
    b.land();
    if ((b.phase & 1) != parity) return;
    cuda_on_cpu::yield();
  }
}
inline void bulk_copy(unsigned to, const void* from, unsigned bytes, unsigned barrier) {
  if (to % 16 || bytes % 16 || reinterpret_cast<uintptr_t>(from) % 16) cuda_on_cpu::fail("bulk copy alignment");
  barrier_at(barrier).copies.push_back({to, from, bytes});
}

template <int COUNT>
void registers_take() {}
template <int COUNT>
void registers_give() {}

inline void wgmma_fence() {}
inline void wgmma_commit() { cuda_on_cpu::self->products.emplace_back(); }
template <int PENDING>
void wgmma_wait() {
  auto& groups = cuda_on_cpu::self->products;
  while (groups.size() > PENDING + 1) {
    for (auto& product : groups.front()) {
      std::vector<int> now(64, 0);
      product.run(now.data());
      if (now != product.at_issue) cuda_on_cpu::fail("a buffer changed while wgmma was reading it");
    }
    groups.erase(groups.begin());
  }
}
inline void wgmma_64x128x32(int (&d)[16][4], unsigned long long a, unsigned long long b, int accumulate) {
  const int thread = cuda_on_cpu::self->thread.x % 128, row = thread / 32 * 16 + thread % 32 / 4, t = thread % 4;
  const cuda_on_cpu::Product run = [=](int* sums) {
    for (int j = 0; j < 16; ++j)
      for (int e = 0; e < 4; ++e)
        for (int k = 0; k < 32; ++k)
          sums[j * 4 + e] += cuda_on_cpu::operand(a, row + e / 2 * 8, k) * cuda_on_cpu::operand(b, 8 * j + 2 * t + e % 2, k);
  };
  std::vector<int> sums(64, 0);
  run(sums.data());
  for (int j = 0; j < 16; ++j)
    for (int e = 0; e < 4; ++e) d[j][e] = (accumulate ? d[j][e] : 0) + sums[j * 4 + e];
  cuda_on_cpu::self->products.back().push_back({&d[0][0], run, sums});
}

// ---- what CUDA itself would define ------------------------------------------------------------------------------

inline unsigned __ballot_sync(unsigned, bool value) {
  cuda_on_cpu::Meeting::Value v{{value}};
  const auto& all = cuda_on_cpu::in_warp(v);
  unsigned bits = 0;
  for (int l = 0; l < 32; ++l) bits |= all[l].word[0] << l;
  return bits;
}
inline bool __any_sync(unsigned mask, bool value) { return __ballot_sync(mask, value) != 0; }
inline void __syncwarp() { __ballot_sync(WARP_FULL, false); }
template <class T>
T __shfl_sync(unsigned, T value, int source) {
  return cuda_on_cpu::shuffle(value, source);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  return cuda_on_cpu::shuffle(value, cuda_on_cpu::lane() ^ distance);
}
template <class T>
T __shfl_down_sync(unsigned, T value, int distance) {
  const int source = cuda_on_cpu::lane() + distance;
  return cuda_on_cpu::shuffle(value, source < 32 ? source : cuda_on_cpu::lane());
}
inline int __syncthreads_or(int value) {
  cuda_on_cpu::Meeting::Value v{{static_cast<unsigned>(value != 0)}};
  const auto& all = cuda_on_cpu::everyone.meet(cuda_on_cpu::self->thread.x, v);
  int any = 0;
  for (const auto& other : all) any |= static_cast<int>(other.word[0]);
  return any;
}
inline void __syncthreads() { __syncthreads_or(0); }
inline void __threadfence() {}

inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline int __float2int_rn(float a) { return std::isnan(a) ? 0 : static_cast<int>(std::nearbyint(a)); }
inline float __double2float_ru(double a) {
  const float f = static_cast<float>(a);
  return static_cast<double>(f) < a ? std::nextafter(f, INFINITY) : f;
}
inline float __double2float_rd(double a) { return -__double2float_ru(-a); }
inline unsigned __float_as_uint(float a) {
  unsigned u;
  std::memcpy(&u, &a, 4);
  return u;
}
inline float __uint_as_float(unsigned u) {
  float a;
  std::memcpy(&a, &u, 4);
  return a;
}
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __ffs(unsigned a) { return __builtin_ffs(static_cast<int>(a)); }

template <class T, class U>
T atomicAdd(T* at, U value) {
  const T old = *at;
  *at = static_cast<T>(old + value);
  return old;
}
template <class T, class U>
T atomicOr(T* at, U value) {
  const T old = *at;
  *at = static_cast<T>(old | value);
  return old;
}
template <class T, class U>
T atomicMax(T* at, U value) {
  const T old = *at;
  *at = std::max(old, static_cast<T>(value));
  return old;
}
template <class T, class U>
T atomicMin(T* at, U value) {
  const T old = *at;
  *at = std::min(old, static_cast<T>(value));
  return old;
}
template <class T>
T atomicCAS(T* at, T compare, T value) {
  const T old = *at;
  if (old == compare) *at = value;
  return old;
}
template <class T>
T atomicExch(T* at, T value) {
  const T old = *at;
  *at = value;
  return old;
}

// ---- kernels by name ----------------------------------------------------------------------------------------------

namespace cuda_on_cpu {

template <class... A, size_t... I>
void call(void (*f)(A...), void** arguments, std::index_sequence<I...>) {
  f(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
}
template <class... A>
std::function<void(void**)> caller(void (*f)(A...)) {
  return [f](void** arguments) { call(f, arguments, std::index_sequence_for<A...>()); };
}

}  // namespace cuda_on_cpu

#define V2F_KERNELS_ON_CPU(...)                                                                                      \
  extern "C" int cuda_on_cpu_launch(const char* name, int x, int y, int threads, unsigned seed, void** arguments) { \
    static const std::map<std::string, std::function<void(void**)>> kernels = {__VA_ARGS__};                        \
    const auto found = kernels.find(name);                                                                           \
    if (found == kernels.end()) return 1;                                                                            \
    cuda_on_cpu::run({x, y, 1}, threads, seed, [&] { found->second(arguments); });                                   \
    return 0;                                                                                                        \
  }                                                                                                                  \
  extern "C" int cuda_on_cpu_shared_bytes() { return kSharedBytes; }                                                 \
  extern "C" int cuda_on_cpu_threads() { return kThreads; }
#define V2F_KERNEL(f) {#f, cuda_on_cpu::caller(f)}
