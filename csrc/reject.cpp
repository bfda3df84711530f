#include "v2f/reject.h"

#include <algorithm>
#include <vector>

#include "v2f/cosine.h"
#include "v2f/scan.h"

namespace v2f {
namespace {

constexpr int64_t kChunk = 128;       // panels per task: 4,096 kept vectors, about 4 ms with 448 queries
constexpr int64_t kFirstRound = 256;  // panels before the first look at how many queries are left
constexpr int64_t kStripGroups = 16;  // groups per task inside a strip: the triangle is cut finely

struct Cut {
  int64_t parts, size;
};

// `total` items in parts of nearly equal size, none above `most`.
Cut cut(int64_t total, int64_t most) {
  const int64_t parts = (total + most - 1) / most;
  return {parts, parts ? (total + parts - 1) / parts : 0};
}

class Bits {
 public:
  explicit Bits(int64_t n) : words_((n + 63) / 64), data_(static_cast<size_t>(words_ * n), 0) {}
  void set(int64_t i, int64_t j) { row(i)[j / 64] |= uint64_t{1} << (j % 64); }
  uint64_t* row(int64_t i) { return data_.data() + i * words_; }
  int64_t words() const { return words_; }

 private:
  int64_t words_;
  std::vector<uint64_t> data_;
};

// Calls visit(me, lane, lower, upper) for the pairs of each vector of the pack, number `me`, with the lanes before its
// own (start + me), from the panel of `start` on. A visit that returns true ends the search of `me`.
template <class Visit>
void triangle(const QueryPack& pack, const PanelSet& all, int64_t start, double max_cosine, const TileKernel& kernel,
              const Options& options, Visit visit) {
  const Cut blocks = cut(pack.groups(), std::min(kStripGroups, sub_block_groups(all.dim)));
#pragma omp parallel for schedule(dynamic, 1) num_threads(options.threads) if (options.threads > 1)
  for (int64_t task = 0; task < blocks.parts; ++task) {
    const int64_t group = (blocks.parts - 1 - task) * blocks.size;  // the long ones first
    const int64_t groups = std::min(blocks.size, pack.groups() - group);
    if (groups <= 0) continue;
    SubBlock block(pack, group, groups, max_cosine, options.bound_scale);
    const int64_t last_lane = start + block.first + block.n;
    scan(
        pack, block, all, start / kPanel, (last_lane + kPanel - 1) / kPanel, kernel, options.bound_scale,
        [](SubBlock&) {},
        [&](int64_t i, int64_t lane, double lower, double upper) {
          const int64_t me = block.first + i;
          if (lane >= start + me) return true;  // lanes ascend: the rest of the panel is later still
          const bool end = visit(me, lane, lower, upper);
          if (end) block.done[static_cast<size_t>(i)] = 1;
          return end;
        });
  }
}

}  // namespace

void screen(const float* x, int64_t n, uint8_t* rejected, double max_cosine, const PanelSet& kept, int64_t first,
            const Options& options) {
  const TileKernel& kernel = choose_tile_kernel(options.isa);
  const int64_t last_panel = (kept.count + kPanel - 1) / kPanel;
  QueryPack pack;
  pack.dim = kept.dim;
  int64_t packed = 0, before = 0;
  // The first round is short. Where it rejects many, rounds double, and between them the queries that are left move
  // together; where it rejects few, the second takes everything: each round ends with threads waiting for the last.
  for (int64_t begin = first / kPanel, length = kFirstRound; begin < last_panel;) {
    const int64_t left = n - std::count_if(rejected, rejected + n, [](uint8_t r) { return r != 0; });
    if (left == 0) return;
    if (before && left > before - before / 8) length = last_panel - begin;
    if (packed == 0 || left < packed - packed / 8) {
      pack.row.clear();
      for (int64_t i = 0; i < n; ++i)
        if (!rejected[i]) pack.row.push_back(i);
      pack.pack(x, kernel.levels, options.threads);
      packed = left;
    }
    before = left;
    const int64_t end = std::min(last_panel, begin + length);
    const Cut blocks = cut(pack.groups(), sub_block_groups(kept.dim)), chunks = cut(end - begin, kChunk);
#pragma omp parallel for schedule(dynamic, 1) num_threads(options.threads) if (options.threads > 1)
    for (int64_t task = 0; task < blocks.parts * chunks.parts; ++task) {
      const int64_t group = task % blocks.parts * blocks.size, panel = begin + task / blocks.parts * chunks.size;
      const int64_t groups = std::min(blocks.size, pack.groups() - group);
      if (groups <= 0 || panel >= end) continue;
      SubBlock block(pack, group, groups, max_cosine, options.bound_scale);
      const int64_t* row = pack.row.data() + block.first;
      const auto skip_known = [&](SubBlock& b) {  // what other threads have found
        for (int64_t i = 0; i < b.n; ++i)
          b.done[static_cast<size_t>(i)] |= __atomic_load_n(rejected + row[i], __ATOMIC_RELAXED);
      };
      const auto visit = [&](int64_t i, int64_t j, double lower, double upper) {
        if (upper < max_cosine) return false;
        if (lower < max_cosine) {
          const double norm = pack.norm[static_cast<size_t>(block.first + i)];
          const float* mine = x + row[i] * kept.dim;
          if (!(cosine(mine, kept.original(j), norm, kept.norm[j], kept.dim) >= max_cosine)) return false;
        }
        block.done[static_cast<size_t>(i)] = 1;
        __atomic_store_n(rejected + row[i], uint8_t{1}, __ATOMIC_RELAXED);
        return true;
      };
      scan(pack, block, kept, panel, std::min(end, panel + chunks.size), kernel, options.bound_scale, skip_known, visit);
    }
    begin = end;
    length *= 2;
  }
}

int64_t resolve(const float* x, int64_t n, uint8_t* rejected, double max_cosine, const PanelWriter& out, int64_t start,
                const Options& options) {
  const TileKernel& kernel = choose_tile_kernel(options.isa);
  const int64_t dim = out.dim;
  QueryPack pack;
  pack.dim = dim;
  for (int64_t i = 0; i < n; ++i)
    if (!rejected[i]) pack.row.push_back(i);
  const int64_t m = pack.size();
  if (m == 0) return 0;
  pack.pack(x, kernel.levels, options.threads);

  // All of them join the panels on trial; lane start + i is the strip's i-th survivor.
  write_panels(out, x, pack.row.data(), m, start, options.threads);
  const PanelSet trial{out.panels, out.scale, out.error, out.norm, nullptr, nullptr, start + m, dim};
  Bits certain(m), open(m);
  const auto visit = [&](int64_t me, int64_t lane, double lower, double upper) {
    if (lane >= start && upper >= max_cosine) (lower >= max_cosine ? certain : open).set(me, lane - start);
    return false;
  };
  triangle(pack, trial, start, max_cosine, kernel, options, visit);

  // In order; an open pair is decided only when its earlier vector has been kept.
  std::vector<uint64_t> kept(static_cast<size_t>(certain.words()), 0);
  std::vector<int64_t> accepted;
  for (int64_t i = 0; i < m; ++i) {
    const uint64_t *sure = certain.row(i), *maybe = open.row(i);
    const float* mine = x + pack.row[static_cast<size_t>(i)] * dim;
    bool bad = false;
    for (int64_t w = 0; w <= i / 64 && !bad; ++w) bad = (sure[w] & kept[static_cast<size_t>(w)]) != 0;
    for (int64_t w = 0; w <= i / 64 && !bad; ++w) {
      for (uint64_t rest = maybe[w] & kept[static_cast<size_t>(w)]; rest && !bad; rest &= rest - 1) {
        const size_t j = static_cast<size_t>(w * 64 + __builtin_ctzll(rest));
        bad = cosine(mine, x + pack.row[j] * dim, pack.norm[static_cast<size_t>(i)], pack.norm[j], dim) >= max_cosine;
      }
    }
    if (bad) {
      rejected[pack.row[static_cast<size_t>(i)]] = 1;
    } else {
      kept[static_cast<size_t>(i / 64)] |= uint64_t{1} << (i % 64);
      accepted.push_back(pack.row[static_cast<size_t>(i)]);
    }
  }

  const int64_t total = static_cast<int64_t>(accepted.size());
  if (total < m) {  // close the gaps, from the first one on
    int64_t same = 0;
    while (same < total && accepted[static_cast<size_t>(same)] == pack.row[static_cast<size_t>(same)]) ++same;
    write_panels(out, x, accepted.data() + same, total - same, start + same, options.threads);
  }
  clear_tail(out, start + total);
  return total;
}

void similar_to_earlier(const float* x, int64_t n, uint8_t* similar, double max_cosine, const PanelSet& all,
                        int64_t start, const Options& options) {
  const TileKernel& kernel = choose_tile_kernel(options.isa);
  QueryPack pack;
  pack.dim = all.dim;
  for (int64_t i = 0; i < n; ++i) pack.row.push_back(i);
  pack.pack(x, kernel.levels, options.threads);
  const auto visit = [&](int64_t me, int64_t lane, double lower, double upper) {
    if (upper < max_cosine) return false;
    if (lower < max_cosine) {
      const double mine = pack.norm[static_cast<size_t>(me)];
      if (!(cosine(x + me * all.dim, all.original(lane), mine, all.norm[lane], all.dim) >= max_cosine)) return false;
    }
    similar[me] = 1;
    return true;
  };
  triangle(pack, all, start, max_cosine, kernel, options, visit);
}

}  // namespace v2f
