// reconstruct: with y = decode(codes), in one pass over W and without writing y:
//   loss[b]      = sum over c, s of (y - maps)^2
//   error        = (y - maps) * act'(y)            unscaled; the upstream gradient times 2 is applied later
//   residual     = y - maps                        where the maps need a gradient
//   dcodes[b, d] = sum over s of error * W         where the codes need a gradient
//
// Bytes: W once, maps once, error once. Bound by arithmetic: 2 FMA a (row, sample, pixel). The code gradient reads the
// block of W again from L2 or, where rows a power of two apart have evicted each other, from L3; a copy made while
// decoding costs more. The next block comes from memory meanwhile, half of it in either walk.
#pragma once

#include "compare.h"
#include "decode.h"
#include "dot_tile.h"

namespace spf {
namespace {

constexpr int64_t kReconstructRows = 32;
constexpr int64_t kReconstructBatch = 4 * kTileBatch;
constexpr int64_t kBlockBytes = 256 * 1024;  // of W; a quarter of a common L2

inline int64_t reconstruct_pixels(int64_t D, size_t weight_bytes) {
  const int64_t fit = kBlockBytes / (larger(D, 1) * int64_t(weight_bytes)) / 64 * 64;
  return larger(64, smaller(512, fit));
}

template <class W, class T>
struct ReconstructTask {
  const ReconstructArgs& args;
  int64_t task, c, block;  // block: pixels a step
  float* z;                // per batch tile [D][N]
  float* y;                // [batch][block]
  float* packed;           // error, per batch tile [step][N][VL]
  vf* sums;                // per batch tile [D][N]
  double* loss;            // [batch]

  const W* weight() const { return static_cast<const W*>(args.layer.weight) + c * args.sizes.D * args.sizes.S; }

  template <class Ahead>
  void decode_pixels(int64_t s, int64_t pixels, const BatchTiles& tiles, Ahead& ahead) const {
    const Sizes& size = args.sizes;
    NoPrefetch nothing;
    if (size.D == 0) std::memset(y, 0, tiles.batch * block * sizeof(float));
    for (int64_t d = 0; d < size.D; d += kReconstructRows) {
      const int64_t rows = smaller(kReconstructRows, size.D - d);
      for (int64_t t = 0; t < tiles.count; ++t) {
        with_constant(tiles.size(t), [&](auto n) {
          constexpr int N = decltype(n)::value;
          const auto walk = [&](auto& prefetch) {
            decode_block<W, N>(weight() + d * size.S + s, size.S, rows, z + tiles.begin(t) * size.D + d * N, d == 0,
                               y + tiles.begin(t) * block, block, pixels, prefetch);
          };
          t == 0 ? walk(ahead) : walk(nothing);
        });
      }
    }
  }

  void compare_pixels(int64_t s, int64_t pixels, int64_t batch_begin, const BatchTiles& tiles) const {
    const Comparison<W, T> comparison{args, c};
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int64_t N = tiles.size(t);
      float* tile = packed + tiles.begin(t) * block;
      for (int64_t n = 0; n < N; ++n) {
        const int64_t b = tiles.begin(t) + n;
        loss[b] += comparison.pixels(y + b * block, batch_begin + b, s, pixels,
                                     [&](int64_t i, vf error) { store(tile + i * N + n * VL, error); });
      }
    }
  }

  void accumulate_codes(int64_t s, int64_t pixels, bool first, const BatchTiles& tiles, NextBlock<1>& next) const {
    const Sizes& size = args.sizes;
    NoPrefetch nothing;
    for (int64_t t = 0; t < tiles.count; ++t) {
      with_constant(tiles.size(t), [&](auto n) {
        const auto walk = [&](auto& ahead) {
          constexpr int N = decltype(n)::value;
          dot_rows<DotFloat<W>, N>(weight() + s, size.S, size.D, packed + tiles.begin(t) * block, pixels, first,
                                   sums + tiles.begin(t) * size.D, ahead);
        };
        t == 0 ? walk(next) : walk(nothing);
      });
    }
  }

  void run(int64_t begin, int64_t end, int64_t batch_begin, const BatchTiles& tiles) const {
    const Sizes& size = args.sizes;
    const T* codes = static_cast<const T*>(args.codes.data) + c * args.codes.stride_c;
    for (int64_t t = 0; t < tiles.count; ++t) {
      pack_codes(z + tiles.begin(t) * size.D, codes + (batch_begin + tiles.begin(t)) * args.codes.stride_b,
                 args.codes, size.D, tiles.size(t));
    }
    for (int64_t b = 0; b < tiles.batch; ++b) loss[b] = 0;
    for (int64_t s = begin; s < end; s += block) {
      const int64_t pixels = smaller(block, end - s);
      const W* following = weight() + pixels_after(size, s + pixels);
      const int64_t count = pixel_count(size, s + pixels, block);
      NextBlock<1> half(following, count, size.S);
      NextBlock<2> whole(following, count, size.S);
      args.codes_gradient ? decode_pixels(s, pixels, tiles, half) : decode_pixels(s, pixels, tiles, whole);
      compare_pixels(s, pixels, batch_begin, tiles);
      if (args.codes_gradient) accumulate_codes(s, pixels, s == begin, tiles, half);
    }
    for (int64_t b = 0; b < tiles.batch; ++b) args.loss[task * size.B + batch_begin + b] = loss[b];
    if (!args.codes_gradient) return;
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int64_t N = tiles.size(t);
      const vf* tile = sums + tiles.begin(t) * size.D;
      float* out = args.codes_gradient + (task * size.B + batch_begin + tiles.begin(t)) * size.D;
      for (int64_t n = 0; n < N; ++n) {
        int64_t d = 0;
        for (; d + VL <= size.D; d += VL) store(out + n * size.D + d, sum_each(tile + d * N + n, N));
        if (d < size.D) {
          const vf rest = sum_each_partial(tile + d * N + n, N, size.D - d);
          store_partial(out + n * size.D + d, rest, size.D - d);
        }
      }
    }
  }
};

template <class W, class T>
void reconstruct_task(const ReconstructArgs& args, int64_t task) {
  const Sizes& size = args.sizes;
  const int64_t ranges = divide_up(size.S, args.range);
  const int64_t begin = task % ranges * args.range;
  const int64_t end = smaller(size.S, begin + args.range);
  const int64_t batch = smaller(kReconstructBatch, size.B);
  const int64_t block = reconstruct_pixels(size.D, sizeof(W));

  const int64_t sums_bytes = batch * size.D * sizeof(vf);
  const int64_t y_bytes = batch * block * sizeof(float);
  const int64_t z_bytes = round_up(batch * size.D * sizeof(float), 64);
  char* p = static_cast<char*>(workspace(sums_bytes + 2 * y_bytes + z_bytes + batch * sizeof(double)));
  const ReconstructTask<W, T> work{args,
                                   task,
                                   task / ranges,
                                   block,
                                   reinterpret_cast<float*>(p + sums_bytes + 2 * y_bytes),
                                   reinterpret_cast<float*>(p + sums_bytes),
                                   reinterpret_cast<float*>(p + sums_bytes + y_bytes),
                                   reinterpret_cast<vf*>(p),
                                   reinterpret_cast<double*>(p + sums_bytes + 2 * y_bytes + z_bytes)};
  for (int64_t b = 0; b < size.B; b += kReconstructBatch) {
    work.run(begin, end, b, BatchTiles(smaller(kReconstructBatch, size.B - b)));
  }
}

void reconstruct(const ReconstructArgs& args, int64_t task) {
  const bool maps_f32 = args.maps.dtype == DType::f32;
  if (args.layer.dtype == DType::f32) {
    maps_f32 ? reconstruct_task<float, float>(args, task) : reconstruct_task<float, bf16>(args, task);
  } else {
    maps_f32 ? reconstruct_task<bf16, float>(args, task) : reconstruct_task<bf16, bf16>(args, task);
  }
}

}  // namespace
}  // namespace spf
