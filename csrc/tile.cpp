#include "v2f/tile.h"

#include <cstring>
#include <stdexcept>

#include "v2f/dispatch.h"
#include "v2f/panels.h"

#if V2F_X86
#include <immintrin.h>
#endif

namespace v2f {
namespace {

inline int32_t load_quad(const int8_t* p) {
  int32_t v;
  std::memcpy(&v, p, 4);
  return v;
}

// Plain C++: the meaning of all the others.
int64_t scan_scalar(const uint8_t* panel, const uint8_t*, const int8_t* queries, int64_t first, int64_t n_groups,
                    int64_t quads, const int32_t* threshold, const uint8_t* skip, int32_t* acc) {
  for (int64_t g = first; g < n_groups; ++g) {
    if (skip[g]) continue;
    std::memset(acc, 0, sizeof(int32_t) * kGroup * kPanel);
    const int8_t* q = queries + g * quads * kGroup * 4;
    for (int64_t k = 0; k < quads; ++k)
      for (int i = 0; i < kGroup; ++i)
        for (int j = 0; j < kPanel; ++j)
          for (int b = 0; b < 4; ++b)
            acc[i * kPanel + j] += static_cast<int32_t>(panel[(k * kPanel + j) * 4 + b]) * q[(k * kGroup + i) * 4 + b];
    for (int i = 0; i < kGroup; ++i)
      for (int j = 0; j < kPanel; ++j)
        if (acc[i * kPanel + j] >= threshold[g * kGroup + i]) return g;
  }
  return n_groups;
}

bool always() { return true; }

#if V2F_X86

// Spreads the prefetch of the next panel over the groups, so that it arrives without a burst.
inline void prefetch_share(const uint8_t* next, int64_t bytes, int64_t g, int64_t n_groups) {
  if (!next) return;
  const int64_t lines = bytes / 64;
  for (int64_t l = g * lines / n_groups; l < (g + 1) * lines / n_groups; ++l)
    __builtin_prefetch(next + l * 64, 0, 2);
}

#define V2F_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

// 16 accumulators of 512 bits, two panel registers, one broadcast: 20 of 32 registers. One step of four dimensions is
// 2 loads + 8 broadcasts for 16 vpdpbusd (1,024 multiply-adds). Zen 4 issues one 512-bit vpdpbusd a cycle.
V2F_VNNI int64_t scan_avx512vnni(const uint8_t* panel, const uint8_t* next_panel, const int8_t* queries, int64_t first,
                                 int64_t n_groups, int64_t quads, const int32_t* threshold, const uint8_t* skip,
                                 int32_t* acc) {
  for (int64_t g = first; g < n_groups; ++g) {
    if (skip[g]) continue;
    prefetch_share(next_panel, quads * kPanel * 4, g, n_groups);
    const uint8_t* p = panel;
    const int8_t* q = queries + g * quads * kGroup * 4;
    __m512i sum[kGroup][2];
#pragma GCC unroll 8
    for (int i = 0; i < kGroup; ++i) sum[i][0] = sum[i][1] = _mm512_setzero_si512();
    for (int64_t k = 0; k < quads; ++k, p += kPanel * 4, q += kGroup * 4) {
      const __m512i left = _mm512_loadu_si512(p), right = _mm512_loadu_si512(p + 64);
#pragma GCC unroll 8
      for (int i = 0; i < kGroup; ++i) {
        const __m512i four = _mm512_set1_epi32(load_quad(q + 4 * i));
        sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], left, four);
        sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], right, four);
      }
    }
    unsigned hit = 0;
#pragma GCC unroll 8
    for (int i = 0; i < kGroup; ++i) {
      const __m512i limit = _mm512_set1_epi32(threshold[g * kGroup + i]);
      hit |= _mm512_cmpge_epi32_mask(sum[i][0], limit) | _mm512_cmpge_epi32_mask(sum[i][1], limit);
    }
    if (__builtin_expect(hit != 0, 0)) {
#pragma GCC unroll 8
      for (int i = 0; i < kGroup; ++i) {
        _mm512_storeu_si512(acc + i * kPanel, sum[i][0]);
        _mm512_storeu_si512(acc + i * kPanel + 16, sum[i][1]);
      }
      return g;
    }
  }
  return n_groups;
}

bool has_avx512vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

// A 256-bit kernel: each quarter of a panel (8 vectors) against 8 queries, 8 accumulators. ACCUMULATE adds the four
// byte products of each 32-bit lane to the accumulator.
#define V2F_SCAN_256(NAME, TARGET, ACCUMULATE)                                                                       \
  __attribute__((target(TARGET))) int64_t NAME(                                                                      \
      const uint8_t* panel, const uint8_t* next_panel, const int8_t* queries, int64_t first, int64_t n_groups,       \
      int64_t quads, const int32_t* threshold, const uint8_t* skip, int32_t* acc) {                                  \
    for (int64_t g = first; g < n_groups; ++g) {                                                                     \
      if (skip[g]) continue;                                                                                         \
      prefetch_share(next_panel, quads* kPanel * 4, g, n_groups);                                                    \
      __m256i reached = _mm256_setzero_si256();                                                                      \
      for (int part = 0; part < kPanel / 8; ++part) {                                                                \
        const uint8_t* p = panel + part * 32;                                                                        \
        const int8_t* q = queries + g * quads * kGroup * 4;                                                          \
        __m256i sum[kGroup];                                                                                         \
        _Pragma("GCC unroll 8") for (int i = 0; i < kGroup; ++i) sum[i] = _mm256_setzero_si256();                    \
        for (int64_t k = 0; k < quads; ++k, p += kPanel * 4, q += kGroup * 4) {                                      \
          const __m256i eight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));                             \
          _Pragma("GCC unroll 8") for (int i = 0; i < kGroup; ++i) {                                                 \
            const __m256i four = _mm256_set1_epi32(load_quad(q + 4 * i));                                            \
            sum[i] = ACCUMULATE(sum[i], eight, four);                                                                \
          }                                                                                                          \
        }                                                                                                            \
        _Pragma("GCC unroll 8") for (int i = 0; i < kGroup; ++i) {                                                   \
          const __m256i below = _mm256_set1_epi32(threshold[g * kGroup + i] - 1);                                    \
          reached = _mm256_or_si256(reached, _mm256_cmpgt_epi32(sum[i], below));                                     \
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc + i * kPanel + part * 8), sum[i]);                      \
        }                                                                                                            \
      }                                                                                                              \
      if (!_mm256_testz_si256(reached, reached)) return g;                                                           \
    }                                                                                                                \
    return n_groups;                                                                                                 \
  }

// vpmaddubsw adds two byte products in saturating 16 bits: 2 * 255 * 64 = 32,640 fits, so queries have 64 levels.
#define V2F_ADD_AVX2(sum, eight, four) \
  _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(eight, four), _mm256_set1_epi16(1)))
V2F_SCAN_256(scan_avx2, "avx2", V2F_ADD_AVX2)

bool has_avx2() { return __builtin_cpu_supports("avx2"); }

#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define V2F_AVX_VNNI 1
// The VEX form of vpdpbusd, for processors with VNNI and without AVX-512.
V2F_SCAN_256(scan_avxvnni, "avx2,avxvnni", _mm256_dpbusd_avx_epi32)
bool has_avxvnni() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avxvnni"); }
#endif

#endif  // V2F_X86

}  // namespace

const std::vector<TileKernel>& tile_kernels() {
  static const std::vector<TileKernel> kernels = {
#if V2F_X86
      {"avx512vnni", 127, scan_avx512vnni, has_avx512vnni},
#ifdef V2F_AVX_VNNI
      {"avxvnni", 127, scan_avxvnni, has_avxvnni},
#endif
      {"avx2", 64, scan_avx2, has_avx2},
#endif
      {"scalar", 127, scan_scalar, always},
  };
  return kernels;
}

const TileKernel& choose_tile_kernel(const std::string& name) {
  std::string known;
  for (const TileKernel& kernel : tile_kernels()) {
    if (name.empty() ? kernel.supported() : name == kernel.name) {
      if (!kernel.supported()) throw std::invalid_argument("this processor has no " + name);
      return kernel;
    }
    known += std::string(known.empty() ? "" : ", ") + kernel.name;
  }
  throw std::invalid_argument("unknown instruction set '" + name + "'; known: " + known);
}

}  // namespace v2f
