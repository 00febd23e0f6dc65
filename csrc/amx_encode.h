// encode by matrix tiles, maps and weights in bf16: see encode.h. W is read once for up to 64 samples.
//
// Floor: W's bytes. A tile of W is multiplied by 16 samples in 16 cycles, and comes from memory in many times that.
#pragma once

#include "amx.h"
#include "encode.h"

namespace spf {
namespace {

// Fewer samples are as fast by vectors.
constexpr int64_t kAmxFewestEncoded = 5;
// Pixels staged at once: 16 KB for 16 samples, all in L2.
constexpr int64_t kAmxChunk = 512;
constexpr int64_t kAmxChunkBytes = kAmxChunk / kTilePairs * kTileBytes;

struct AmxEncodeTask {
  const EncodeArgs& args;
  int64_t c, row_begin, rows;
  char *samples, *staged, *sums;

  void accumulate(int64_t batch_begin, int64_t batch) const {
    const Sizes& size = args.sizes;
    const int64_t tiles = divide_up(batch, kTile);
    const bf16* weight = static_cast<const bf16*>(args.layer.weight) + (c * size.D + row_begin) * size.S;
    const bf16* maps =
        static_cast<const bf16*>(args.maps.data) + c * args.maps.stride_c + batch_begin * args.maps.stride_b;
    if (size.S == 0) std::memset(sums, 0, divide_up(rows, kTile) * tiles * kTileBytes);
    for (int64_t k = 0; k < size.S; k += kAmxChunk) {
      const int64_t count = smaller(kAmxChunk, size.S - k);
      for (int64_t t = 0; t < tiles; ++t) {
        stage_columns(samples + t * kAmxChunkBytes, maps + t * kTile * args.maps.stride_b + k, args.maps.stride_b,
                      smaller(kTile, batch - t * kTile), count);
      }
      const auto next = [&](int64_t row) {
        // the next rows, then the next chunk, then what follows in memory, mostly the next task
        const bf16* following = weight + (row + kTile) * size.S + k;
        if (row + kTile >= rows) following = k + count < size.S ? weight + k + count : weight + rows * size.S;
        return NextBlock<2>(following, count, size.S);
      };
      multiply_all_rows<bf16>(weight + k, size.S, rows, count, samples, kAmxChunkBytes, tiles, k == 0, sums, staged,
                              next);
    }
  }

  void finish(int64_t batch_begin, int64_t batch) const {
    const Sizes& size = args.sizes;
    const bf16* bias = args.layer.bias ? static_cast<const bf16*>(args.layer.bias) + c * size.D + row_begin : nullptr;
    each_sample(sums, rows, batch, [&](int64_t n, int64_t row, vf v, int64_t count) {
      bf16* out = static_cast<bf16*>(args.codes) + ((batch_begin + n) * size.C + c) * size.D + row_begin + row;
      const bool whole = count == VL;
      if (bias) v += whole ? load(bias + row) : load_partial(bias + row, count);
      v = activate(v, args.layer.activation);
      whole ? store(out, v) : store_partial(out, v, count);
    });
  }
};

void amx_encode(const EncodeArgs& args, int64_t task) {
  const bool all_bf16 = args.maps.dtype == DType::bf16 && args.layer.dtype == DType::bf16;
  if (!all_bf16 || args.sizes.B < kAmxFewestEncoded) return encode(args, task);
  const Sizes& size = args.sizes;
  const int64_t ranges = divide_up(size.D, args.range);
  const int64_t row_begin = task % ranges * args.range;
  const int64_t rows = smaller(args.range, size.D - row_begin);
  const int64_t tiles = divide_up(smaller(kAmxBatch, size.B), kTile);
  const int64_t sums_bytes = divide_up(rows, kTile) * tiles * kTileBytes;
  char* sums = static_cast<char*>(workspace(sums_bytes + (1 + tiles) * kAmxChunkBytes));
  char* staged = sums + sums_bytes;
  const AmxEncodeTask work{args, task / ranges, row_begin, rows, staged + kAmxChunkBytes, staged, sums};
  configure_tiles();
  for (int64_t b = 0; b < size.B; b += kAmxBatch) {
    work.accumulate(b, smaller(kAmxBatch, size.B - b));
    work.finish(b, smaller(kAmxBatch, size.B - b));
  }
  release_tiles();
}

}  // namespace
}  // namespace spf
