// Winograd's F(2x2, 3x3), and nearest upsampling with a 3x3 convolution by differences, both in bf16 (see
// v2f_kernels/_winograd.py for the algebra). An image is padded (and normalised) once into scratch; then, for as many
// tiles as fit the second-level cache, each tile is transformed, each product is one matrix product, and sums of
// products become four pixels. Sums are in fp32; the transformed input is the only rounding that a direct convolution
// lacks, beside that of the transformed weights.
#include "v2f/winograd.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "v2f/dispatch.h"

#if V2F_X86
#include <immintrin.h>
#endif

namespace v2f {
namespace {

#if V2F_X86
#define V2F_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define V2F_BF16_INLINE V2F_BF16 V2F_INLINE

constexpr int64_t kTiles = 48;  // a block: 16 * 48 * 256 channels are 400 KB of a 1 MB second-level cache
constexpr int64_t kWide = 64;   // output channels a matrix product: four registers
constexpr int kRows = 6;        // tiles a matrix product: 24 sums in registers, 10 loads

V2F_BF16_INLINE __m512 widen(const uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// Channels 0, 2, .. 30 and 1, 3, .. 31: one load and two cheap instructions. `transform` writes them in this order, and
// the weights are packed in it.
V2F_BF16_INLINE void widen_32(const uint16_t* p, __m512* even, __m512* odd) {
  const __m512i both = _mm512_loadu_si512(p);
  *even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
  *odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

V2F_BF16_INLINE void narrow(uint16_t* p, __m512 low, __m512 high) {
  _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

// z / (1 + exp(-z)): exp by its polynomial on [-ln 2 / 2, ln 2 / 2], within 3e-7; a NaN stays one.
V2F_BF16_INLINE __m512 silu(__m512 z) {
  const __m512 t = _mm512_mul_ps(_mm512_max_ps(_mm512_min_ps(z, _mm512_set1_ps(88.f)), _mm512_set1_ps(-88.f)),
                                 _mm512_set1_ps(-1.44269504f));
  const __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(t, whole);
  __m512 e = _mm512_set1_ps(1.33335581e-3f);
  for (const float c : {9.61812911e-3f, 5.55041087e-2f, 2.40226507e-1f, 6.93147181e-1f, 1.f})
    e = _mm512_fmadd_ps(e, f, _mm512_set1_ps(c));
  return _mm512_div_ps(z, _mm512_add_ps(_mm512_scalef_ps(e, whole), _mm512_set1_ps(1.f)));
}

// Loops over registers must be gone before the compiler places arrays, or it keeps those in memory.
#define V2F_UNROLL _Pragma("GCC unroll 8")

// C[R, 64] = A[R, K] B[K / 2, 64, 2]
template <int R>
V2F_BF16 void product(const uint16_t* a, int64_t stride, const uint16_t* b, int64_t K, float* c) {
  __m512 sum[R][4];
  V2F_UNROLL for (int r = 0; r < R; ++r) V2F_UNROLL for (int q = 0; q < 4; ++q) sum[r][q] = _mm512_setzero_ps();
  for (int64_t k = 0; k < K; k += 2) {
    __m512bh wide[4];
    V2F_UNROLL for (int q = 0; q < 4; ++q) wide[q] = (__m512bh)_mm512_loadu_si512(b + k * kWide + q * 32);
    V2F_UNROLL for (int r = 0; r < R; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + r * stride + k, 4);
      const __m512bh two = (__m512bh)_mm512_set1_epi32(pair);
      V2F_UNROLL for (int q = 0; q < 4; ++q) sum[r][q] = _mm512_dpbf16_ps(sum[r][q], two, wide[q]);
    }
  }
  V2F_UNROLL for (int r = 0; r < R; ++r) V2F_UNROLL for (int q = 0; q < 4; ++q)
      _mm512_storeu_ps(c + r * kWide + q * 16, sum[r][q]);
}

V2F_BF16 void products(const uint16_t* a, int64_t rows, const uint16_t* b, int64_t K, float* c) {
  for (; rows >= kRows; rows -= kRows, a += kRows * K, c += kRows * kWide) product<kRows>(a, K, b, K, c);
  switch (rows) {
    case 5: return product<5>(a, K, b, K, c);
    case 4: return product<4>(a, K, b, K, c);
    case 3: return product<3>(a, K, b, K, c);
    case 2: return product<2>(a, K, b, K, c);
    case 1: return product<1>(a, K, b, K, c);
  }
}

// F(2x2, 3x3): sixteen products make the 2x2 pixels that nine taps each would make of a 4x4 window.
struct Direct {
  static constexpr int kProducts = 16, kStep = 2, kWindow = 4, kUp = 1;

  // B^T d of four values
  V2F_BF16_INLINE static void along(const __m512 d[4], __m512 out[4]) {
    out[0] = _mm512_sub_ps(d[0], d[2]);
    out[1] = _mm512_add_ps(d[1], d[2]);
    out[2] = _mm512_sub_ps(d[2], d[1]);
    out[3] = _mm512_sub_ps(d[1], d[3]);
  }

  V2F_BF16_INLINE static void transform(const uint16_t* z, int64_t row, int64_t C, uint16_t* v, int64_t plane) {
    __m512 half[2][4][4];  // [even and odd channels][row][column]
    for (int j = 0; j < 4; ++j) {
      __m512 d[2][4], out[2][4];
      for (int i = 0; i < 4; ++i) widen_32(z + i * row + j * C, &d[0][i], &d[1][i]);
      for (int h = 0; h < 2; ++h) {
        along(d[h], out[h]);
        for (int i = 0; i < 4; ++i) half[h][i][j] = out[h][i];
      }
    }
    for (int i = 0; i < 4; ++i) {
      __m512 low[4], high[4];
      along(half[0][i], low);
      along(half[1][i], high);
      for (int j = 0; j < 4; ++j) narrow(v + (i * 4 + j) * plane, low[j], high[j]);
    }
  }

  V2F_BF16_INLINE static void pixels(const float* m, int64_t plane, __m512 out[2][2]) {
    __m512 s[2][4];
    for (int j = 0; j < 4; ++j) {
      const __m512 m0 = _mm512_loadu_ps(m + j * plane), m1 = _mm512_loadu_ps(m + (4 + j) * plane);
      const __m512 m2 = _mm512_loadu_ps(m + (8 + j) * plane), m3 = _mm512_loadu_ps(m + (12 + j) * plane);
      s[0][j] = _mm512_add_ps(_mm512_add_ps(m0, m1), m2);
      s[1][j] = _mm512_sub_ps(_mm512_sub_ps(m1, m2), m3);
    }
    for (int i = 0; i < 2; ++i) {
      out[i][0] = _mm512_add_ps(_mm512_add_ps(s[i][0], s[i][1]), s[i][2]);
      out[i][1] = _mm512_sub_ps(_mm512_sub_ps(s[i][1], s[i][2]), s[i][3]);
    }
  }
};

// Upsampling: nine products make the 2x2 pixels of a source pixel: of it, of the steps to its four neighbours along
// an axis, and of the four steps of these steps.
struct Upsampled {
  static constexpr int kProducts = 9, kStep = 1, kWindow = 3, kUp = 2;

  // (x, step from before, step to behind) of three values
  V2F_BF16_INLINE static void along(const __m512 d[3], __m512 out[3]) {
    out[0] = d[1];
    out[1] = _mm512_sub_ps(d[0], d[1]);
    out[2] = _mm512_sub_ps(d[2], d[1]);
  }

  V2F_BF16_INLINE static void transform(const uint16_t* z, int64_t row, int64_t C, uint16_t* v, int64_t plane) {
    __m512 half[2][3][3];
    for (int j = 0; j < 3; ++j) {
      __m512 d[2][3], out[2][3];
      for (int i = 0; i < 3; ++i) widen_32(z + i * row + j * C, &d[0][i], &d[1][i]);
      for (int h = 0; h < 2; ++h) {
        along(d[h], out[h]);
        for (int i = 0; i < 3; ++i) half[h][i][j] = out[h][i];
      }
    }
    for (int i = 0; i < 3; ++i) {
      __m512 low[3], high[3];
      along(half[0][i], low);
      along(half[1][i], high);
      for (int j = 0; j < 3; ++j) narrow(v + (i * 3 + j) * plane, low[j], high[j]);
    }
  }

  V2F_BF16_INLINE static void pixels(const float* m, int64_t plane, __m512 out[2][2]) {
    __m512 s[2][3];
    for (int j = 0; j < 3; ++j) {
      const __m512 here = _mm512_loadu_ps(m + j * plane);
      for (int p = 0; p < 2; ++p) s[p][j] = _mm512_add_ps(here, _mm512_loadu_ps(m + (3 * (p + 1) + j) * plane));
    }
    for (int p = 0; p < 2; ++p)
      for (int q = 0; q < 2; ++q) out[p][q] = _mm512_add_ps(s[p][0], s[p][1 + q]);
  }
};

// Scratch of a thread, kept between calls.
class Scratch {
 public:
  template <class T>
  T* at_least(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    if (bytes > bytes_) {
      bytes_ = 0;
      held_.reset(std::aligned_alloc(64, bytes));
      if (!held_) throw std::bad_alloc();
      bytes_ = bytes;
    }
    return static_cast<T*>(held_.get());
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> held_;
  size_t bytes_ = 0;
};

// factor[C] and shift[C] of an image's norm. Sums: fp32 over 64 pixels, then fp64.
V2F_BF16 void factor_and_shift(const Convolution& g, int64_t image, float* factor, float* shift) {
  const int64_t pixels = g.H * g.W, size = g.C / g.norm.groups;
  const uint16_t* x = g.x + image * pixels * g.C;
  std::vector<double> sums(g.norm.statistics ? 0 : 2 * g.C);
  for (int64_t first = 0; first < pixels && !g.norm.statistics; first += 64)
    for (int64_t c = 0; c < g.C; c += 32) {
      __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, square[2] = {sum[0], sum[0]};
      for (int64_t p = first; p < std::min(first + 64, pixels); ++p)
        for (int h = 0; h < 2; ++h) {
          const __m512 value = widen(x + p * g.C + c + 16 * h);
          sum[h] = _mm512_add_ps(sum[h], value);
          square[h] = _mm512_fmadd_ps(value, value, square[h]);
        }
      alignas(64) float s[32], q[32];
      for (int h = 0; h < 2; ++h) _mm512_store_ps(s + 16 * h, sum[h]), _mm512_store_ps(q + 16 * h, square[h]);
      for (int i = 0; i < 32; ++i) sums[c + i] += s[i], sums[g.C + c + i] += q[i];
    }
  for (int64_t group = 0; group < g.norm.groups; ++group) {
    double mean = 0, variance = 0;
    if (g.norm.statistics) {
      mean = g.norm.statistics[(image * g.norm.groups + group) * 2];
      variance = g.norm.statistics[(image * g.norm.groups + group) * 2 + 1];
    } else {
      for (int64_t c = group * size; c < (group + 1) * size; ++c) mean += sums[c], variance += sums[g.C + c];
      mean /= static_cast<double>(size * pixels);
      variance = variance / static_cast<double>(size * pixels) - mean * mean;
      if (variance < 0) variance = 0;  // a NaN stays one
    }
    const double scale = 1 / std::sqrt(variance + static_cast<double>(g.norm.eps));
    for (int64_t c = group * size; c < (group + 1) * size; ++c) {
      factor[c] = static_cast<float>(scale * g.norm.weight[c]);
      shift[c] = static_cast<float>(g.norm.bias[c] - mean * scale * g.norm.weight[c]);
    }
  }
}

// The image within zeros, [rows, columns, C]: one before it, and behind it what the last window reads.
V2F_BF16 void pad(const Convolution& g, int64_t image, uint16_t* z, int64_t rows, int64_t columns, float* terms) {
  float *factor = terms, *shift = terms + g.C;
  if (g.norm.weight) factor_and_shift(g, image, factor, shift);
  const int64_t wide = columns * g.C;
  std::memset(z, 0, wide * 2);
  for (int64_t i = 0; i < g.H; ++i) {
    const uint16_t* from = g.x + (image * g.H + i) * g.W * g.C;
    uint16_t* to = z + (i + 1) * wide;
    std::memset(to, 0, g.C * 2);
    to += g.C;
    if (!g.norm.weight) {
      std::memcpy(to, from, g.W * g.C * 2);
    } else {
      for (int64_t j = 0; j < g.W; ++j)
        for (int64_t c = 0; c < g.C; c += 32) {
          __m512 half[2];
          for (int h = 0; h < 2; ++h)
            half[h] = silu(_mm512_fmadd_ps(widen(from + j * g.C + c + 16 * h), _mm512_loadu_ps(factor + c + 16 * h),
                                           _mm512_loadu_ps(shift + c + 16 * h)));
          narrow(to + j * g.C + c, half[0], half[1]);
        }
    }
    std::memset(to + g.W * g.C, 0, (columns - 1 - g.W) * g.C * 2);
  }
  std::memset(z + (g.H + 1) * wide, 0, (rows - 1 - g.H) * wide * 2);
}

// A few images, of which each is computed as if it were alone.
template <class Form>
V2F_BF16 void images(const Convolution& g, int64_t first, int64_t count) {
  static thread_local Scratch padded, transformed, summed, normed;
  constexpr int N = Form::kProducts;
  const int64_t down = (g.H + Form::kStep - 1) / Form::kStep, across = (g.W + Form::kStep - 1) / Form::kStep;
  const int64_t rows = (down - 1) * Form::kStep + Form::kWindow, columns = (across - 1) * Form::kStep + Form::kWindow;
  const int64_t image = down * across, tiles = count * image, height = g.H * Form::kUp, width = g.W * Form::kUp;
  uint16_t* z = padded.at_least<uint16_t>(count * rows * columns * g.C);
  uint16_t* v = transformed.at_least<uint16_t>(N * kTiles * g.C);
  float* m = summed.at_least<float>(N * kTiles * kWide);
  float* terms = normed.at_least<float>(2 * g.C);
  for (int64_t n = 0; n < count; ++n) pad(g, first + n, z + n * rows * columns * g.C, rows, columns, terms);
  struct Place {
    int64_t image, i, j;
  } place[kTiles];
  for (int64_t block = 0; block < tiles; block += kTiles) {
    const int64_t here = std::min(kTiles, tiles - block);
    for (int64_t t = 0; t < here; ++t) {
      const int64_t n = (block + t) / image, rest = (block + t) % image;
      place[t] = {n, rest / across * Form::kStep, rest % across * Form::kStep};
      const uint16_t* corner = z + ((n * rows + place[t].i) * columns + place[t].j) * g.C;
      for (int64_t c = 0; c < g.C; c += 32)
        Form::transform(corner + c, columns * g.C, g.C, v + t * g.C + c, kTiles * g.C);
    }
    for (int64_t o = 0; o < g.O; o += kWide) {
      for (int n = 0; n < N; ++n)
        products(v + n * kTiles * g.C, here, g.weights + (o / kWide * N + n) * g.C * kWide, g.C,
                 m + n * kTiles * kWide);
      for (int64_t t = 0; t < here; ++t) {
        const int64_t top = place[t].i * Form::kUp, left = place[t].j * Form::kUp;
        const int64_t at = (((first + place[t].image) * height + top) * width + left) * g.O + o;
        for (int64_t c = 0; c < kWide; c += 32) {
          __m512 out[2][2][2];
          for (int h = 0; h < 2; ++h) Form::pixels(m + t * kWide + c + 16 * h, kTiles * kWide, out[h]);
          for (int64_t p = 0; p < std::min<int64_t>(2, height - top); ++p)
            for (int64_t q = 0; q < std::min<int64_t>(2, width - left); ++q) {
              const int64_t to = at + (p * width + q) * g.O + c;
              __m512 low = out[0][p][q], high = out[1][p][q];
              if (g.bias) {
                low = _mm512_add_ps(low, _mm512_loadu_ps(g.bias + o + c));
                high = _mm512_add_ps(high, _mm512_loadu_ps(g.bias + o + c + 16));
              }
              if (g.residual) {
                low = _mm512_add_ps(low, widen(g.residual + to));
                high = _mm512_add_ps(high, widen(g.residual + to + 16));
              }
              narrow(g.y + to, low, high);
            }
        }
      }
    }
  }
}

template <class Form>
void all(const Convolution& g, int threads) {
  if (const std::string why = winograd_refusal(); !why.empty()) throw std::runtime_error(why);
  if (g.C % 32 || g.O % kWide) throw std::invalid_argument("C must be a multiple of 32 and O of 64");
  const int64_t tiles = ((g.H + Form::kStep - 1) / Form::kStep) * ((g.W + Form::kStep - 1) / Form::kStep);
  const int64_t some = std::max<int64_t>(1, kTiles / tiles), units = (g.B + some - 1) / some;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t unit = 0; unit < units; ++unit)
    images<Form>(g, unit * some, std::min(some, g.B - unit * some));
}
#endif

}  // namespace

#if V2F_X86
std::string winograd_refusal() {
  for (const bool has : {bool(__builtin_cpu_supports("avx512f")), bool(__builtin_cpu_supports("avx512bw")),
                         bool(__builtin_cpu_supports("avx512vl")), bool(__builtin_cpu_supports("avx512dq")),
                         bool(__builtin_cpu_supports("avx512bf16"))})
    if (!has) return "this processor lacks AVX-512 with bf16 products (avx512_bf16)";
  return "";
}

void winograd_conv3x3(const Convolution& given, int threads) { all<Direct>(given, threads); }
void winograd_upsample_conv3x3(const Convolution& given, int threads) { all<Upsampled>(given, threads); }
#else
std::string winograd_refusal() { return "the extension was compiled for another processor than x86-64"; }
void winograd_conv3x3(const Convolution&, int) { throw std::runtime_error(winograd_refusal()); }
void winograd_upsample_conv3x3(const Convolution&, int) { throw std::runtime_error(winograd_refusal()); }
#endif

}  // namespace v2f
