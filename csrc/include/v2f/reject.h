// Greedy rejection by cosine, and the exact nearest neighbour, on int8 panels. The answer is the one of
// v2f_kernels/_cosine.py for every block size, thread count and instruction set: the int8 screen decides a pair only
// where its error bound proves the outcome, all other pairs are decided by v2f::cosine.
#pragma once
#include <cstdint>
#include <string>

#include "v2f/panels.h"

namespace v2f {

struct Options {
  int threads = 1;
  std::string isa;           // empty: the fastest supported
  double bound_scale = 1.0;  // multiplies every error bound; anything below 1 breaks the proof (mutation tests)
};

// Sets rejected[i] for every vector x_i (float32 [n, dim], rejected[i] == 0) whose cosine with some vector
// j >= first of `kept` is >= max_cosine.
void screen(const float* x, int64_t n, uint8_t* rejected, double max_cosine, const PanelSet& kept, int64_t first,
            const Options& options);

// Greedy among the vectors of one strip (those with rejected[i] == 0, in order): sets rejected[i] where an earlier
// kept one reaches max_cosine, and appends the kept ones at lane `start`. `out` needs room for all of them, and the
// memory is 2 n^2 / 8 bytes. Returns the number kept.
int64_t resolve(const float* x, int64_t n, uint8_t* rejected, double max_cosine, const PanelWriter& out, int64_t start,
                const Options& options);

// Sets similar[i] for every vector of the strip (similar[i] == 0) whose cosine with an earlier vector of the strip,
// kept or not, is >= max_cosine. The strip is already in `all`, at lanes `start` to start + n - 1.
void similar_to_earlier(const float* x, int64_t n, uint8_t* similar, double max_cosine, const PanelSet& all,
                        int64_t start, const Options& options);

// For every query the largest cosine with a vector of `gallery`, and the smallest index that attains it, merged into
// best_cosine / best_index (index -1: none yet). Index = base + lane number.
void nearest(const float* x, int64_t n, const PanelSet& gallery, int64_t base, double* best_cosine,
             int64_t* best_index, const Options& options);

}  // namespace v2f
