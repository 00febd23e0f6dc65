// reconstruct by matrix tiles, codes, maps and weights in bf16: see reconstruct.h. The errors, which are fp32, go into
// the codes' gradient as three bf16 each, so that nothing of them is lost.
//
// Floor: W's bytes, the maps' and the errors'.
#pragma once

#include "amx_decode.h"
#include "reconstruct.h"

namespace spf {
namespace {

// Fewer samples are as fast by vectors.
constexpr int64_t kAmxFewestReconstructed = 8;
// The errors of 16 samples.
constexpr int64_t kAmxErrorBytes = kAmxPixels / kTilePairs * kPartsOf<float> * kTileBytes;

struct AmxReconstructTask {
  const ReconstructArgs& args;
  int64_t task, c;
  char* z;
  bf16* copy;  // of codes that are not contiguous
  char *staged, *errors, *sums;
  float* y;      // [whole tiles of samples][kAmxPixels], of errors later
  double* loss;  // [batch]

  void compare_pixels(int64_t s, int64_t pixels, int64_t batch_begin, int64_t batch) const {
    const Comparison<bf16, bf16> comparison{args, c};
    for (int64_t b = 0; b < batch; ++b) {
      float* row = y + b * kAmxPixels;
      loss[b] +=
          comparison.pixels(row, batch_begin + b, s, pixels, [&](int64_t i, vf error) { store(row + i, error); });
      // to whole steps
      for (int64_t i = round_up(pixels, VL); i < round_up(pixels, kTilePairs); i += VL) store(row + i, vf{});
    }
  }

  void accumulate_codes(const bf16* weight, int64_t pixels, int64_t batch, bool first) const {
    const Sizes& size = args.sizes;
    const int64_t tiles = divide_up(batch, kTile);
    for (int64_t t = 0; t < tiles; ++t) {
      stage_columns(errors + t * kAmxErrorBytes, y + t * kTile * kAmxPixels, kAmxPixels,
                    smaller(kTile, batch - t * kTile), pixels);
    }
    multiply_all_rows<float>(weight, size.S, size.D, pixels, errors, kAmxErrorBytes, tiles, first, sums, staged,
                             [](int64_t) { return NoPrefetch{}; });
  }

  void run(int64_t begin, int64_t end, int64_t batch_begin, int64_t batch) const {
    const Sizes& size = args.sizes;
    const bf16* codes = static_cast<const bf16*>(args.codes.data) + c * args.codes.stride_c;
    stage_codes(z, code_rows(codes + batch_begin * args.codes.stride_b, args.codes, batch, size.D, copy), size.D,
                batch);
    for (int64_t b = 0; b < batch; ++b) loss[b] = 0;
    const bf16* weight = static_cast<const bf16*>(args.layer.weight) + c * size.D * size.S;
    for (int64_t s = begin; s < end; s += kAmxPixels) {
      const int64_t pixels = smaller(kAmxPixels, end - s);
      NextBlock<2> next(weight + pixels_after(size, s + pixels), pixel_count(size, s + pixels, kAmxPixels), size.S);
      amx_decode_block(weight + s, size, z, batch, pixels, staged, y, next);
      compare_pixels(s, pixels, batch_begin, batch);
      if (args.codes_gradient) accumulate_codes(weight + s, pixels, batch, s == begin);
    }
    for (int64_t b = 0; b < batch; ++b) args.loss[task * size.B + batch_begin + b] = loss[b];
    if (!args.codes_gradient) return;
    float* out = args.codes_gradient + (task * size.B + batch_begin) * size.D;
    each_sample(sums, size.D, batch, [&](int64_t n, int64_t d, vf v, int64_t count) {
      count == VL ? store(out + n * size.D + d, v) : store_partial(out + n * size.D + d, v, count);
    });
  }
};

void amx_reconstruct(const ReconstructArgs& args, int64_t task) {
  const bool all_bf16 =
      args.codes.dtype == DType::bf16 && args.maps.dtype == DType::bf16 && args.layer.dtype == DType::bf16;
  if (!all_bf16 || args.sizes.B < kAmxFewestReconstructed) return reconstruct(args, task);
  const Sizes& size = args.sizes;
  const int64_t ranges = divide_up(size.S, args.range), begin = task % ranges * args.range;
  const int64_t end = smaller(size.S, begin + args.range);
  const int64_t most = smaller(kAmxBatch, size.B), tiles = divide_up(most, kTile);
  const int64_t sums_bytes = divide_up(size.D, kTile) * tiles * kTileBytes;
  const int64_t z_bytes = amx_codes_bytes(size.D, most), y_bytes = amx_y_bytes(most);
  char* z = static_cast<char*>(workspace(2 * z_bytes + kAmxBlockBytes + tiles * kAmxErrorBytes + sums_bytes + y_bytes +
                                         most * int64_t(sizeof(double))));
  char* staged = z + 2 * z_bytes;
  char* errors = staged + kAmxBlockBytes;
  char* sums = errors + tiles * kAmxErrorBytes;
  float* y = reinterpret_cast<float*>(sums + sums_bytes);
  double* loss = reinterpret_cast<double*>(sums + sums_bytes + y_bytes);
  bf16* copy = reinterpret_cast<bf16*>(z + z_bytes);
  const AmxReconstructTask work{args, task, task / ranges, z, copy, staged, errors, sums, y, loss};
  configure_tiles();
  for (int64_t b = 0; b < size.B; b += kAmxBatch) work.run(begin, end, b, smaller(kAmxBatch, size.B - b));
  release_tiles();
}

}  // namespace
}  // namespace spf
