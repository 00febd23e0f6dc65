// outer by matrix tiles, all in bf16: see outer.h. The sum is over the batch, 32 samples a step.
//
// Floor: the bytes of out.
#pragma once

#include "amx.h"
#include "outer.h"

namespace spf {
namespace {

// Fewer samples are as fast by vectors.
constexpr int64_t kAmxFewestOuter = 17;
constexpr int64_t kAmxOuterPixels = 256;  // whose fp32 sums for 16 rows are 16 KB

// left of one map as the first operand: tiles [16 code elements][step of 32 samples], which come in pairs.
inline void stage_left(char* to, const CodeRows& left, int64_t D, int64_t batch) {
  NoPrefetch nothing;
  stage_pairs(to, left.first, left.pitch, batch, D, nothing);
  for (int64_t tile = 0; tile < divide_up(D, kTile) * divide_up(batch, kTilePairs); ++tile) {
    vu rows[kTile];
    std::memcpy(rows, to + tile * kTileBytes, sizeof(rows));
    transpose(rows);
    std::memcpy(to + tile * kTileBytes, rows, sizeof(rows));
  }
}

// sums[16 code elements][kAmxOuterPixels] for `pixels` of them.
inline void multiply_outer(const char* left, const char* right, int64_t steps, int64_t pixels, float* sums) {
  constexpr int64_t kRowBytes = kAmxOuterPixels * sizeof(float);
  for (int64_t s = 0; s < pixels; s += kTilePairs) {
    for_constants<2>([](auto t) { tile_zero<t.value>(); });
    for (int64_t step = 0; step < steps; ++step) {
      tile_load<kFirst>(left + step * kTileBytes);
      for_constants<2>([&](auto t) {
        tile_load<kSecond>(right + ((s / kTile + t.value) * steps + step) * kTileBytes);
        tile_multiply_add<t.value, kFirst, kSecond>();
      });
    }
    for_constants<2>([&](auto t) { tile_store<t.value>(sums + s + t.value * kTile, kRowBytes); });
  }
}

inline void write_row(const float* sums, bf16* out, int64_t pixels, bool streaming) {
  int64_t i = 0;
  for (; i + VL <= pixels; i += VL) streaming ? stream(out + i, load(sums + i)) : store(out + i, load(sums + i));
  if (i < pixels) store_partial(out + i, load(sums + i), pixels - i);
}

void amx_outer(const OuterArgs& args, int64_t task) {
  const bool all_bf16 =
      args.left.dtype == DType::bf16 && args.right.dtype == DType::bf16 && args.out_dtype == DType::bf16;
  if (!all_bf16 || args.sizes.B < kAmxFewestOuter) return outer(args, task);
  const Sizes& size = args.sizes;
  const int64_t ranges = divide_up(size.S, args.range), c = task / ranges;
  const int64_t begin = task % ranges * args.range, end = smaller(size.S, begin + args.range);
  const int64_t steps = divide_up(size.B, kTilePairs);
  // the samples of a block stay in L2 for large batches too
  const int64_t block = larger(kTilePairs, smaller(kAmxOuterPixels, kAmxOuterPixels * 8 / larger(steps, 1) / 32 * 32));
  const int64_t left_bytes = 2 * divide_up(size.D, kTilePairs) * steps * kTileBytes;
  const int64_t right_bytes = block / kTile * steps * kTileBytes;
  // the copy of left is no larger than its tiles
  char* left = static_cast<char*>(workspace(2 * left_bytes + right_bytes + kTile * kAmxOuterPixels * sizeof(float)));
  char* right = left + left_bytes;
  float* sums = reinterpret_cast<float*>(right + right_bytes);
  bf16* copy = reinterpret_cast<bf16*>(sums + kTile * kAmxOuterPixels);
  const bf16* codes = static_cast<const bf16*>(args.left.data) + c * args.left.stride_c;
  stage_left(left, code_rows(codes, args.left, size.B, size.D, copy), size.D, size.B);
  configure_tiles();
  NoPrefetch nothing;
  for (int64_t s = begin; s < end; s += block) {
    const int64_t pixels = smaller(block, end - s);
    stage_pairs(right, static_cast<const bf16*>(args.right.data) + c * args.right.stride_c + s, args.right.stride_b,
                size.B, pixels, nothing);
    for (int64_t d = 0; d < size.D; d += kTile) {
      multiply_outer(left + d / kTile * steps * kTileBytes, right, steps, pixels, sums);
      for (int64_t row = 0; row < smaller(kTile, size.D - d); ++row) {
        bf16* out = static_cast<bf16*>(args.out) + (c * size.D + d + row) * size.S + s;
        write_row(sums + row * kAmxOuterPixels, out, pixels, args.stream);
      }
    }
  }
  release_tiles();
  if (args.stream) stream_fence();
}

}  // namespace
}  // namespace spf
