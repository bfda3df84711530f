// Walks a sub-block of queries over a range of panels: thresholds for each panel, the tile kernel, a visitor for hits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "v2f/panels.h"
#include "v2f/tile.h"

namespace v2f {

// Covers the rounding of everything computed in double around the screen (a few times 1e-15) and of v2f::cosine.
constexpr double kMargin = 1e-12;

// What a panel's vectors share: bounds of their scales and errors.
struct PanelBounds {
  double inverse_largest_scale, inverse_smallest_scale, one_plus_error;
};
PanelBounds panel_bounds(const PanelSet& set, int64_t panel, double bound_scale);

// Per query the smallest integer dot product (biased) that any vector of the panel needs for a cosine of at least
// floor[i]. Rounded down: a pair below it is proven to lie below the floor.
void panel_thresholds(const double* floor, const double* one_plus_error, const double* inverse_scale,
                      const int32_t* offset, int64_t n, const PanelBounds& bounds, int32_t* threshold);

// Queries [first, first + n) of a pack, with what the scan needs of them.
struct SubBlock {
  int64_t first_group, n_groups, first, n;
  std::vector<double> floor, one_plus_error, inverse_scale;
  std::vector<int32_t> threshold;
  std::vector<uint8_t> done, skip;  // done: per query, no more interest; skip: per group, all its queries are done

  SubBlock(const QueryPack& pack, int64_t first_group, int64_t n_groups, double floor, double bound_scale);
  void refresh(const QueryPack& pack, const PanelBounds& bounds);
};

// Groups of 8 queries that stay in a core's second-level cache (half of 512 KiB and more) while panels stream past.
inline int64_t sub_block_groups(int64_t dim) { return std::max<int64_t>(1, 224 * 1024 / (quads(dim) * kGroup * 4)); }

// visit(query in the sub-block, lane, lower bound, upper bound) -> true when the query needs no more pairs of the tile.
// before(sub-block) runs before each panel and may raise floors or set `done`.
template <class Before, class Visit>
void scan(const QueryPack& pack, SubBlock& block, const PanelSet& set, int64_t first_panel, int64_t last_panel,
          const TileKernel& kernel, double bound_scale, Before before, Visit visit) {
  const int64_t steps = quads(set.dim), bytes = panel_bytes(set.dim);
  alignas(64) int32_t acc[kGroup * kPanel];
  for (int64_t p = first_panel; p < last_panel; ++p) {
    before(block);
    block.refresh(pack, panel_bounds(set, p, bound_scale));
    const uint8_t* panel = set.panels + p * bytes;
    const uint8_t* next = p + 1 < last_panel ? panel + bytes : nullptr;
    const int64_t lanes = std::min<int64_t>(kPanel, set.count - p * kPanel);
    const int8_t* queries = pack.group(block.first_group);
    int64_t g = 0;
    while ((g = kernel.scan(panel, next, queries, g, block.n_groups, steps, block.threshold.data(), block.skip.data(),
                            acc)) < block.n_groups) {
      for (int64_t i = g * kGroup; i < std::min(block.n, (g + 1) * kGroup); ++i) {
        if (block.done[static_cast<size_t>(i)]) continue;
        const int32_t* row = acc + (i % kGroup) * kPanel;
        const int32_t threshold = block.threshold[static_cast<size_t>(i)];
        if (*std::max_element(row, row + lanes) < threshold) continue;
        const size_t q = static_cast<size_t>(block.first + i);
        const double one_plus = block.one_plus_error[static_cast<size_t>(i)];
        for (int64_t l = 0; l < lanes; ++l) {
          if (row[l] < threshold) continue;
          const int64_t j = p * kPanel + l;
          const double estimate = (row[l] - pack.offset[q]) * (pack.scale[q] * set.scale[j]);
          const double bound = one_plus * (1.0 + bound_scale * set.error[j]) - 1.0 + kMargin;
          if (visit(i, j, estimate - bound, estimate + bound)) break;
        }
      }
      ++g;
    }
  }
}

}  // namespace v2f
