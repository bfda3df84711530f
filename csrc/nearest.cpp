#include <algorithm>
#include <mutex>
#include <vector>

#include "v2f/cosine.h"
#include "v2f/reject.h"
#include "v2f/scan.h"

namespace v2f {
namespace {

struct Candidate {
  double upper;
  int64_t lane;
};

// The best pair of one query so far, and the lanes that may still beat or tie it.
struct Search {
  static constexpr size_t kMost = 512;
  double best = -2.0;
  int64_t lane = -1;  // -1: `best` was found elsewhere, or not at all
  std::vector<Candidate> open;
};

}  // namespace

void nearest(const float* x, int64_t n, const PanelSet& gallery, int64_t base, double* best_cosine,
             int64_t* best_index, const Options& options) {
  const TileKernel& kernel = choose_tile_kernel(options.isa);
  const int64_t dim = gallery.dim, panels = (gallery.count + kPanel - 1) / kPanel;
  QueryPack pack;
  pack.dim = dim;
  for (int64_t i = 0; i < n; ++i) pack.row.push_back(i);
  pack.pack(x, kernel.levels, options.threads);

  const int64_t parts = (pack.groups() + sub_block_groups(dim) - 1) / sub_block_groups(dim);
  const int64_t size = parts ? (pack.groups() + parts - 1) / parts : 0;
  // Few queries and many threads: the gallery is cut as well.
  const int64_t cuts = std::max<int64_t>(1, std::min(panels / 64, parts ? 2 * options.threads / parts : 1));
  const int64_t span = (panels + cuts - 1) / cuts;
  std::mutex merging;
#pragma omp parallel for schedule(dynamic, 1) num_threads(options.threads) if (options.threads > 1)
  for (int64_t task = 0; task < parts * cuts; ++task) {
    const int64_t group = task % parts * size, panel = task / parts * span;
    const int64_t groups = std::min(size, pack.groups() - group);
    if (groups <= 0 || panel >= panels) continue;
    SubBlock block(pack, group, groups, -2.0, options.bound_scale);
    std::vector<Search> searches(static_cast<size_t>(block.n));
    {
      const std::lock_guard<std::mutex> lock(merging);
      for (int64_t i = 0; i < block.n; ++i) {
        const int64_t q = block.first + i;
        if (best_index[q] >= 0) searches[static_cast<size_t>(i)].best = best_cosine[q];
      }
    }
    for (int64_t i = 0; i < block.n; ++i) block.floor[static_cast<size_t>(i)] = searches[static_cast<size_t>(i)].best;

    // Exact cosines, most promising first, until no bound reaches the best any more.
    const auto settle = [&](int64_t i) {
      Search& s = searches[static_cast<size_t>(i)];
      const int64_t q = block.first + i;
      std::sort(s.open.begin(), s.open.end(), [](const Candidate& a, const Candidate& b) {
        return a.upper != b.upper ? a.upper > b.upper : a.lane < b.lane;
      });
      for (const Candidate& c : s.open) {
        if (c.upper < s.best) break;
        const double value = cosine(x + q * dim, gallery.original(c.lane),
                                    pack.norm[static_cast<size_t>(q)], gallery.norm[c.lane], dim);
        if (value > s.best || (value == s.best && (s.lane < 0 || c.lane < s.lane))) {
          s.best = value;
          s.lane = c.lane;
        }
      }
      s.open.clear();
      block.floor[static_cast<size_t>(i)] = std::max(block.floor[static_cast<size_t>(i)], s.best);
    };
    const auto visit = [&](int64_t i, int64_t lane, double lower, double upper) {
      double& floor = block.floor[static_cast<size_t>(i)];
      if (upper < floor) return false;
      Search& s = searches[static_cast<size_t>(i)];
      s.open.push_back({upper, lane});
      floor = std::max(floor, lower);
      if (s.open.size() >= Search::kMost) {
        s.open.erase(std::remove_if(s.open.begin(), s.open.end(),
                                    [floor](const Candidate& c) { return c.upper < floor; }),
                     s.open.end());
        if (s.open.size() >= Search::kMost / 2) settle(i);
      }
      return false;
    };
    scan(pack, block, gallery, panel, std::min(panels, panel + span), kernel, options.bound_scale, [](SubBlock&) {},
         visit);
    for (int64_t i = 0; i < block.n; ++i) settle(i);

    const std::lock_guard<std::mutex> lock(merging);
    for (int64_t i = 0; i < block.n; ++i) {
      const Search& s = searches[static_cast<size_t>(i)];
      const int64_t q = block.first + i;
      if (s.lane < 0) continue;
      const int64_t index = base + s.lane;
      if (best_index[q] < 0 || s.best > best_cosine[q] || (s.best == best_cosine[q] && index < best_index[q])) {
        best_cosine[q] = s.best;
        best_index[q] = index;
      }
    }
  }
}

}  // namespace v2f
