#include "v2f/scan.h"

#include <limits>

#include "v2f/dispatch.h"

namespace v2f {

PanelBounds panel_bounds(const PanelSet& set, int64_t panel, double bound_scale) {
  const int64_t first = panel * kPanel, last = std::min(set.count, first + kPanel);
  double smallest = set.scale[first], largest = set.scale[first], error = set.error[first];
  for (int64_t j = first + 1; j < last; ++j) {
    smallest = std::min(smallest, set.scale[j]);
    largest = std::max(largest, set.scale[j]);
    error = std::max(error, set.error[j]);
  }
  return {1.0 / largest, 1.0 / smallest, 1.0 + bound_scale * error};
}

// |I| <= 32768 * 127 * 127 < 5.3e8, so clamping at 1.2e9 changes no comparison and keeps the sums inside int32.
V2F_CLONES void panel_thresholds(const double* floor, const double* one_plus_error, const double* inverse_scale,
                                 const int32_t* offset, int64_t n, const PanelBounds& bounds, int32_t* threshold) {
  for (int64_t i = 0; i < n; ++i) {
    const double needed = floor[i] - kMargin + 1.0 - one_plus_error[i] * bounds.one_plus_error;
    const double inverse = needed > 0.0 ? bounds.inverse_largest_scale : bounds.inverse_smallest_scale;
    const double integer = std::min(std::max(needed * inverse_scale[i] * inverse, -1.2e9), 1.2e9);
    threshold[i] = static_cast<int32_t>(integer) - 2 + offset[i];
  }
}

SubBlock::SubBlock(const QueryPack& pack, int64_t first_group_, int64_t n_groups_, double floor_, double bound_scale)
    : first_group(first_group_), n_groups(n_groups_), first(first_group_ * kGroup) {
  n = std::min(pack.size() - first, n_groups * kGroup);
  const size_t padded = static_cast<size_t>(n_groups * kGroup);
  floor.assign(padded, floor_);
  one_plus_error.resize(padded);
  inverse_scale.resize(padded);
  threshold.resize(padded);
  done.assign(padded, 0);
  skip.assign(static_cast<size_t>(n_groups), 0);
  for (size_t i = 0; i < padded; ++i) {
    const size_t q = static_cast<size_t>(first) + i;
    one_plus_error[i] = 1.0 + bound_scale * pack.error[q];
    inverse_scale[i] = 1.0 / pack.scale[q];
    done[i] = static_cast<int64_t>(i) >= n;
  }
}

void SubBlock::refresh(const QueryPack& pack, const PanelBounds& bounds) {
  panel_thresholds(floor.data(), one_plus_error.data(), inverse_scale.data(), pack.offset.data() + first,
                   n_groups * kGroup, bounds, threshold.data());
  for (int64_t g = 0; g < n_groups; ++g) {
    bool all = true;
    for (int64_t i = g * kGroup; i < (g + 1) * kGroup; ++i) {
      if (done[static_cast<size_t>(i)]) threshold[static_cast<size_t>(i)] = std::numeric_limits<int32_t>::max();
      all = all && done[static_cast<size_t>(i)];
    }
    skip[static_cast<size_t>(g)] = all;
  }
}

}  // namespace v2f
