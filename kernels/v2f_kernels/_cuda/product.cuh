// Integer products of a block of BLOCK rows (side a) with tiles of 128 rows (side b), accumulated exactly in int32.
// The similarity matrix exists only in registers: each 128-column strip is handed to the epilogue and forgotten.
//
// product(a, row, b, first, step, last, epilogue): rows row .. row + BLOCK - 1 of a against the tiles first,
// first + step, ... below last of b. Side a stays in shared memory; the chunks of b stream through STAGES buffers.
// epilogue(tile, sums, r0, c0): thread-local sums[i][j][e], i < kI, j < kJ, belong to
//
//     row    row + r0 + kStepI * i + 8 * (e / 2)        column   128 * tile + c0 + 8 * j + e % 2
//
// The four lanes 4 g .. 4 g + 3 share their rows. An epilogue may use warp-wide operations, never block-wide ones.
//
// Two engines with the same sums: mma.sync m16n8k32 (sm_80 and later), 8 warps; wgmma m64n128k32 (sm_90a), two
// warpgroups that multiply and one warp that copies. Compile with -DBLOCK=64, 128 (mma), 128, 256 (wgmma), -DSTAGES.
#pragma once
#include "tiles.cuh"

constexpr int kSideBytes = kChunks * BLOCK * kChunk;
constexpr int kStageBytes = kChunkBytes;

#if V2F_WGMMA_ON

constexpr int kThreads = 384;  // 2 x 128 multiply with 232 registers each, 128 copy with 40: 168 on average
constexpr int kI = BLOCK / 128, kStepI = 64, kJ = 16;
constexpr int kSharedBytes = kSideBytes + STAGES * kStageBytes + (2 * STAGES + 1) * 8;

// Matrix descriptor: K-major rows of 128 bytes, 128-byte swizzle, 1,024 bytes from one group of eight rows to the next.
__device__ __forceinline__ unsigned long long descriptor(unsigned address) {
  return static_cast<unsigned long long>((address & 0x3ffff) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}

template <class Epilogue>
__device__ void product(const int8* a, int row, const int8* b, int first, int step, int last, Epilogue& epilogue) {
  V2F_DYNAMIC_SHARED(shared);
  const unsigned side = shared_address(shared), stages = side + kSideBytes;
  const unsigned full = stages + STAGES * kStageBytes, empty = full + STAGES * 8, side_full = empty + STAGES * 8;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int steps = first < last ? (last - first + step - 1) / step * kChunks : 0;
  if (steps == 0) return;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(full + 8 * s, 1);
      barrier_init(empty + 8 * s, 8);
    }
    barrier_init(side_full, 1);
    barrier_init_fence();
  }
  __syncthreads();
  if (warp >= 8) {
    registers_give<40>();
    if (threadIdx.x == 256) {
      barrier_expect(side_full, kSideBytes);
      for (int c = 0; c < kChunks; ++c)
        for (int t = 0; t < BLOCK / kTile; ++t)
          bulk_copy(side + (c * BLOCK + t * kTile) * kChunk, a + chunk_offset(row / kTile + t, c), kChunkBytes, side_full);
      for (int s = 0; s < steps; ++s) {
        const unsigned slot = s % STAGES, round = s / STAGES;
        barrier_wait(empty + 8 * slot, (round & 1) ^ 1);
        barrier_expect(full + 8 * slot, kStageBytes);
        bulk_copy(stages + slot * kStageBytes, b + chunk_offset(first + s / kChunks * step, s % kChunks), kStageBytes,
                  full + 8 * slot);
      }
    }
    return;
  }

  registers_take<232>();
  const int group_row = warp / 4 * (BLOCK / 2);  // this warpgroup's first row
  int sums[kI][kJ][4];
  barrier_wait(side_full, 0);
  int s = 0;
  for (int tile = first; tile < last; tile += step) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c, ++s) {
      const unsigned slot = s % STAGES;
      barrier_wait(full + 8 * slot, (s / STAGES) & 1);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kChunk; k += 32)
#pragma unroll
        for (int i = 0; i < kI; ++i)
          wgmma_64x128x32(sums[i], descriptor(side + (c * BLOCK + group_row + kStepI * i) * kChunk + k),
                          descriptor(stages + slot * kStageBytes + k), c > 0 || k > 0);
      wgmma_commit();
      if (c > 0) {  // the products of the chunk before are done: its buffer is free
        wgmma_wait<1>();
        if (lane == 0) barrier_arrive(empty + 8 * ((s - 1) % STAGES));
      }
    }
    wgmma_wait<0>();
    if (lane == 0) barrier_arrive(empty + 8 * ((s - 1) % STAGES));
    epilogue(tile, sums, group_row + warp % 4 * 16 + lane / 4, lane % 4 * 2);
  }
}

#else  // mma.sync

constexpr int kThreads = 256;
constexpr int kRowsOfWarps = BLOCK / 64, kColumnsOfWarp = kTile / (8 / kRowsOfWarps);
constexpr int kI = 4, kStepI = 16, kJ = kColumnsOfWarp / 8;
constexpr int kSharedBytes = kSideBytes + STAGES * kStageBytes;

template <class Epilogue>
__device__ void product(const int8* a, int row, const int8* b, int first, int step, int last, Epilogue& epilogue) {
  V2F_DYNAMIC_SHARED(shared);
  const unsigned side = shared_address(shared), stages = side + kSideBytes;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int steps = first < last ? (last - first + step - 1) / step * kChunks : 0;
  if (steps == 0) return;

  constexpr int kUnits = BLOCK * 8;  // of 16 bytes in one chunk of side a
  for (int u = threadIdx.x; u < kChunks * kUnits; u += kThreads)
    copy16_async(side + u * 16, a + chunk_offset(row / kTile, u / kUnits) + row % kTile * kChunk + u % kUnits * 16);
  copy_commit();
  const auto fetch = [&](int s) {
    if (s < steps) {
      const int8* from = b + chunk_offset(first + s / kChunks * step, s % kChunks);
      for (int u = threadIdx.x; u < kStageBytes / 16; u += kThreads)
        copy16_async(stages + s % STAGES * kStageBytes + u * 16, from + u * 16);
    }
    copy_commit();
  };
  for (int s = 0; s < STAGES - 1; ++s) fetch(s);

  const int warp_row = warp % kRowsOfWarps * 64, warp_column = warp / kRowsOfWarps * kColumnsOfWarp;
  const int matrix = lane / 8, r = lane % 8;
  int sums[kI][kJ][4];
  for (int s = 0; s < steps; ++s) {
    const int c = s % kChunks;
    copy_wait<STAGES - 2>();  // this thread's part of chunk s has arrived
    __syncthreads();          // everyone's has, and everyone has left the buffer that is filled next
    fetch(s + STAGES - 1);
    if (c == 0) {
#pragma unroll
      for (int i = 0; i < kI; ++i)
#pragma unroll
        for (int j = 0; j < kJ; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
    }
    const unsigned from_a = side + c * BLOCK * kChunk, from_b = stages + s % STAGES * kStageBytes;
#pragma unroll
    for (int k = 0; k < 8; k += 2) {  // units of 16 bytes: 32 dimensions a step
      unsigned left[kI][4];
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        const int at = warp_row + kStepI * i + matrix % 2 * 8 + r;
        load_matrices(left[i], from_a + at * kChunk + (((k + matrix / 2) ^ (at % 8)) << 4));
      }
#pragma unroll
      for (int j = 0; j < kJ; j += 2) {
        const int at = warp_column + 8 * j + matrix / 2 * 8 + r;
        unsigned right[4];
        load_matrices(right, from_b + at * kChunk + (((k + matrix % 2) ^ (at % 8)) << 4));
#pragma unroll
        for (int i = 0; i < kI; ++i) {
          mma_16x8x32(sums[i][j], left[i], right[0], right[1]);
          mma_16x8x32(sums[i][j + 1], left[i], right[2], right[3]);
        }
      }
    }
    if (c == kChunks - 1)
      epilogue(first + s / kChunks * step, sums, warp_row + lane / 4, warp_column + lane % 4 * 2);
  }
}

#endif
