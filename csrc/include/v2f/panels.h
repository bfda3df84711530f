// Vectors as int8 with a proof: x / |x| is stored as scale * q with q in [-127, 127], and `error` is an upper bound
// of | scale * q - x / |x| |. Then for two stored vectors, with I = q_x . q_y (exact in int32),
//
//     | scale_x scale_y I - cosine(x, y) |  <=  error_x + error_y + error_x error_y .
//
// Layout ("panels"): 32 vectors side by side, four consecutive dimensions together, as the byte dot-product
// instructions want them: byte[panel][dim / 4][32 vectors][4 dims], each byte q + 128 in [1, 255]. Unused lanes and
// the dimensions past the end hold 128, which is zero.
#pragma once
#include <cstdint>
#include <vector>

namespace v2f {

constexpr int kPanel = 32;  // vectors per panel: two 512-bit registers of 16 x 4 bytes
constexpr int kGroup = 8;   // queries per group: 8 x 2 accumulators of 512 bits

inline int64_t quads(int64_t dim) { return (dim + 3) / 4; }
inline int64_t panel_bytes(int64_t dim) { return quads(dim) * kPanel * 4; }

// A set of vectors that queries are screened against. Lane j's float32 original is row rows[j] of `master` (rows ==
// nullptr: row j).
struct PanelSet {
  const uint8_t* panels;
  const double* scale;
  const double* error;
  const double* norm;
  const float* master;
  const int64_t* rows;
  int64_t count;
  int64_t dim;

  const float* original(int64_t lane) const { return master + (rows ? rows[lane] : lane) * dim; }
};

struct PanelWriter {
  uint8_t* panels;
  double* scale;
  double* error;
  double* norm;
  int64_t dim;
};

// Quantises vectors x + row[i] * dim (row == nullptr: i itself), i in [0, n), into lanes start .. start + n - 1.
void write_panels(const PanelWriter& out, const float* x, const int64_t* row, int64_t n, int64_t start, int threads);

// Zeroes the lanes of the last panel from `count` on.
void clear_tail(const PanelWriter& out, int64_t count);

// The side that is broadcast: groups of 8 vectors, byte[group][dim / 4][8][4], signed, |q| <= levels.
struct QueryPack {
  std::vector<int8_t> bytes;
  std::vector<double> scale, error, norm;
  std::vector<int32_t> offset;  // 128 * sum(q): what the panels' bias adds to every integer dot product
  std::vector<int64_t> row;     // the caller's row number
  int64_t dim = 0;

  int64_t size() const { return static_cast<int64_t>(row.size()); }
  int64_t groups() const { return (size() + kGroup - 1) / kGroup; }
  const int8_t* group(int64_t g) const { return bytes.data() + g * quads(dim) * kGroup * 4; }

  // Packs the rows listed in `row` (already set) of x. `levels` is 127, or 64 for kernels with 16-bit sums.
  void pack(const float* x, int levels, int threads);
};

}  // namespace v2f
