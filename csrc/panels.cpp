#include "v2f/panels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "v2f/cosine.h"
#include "v2f/dispatch.h"

namespace v2f {
namespace {

struct Quantised {
  double scale, error, norm;
  int32_t sum;
};

// Quantises one row to integers in [-levels, levels], written to q. Any q is right as long as `error` is measured for
// it, so float32 does; what its roundings can hide is added to the error. Per component the residual is wrong by at
// most 2^-24 (2 |scale q| + 3 |x / norm| + |residual|), so the vector of residuals by less than 4e-7 in length, and the
// sum of squares by a relative (dim / 16 + 20) 2^-24.
V2F_CLONES Quantised quantise_row(const float* x, int64_t dim, int levels, double norm, int8_t* q) {
  constexpr int kLanes = 16;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to the nearest integer
  float peaks[kLanes] = {0}, squares[kLanes] = {0};
  int64_t k = 0;
  for (; k + kLanes <= dim; k += kLanes)
    for (int l = 0; l < kLanes; ++l) peaks[l] = std::fabs(x[k + l]) > peaks[l] ? std::fabs(x[k + l]) : peaks[l];
  for (; k < dim; ++k) peaks[0] = std::max(peaks[0], std::fabs(x[k]));
  const float largest = *std::max_element(peaks, peaks + kLanes);
  const float to_integer = static_cast<float>(levels) / largest;
  const float scale = static_cast<float>(static_cast<double>(largest) / (levels * norm));
  const float inverse = static_cast<float>(1.0 / norm);
  int32_t sum = 0;
  const auto one = [&](int64_t i, int l) {
    const float integer = (x[i] * to_integer + kRound) - kRound;
    const float residual = integer * scale - x[i] * inverse;
    squares[l] += residual * residual;
    const int32_t whole = static_cast<int32_t>(integer);
    sum += whole;
    q[i] = static_cast<int8_t>(whole);
  };
  for (k = 0; k + kLanes <= dim; k += kLanes)
    for (int l = 0; l < kLanes; ++l) one(k + l, l);
  for (; k < dim; ++k) one(k, 0);
  double total = 0.0;
  for (float s : squares) total += static_cast<double>(s);
  const double hidden = 1e-5 + 1e-8 * static_cast<double>(dim);
  return {static_cast<double>(scale), std::sqrt(total) * (1.0 + hidden) + 1e-6, norm, sum};
}

}  // namespace

void write_panels(const PanelWriter& out, const float* x, const int64_t* row, int64_t n, int64_t start, int threads) {
  const int64_t dim = out.dim, steps = quads(dim);
  const int64_t first = start / kPanel, last = (start + n + kPanel - 1) / kPanel;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && n > 256)
  for (int64_t p = first; p < last; ++p) {
    std::vector<int8_t> q(static_cast<size_t>(steps * 4), 0);
    uint8_t* panel = out.panels + p * panel_bytes(dim);
    for (int64_t j = std::max(start, p * kPanel); j < std::min(start + n, (p + 1) * kPanel); ++j) {
      const float* source = x + (row ? row[j - start] : j - start) * dim;
      const Quantised v = quantise_row(source, dim, 127, std::sqrt(dot(source, source, dim)), q.data());
      out.scale[j] = v.scale;
      out.error[j] = v.error;
      out.norm[j] = v.norm;
      uint8_t* lane = panel + (j - p * kPanel) * 4;
      for (int64_t k = 0; k < steps; ++k, lane += kPanel * 4) {
        uint32_t four;
        std::memcpy(&four, q.data() + 4 * k, 4);
        four ^= 0x80808080u;  // q + 128 as an unsigned byte
        std::memcpy(lane, &four, 4);
      }
    }
  }
}

void clear_tail(const PanelWriter& out, int64_t count) {
  if (count % kPanel == 0) return;
  uint8_t* panel = out.panels + (count / kPanel) * panel_bytes(out.dim);
  for (int64_t k = 0; k < quads(out.dim); ++k, panel += kPanel * 4)
    std::memset(panel + (count % kPanel) * 4, 128, static_cast<size_t>((kPanel - count % kPanel) * 4));
}

void QueryPack::pack(const float* x, int levels, int threads) {
  const int64_t steps = quads(dim), n = size(), padded = groups() * kGroup;
  bytes.assign(static_cast<size_t>(groups() * steps * kGroup * 4), 0);
  scale.assign(static_cast<size_t>(padded), 1.0);
  error.assign(static_cast<size_t>(padded), 0.0);
  norm.assign(static_cast<size_t>(padded), 1.0);
  offset.assign(static_cast<size_t>(padded), 0);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && n > 256)
  for (int64_t g = 0; g < groups(); ++g) {
    std::vector<int8_t> q(static_cast<size_t>(steps * 4), 0);
    for (int64_t i = g * kGroup; i < std::min(n, (g + 1) * kGroup); ++i) {
      const float* source = x + row[static_cast<size_t>(i)] * dim;
      const Quantised v = quantise_row(source, dim, levels, std::sqrt(dot(source, source, dim)), q.data());
      const size_t s = static_cast<size_t>(i);
      scale[s] = v.scale;
      error[s] = v.error;
      norm[s] = v.norm;
      offset[s] = 128 * v.sum;
      int8_t* lane = bytes.data() + (g * steps * kGroup + i % kGroup) * 4;
      for (int64_t k = 0; k < steps; ++k, lane += kGroup * 4) std::memcpy(lane, q.data() + 4 * k, 4);
    }
  }
}

}  // namespace v2f
