#include "v2f/philox.h"

#include <algorithm>
#include <cstring>

#include "v2f/dispatch.h"

namespace v2f {
namespace {

// Counters at a time, and where fewer are left: their words stay in the L1 cache, and loops of a fixed length are what
// the compiler vectorises. One uniform for each of 256 rows: 59 us with 64 counters a row, 31 with 16.
constexpr int kCounters = 64;
constexpr int kFew = 16;

// The fits of v2f_kernels/philox/reference.py, lowest power first; a test compares all bits.
constexpr float kLog2[] = {1.4426950216293335f,  -0.7213465571403503f, 0.4808959662914276f,
                           -0.36078956723213196f, 0.2887113392353058f, -0.23678652942180634f,
                           0.2017991840839386f,  -0.22222118079662323f, 0.2027866393327713f};
constexpr float kCentral[] = {2.09747576713562f,       0.2423565536737442f,     -0.002644559368491173f,
                              -0.0006205366225913167f, 7.17783477739431e-05f,   -7.671844741707901e-07f,
                              -5.796954383185948e-07f, 4.946782539150263e-08f,  2.1623167700822839e-09f,
                              -4.777172546432951e-10f};
constexpr float kTail[] = {4.900968551635742f,      0.13615486025810242f,    -0.0017582544824108481f,
                           4.430342232808471e-05f,  -1.360935129923746e-06f, 4.382357943200077e-08f,
                           -1.1499050600605187e-09f, 2.029760214072862e-11f, -1.0455260789077325e-12f,
                           -1.0484735096186887e-13f, 2.3893578020533872e-14f, -9.475777697966355e-16f};

template <size_t N>
V2F_INLINE float horner(const float (&coefficients)[N], float x) {
  float total = coefficients[N - 1];
  for (size_t k = N - 1; k-- > 0;) total = total * x + coefficients[k];
  return total;
}

V2F_INLINE float as_float(uint32_t word) {
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}

V2F_INLINE uint32_t as_word(float value) {
  uint32_t word;
  std::memcpy(&word, &value, 4);
  return word;
}

// words[4 i + w]: word w of counter block first + i, i < N.
template <int N>
V2F_INLINE void words_of(const Stream& s, uint32_t first, uint32_t* words) {
  uint32_t c0[N], c1[N], c2[N], c3[N];
  for (int i = 0; i < N; ++i) {
    c0[i] = s.purpose;
    c1[i] = s.identity;
    c2[i] = s.image;
    c3[i] = first + static_cast<uint32_t>(i);
  }
  uint32_t k0 = s.k0, k1 = s.k1;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < N; ++i) {
      const uint64_t p0 = static_cast<uint64_t>(c0[i]) * 0xD2511F53u;
      const uint64_t p1 = static_cast<uint64_t>(c2[i]) * 0xCD9E8D57u;
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = static_cast<uint32_t>(p1);
      c3[i] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < N; ++i) {
    words[4 * i] = c0[i];
    words[4 * i + 1] = c1[i];
    words[4 * i + 2] = c2[i];
    words[4 * i + 3] = c3[i];
  }
}

// (x, w) of the contract in v2f_kernels/philox/__init__.py.
V2F_INLINE void parts_of(uint32_t bits, float& x, float& w) {
  const uint32_t t = (bits << 1) | 1u;
  constexpr float scale = 1.0f / 4294967296.0f;
  x = static_cast<float>(0u - t) * scale;
  const float a = static_cast<float>(t) * scale * (x + 1.0f);
  const int32_t i = static_cast<int32_t>(as_word(a) - 0x3F2AAAABu);
  const float d = as_float(static_cast<uint32_t>((i & 0x7FFFFF) + 0x3F2AAAAB)) - 1.0f;
  w = -(static_cast<float>(i >> 23) + d * horner(kLog2, d));
}

template <int N>
V2F_INLINE void normals_of(uint32_t* words) {
  float w_all[N];
  uint32_t out[N];
  int tails = 0;  // an integer sum vectorises where a float maximum does not
  for (int k = 0; k < N; ++k) {
    float x, w;
    parts_of(words[k], x, w);
    w_all[k] = w;
    out[k] = as_word(x * horner(kCentral, w - 3.5f)) | (words[k] & 0x80000000u);
    tails += w >= 7.0f;
  }
  for (int k = 0; tails > 0; ++k)  // one word in 256 is in the tail
    if (w_all[k] >= 7.0f) {
      --tails;
      float x, w;
      parts_of(words[k], x, w);
      out[k] = as_word(x * horner(kTail, w - 19.0f)) | (words[k] & 0x80000000u);
    }
  std::memcpy(words, out, sizeof out);
}

template <int N>
V2F_INLINE void uniforms_of(uint32_t* words) {
  for (int k = 0; k < N; ++k) words[k] = as_word(static_cast<float>(words[k] >> 8) * (1.0f / 16777216.0f));
}

// The first `count` of the numbers of N counters.
template <int N>
V2F_INLINE void numbers_of(Form form, const Stream& stream, uint32_t first, int64_t count, uint32_t* out) {
  alignas(64) uint32_t words[4 * N];
  words_of<N>(stream, first, words);
  if (form == Form::kNormal) normals_of<4 * N>(words);
  if (form == Form::kUniform) uniforms_of<4 * N>(words);
  std::memcpy(out, words, 4 * static_cast<size_t>(count));
}

V2F_CLONES void many(Form form, const Stream& stream, uint32_t first, int64_t count, uint32_t* out) {
  numbers_of<kCounters>(form, stream, first, count, out);
}

V2F_CLONES void few(Form form, const Stream& stream, uint32_t first, int64_t count, uint32_t* out) {
  numbers_of<kFew>(form, stream, first, count, out);
}

}  // namespace

void draw(Form form, const Stream& stream, int64_t n, uint32_t* out) {
  for (int64_t start = 0; start < n;) {
    const int64_t left = n - start, count = std::min<int64_t>(left, 4 * (left <= 4 * kFew ? kFew : kCounters));
    (left <= 4 * kFew ? few : many)(form, stream, static_cast<uint32_t>(start / 4), count, out + start);
    start += count;
  }
}

}  // namespace v2f
