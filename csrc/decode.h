// decode: maps[b, c, s] = act(sum over d of codes[b, c, d] * weight[c, d, s] + bias[c, s]).
//
// Bytes: W once, codes once, maps once. The outputs of a block of pixels wait in cache while the rows of W go by in
// groups small enough not to collide there: rows are often a power of two apart and share their cache sets.
#pragma once

#include "activations.h"
#include "row_tile.h"

namespace spf {
namespace {

constexpr int64_t kDecodePixels = 512;
constexpr int64_t kDecodeRows = 32;
constexpr int64_t kDecodeBatch = 4 * kTileBatch;

// y[0:pixels] -> out, with bias and activation.
template <class W, class T>
inline void finish_pixels(const float* y, const W* bias, Activation activation, T* out, int64_t pixels) {
  int64_t s = 0;
  for (; s + VL <= pixels; s += VL) {
    vf v = load(y + s);
    if (bias) v += load(bias + s);
    store(out + s, activate(v, activation));
  }
  if (s < pixels) {
    vf v = load(y + s);
    if (bias) v += load_partial(bias + s, pixels - s);
    store_partial(out + s, activate(v, activation), pixels - s);
  }
}

// What is mostly read after the pixels before `begin`: the following ones or, at a map's end, the next map's first.
inline int64_t pixels_after(const Sizes& size, int64_t begin) { return begin < size.S ? begin : size.D * size.S; }
inline int64_t pixel_count(const Sizes& size, int64_t begin, int64_t most) {
  return smaller(most, begin < size.S ? size.S - begin : size.S);
}

template <class W, class T>
void decode_range(const DecodeArgs& args, int64_t c, int64_t begin, int64_t end, int64_t batch_begin,
                  const BatchTiles& tiles, float* y, float* z) {
  const Sizes& size = args.sizes;
  const W* weight = static_cast<const W*>(args.layer.weight) + c * size.D * size.S;
  const W* bias = args.layer.bias ? static_cast<const W*>(args.layer.bias) + c * size.S : nullptr;
  const T* codes = static_cast<const T*>(args.codes.data) + c * args.codes.stride_c;
  for (int64_t t = 0; t < tiles.count; ++t) {
    pack_codes(z + tiles.begin(t) * size.D, codes + (batch_begin + tiles.begin(t)) * args.codes.stride_b, args.codes,
               size.D, tiles.size(t));
  }
  for (int64_t s = begin; s < end; s += kDecodePixels) {
    const int64_t pixels = smaller(kDecodePixels, end - s);
    if (size.D == 0) std::memset(y, 0, tiles.batch * kDecodePixels * sizeof(float));
    for (int64_t d = 0; d < size.D; d += kDecodeRows) {
      const int64_t rows = smaller(kDecodeRows, size.D - d);
      const bool last = d + rows == size.D;
      const int64_t next = last ? pixels_after(size, s + pixels) : (d + rows) * size.S + s;
      for (int64_t t = 0; t < tiles.count; ++t) {
        with_constant(tiles.size(t), [&](auto n) {
          constexpr int N = decltype(n)::value;
          const auto walk = [&](auto ahead) {
            decode_block<W, N>(weight + d * size.S + s, size.S, rows, z + tiles.begin(t) * size.D + d * N, d == 0,
                               y + tiles.begin(t) * kDecodePixels, kDecodePixels, pixels, ahead);
          };
          if (t > 0) {
            walk(NoPrefetch{});
          } else if constexpr (N <= kTileBatch / 2) {
            // the order of reading: measured to be the better one for few samples
            walk(SamePixels{next - d * size.S - s});
          } else {
            walk(NextBlock<2>(weight + next, last ? pixel_count(size, s + pixels, kDecodePixels) : pixels, size.S));
          }
        });
      }
    }
    for (int64_t b = 0; b < tiles.batch; ++b) {
      T* out = static_cast<T*>(args.maps) + ((batch_begin + b) * size.C + c) * size.S + s;
      finish_pixels(y + b * kDecodePixels, bias ? bias + s : nullptr, args.layer.activation, out, pixels);
    }
  }
}

template <class W, class T>
void decode_task(const DecodeArgs& args, int64_t task) {
  const Sizes& size = args.sizes;
  const int64_t ranges = divide_up(size.S, args.range);
  const int64_t begin = task % ranges * args.range;
  const int64_t end = smaller(size.S, begin + args.range);
  const int64_t batch_block = smaller(kDecodeBatch, size.B);
  float* y = static_cast<float*>(workspace(batch_block * (kDecodePixels + size.D) * sizeof(float)));
  float* z = y + batch_block * kDecodePixels;
  for (int64_t b = 0; b < size.B; b += kDecodeBatch) {
    decode_range<W, T>(args, task / ranges, begin, end, b, BatchTiles(smaller(kDecodeBatch, size.B - b)), y, z);
  }
}

void decode(const DecodeArgs& args, int64_t task) {
  const bool codes_f32 = args.codes.dtype == DType::f32;
  if (args.layer.dtype == DType::f32) {
    codes_f32 ? decode_task<float, float>(args, task) : decode_task<float, bf16>(args, task);
  } else {
    codes_f32 ? decode_task<bf16, float>(args, task) : decode_task<bf16, bf16>(args, task);
  }
}

}  // namespace
}  // namespace spf
