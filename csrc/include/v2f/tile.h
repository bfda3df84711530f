// The inner kernel of every screen: 8 queries against a panel of 32 vectors, all dimensions, one threshold a query.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace v2f {

// Scans groups [first, n_groups) of one query sub-block against one panel and stops at the first group in which some
// biased dot product (q_x . (q_y + 128)) reaches the query's threshold. Returns that group, its 8 x 32 biased dot
// products in `acc`, or n_groups. Groups with skip[g] != 0 are passed over. `next_panel` is prefetched.
using ScanPanel = int64_t (*)(const uint8_t* panel, const uint8_t* next_panel, const int8_t* queries, int64_t first,
                              int64_t n_groups, int64_t quads, const int32_t* threshold, const uint8_t* skip,
                              int32_t* acc);

struct TileKernel {
  const char* name;
  int levels;  // largest |q| of a query that the kernel sums without overflow
  ScanPanel scan;
  bool (*supported)();
};

// All kernels, fastest first.
const std::vector<TileKernel>& tile_kernels();

// The kernel called `name`, or the fastest supported one when the name is empty. Throws std::invalid_argument.
const TileKernel& choose_tile_kernel(const std::string& name);

}  // namespace v2f
