// encode: codes[b, c, d] = act(sum over s of weight[c, d, s] * maps[b, c, s] + bias[c, d]).
//
// Bytes: W once, maps once, codes once. A chunk of pixels of the samples is packed into L1 and all rows of the
// range walk over it; the sums wait in L2 between chunks. W and the samples' next chunk are prefetched on the way.
#pragma once

#include "activations.h"
#include "dot_tile.h"

namespace spf {
namespace {

constexpr int64_t kRowBlock = 16;  // rows between two visits of the same batch tile
constexpr int64_t kBatchBlock = 4 * kTileBatch;

// Pixels packed at once: as many as L1 holds beside the rows.
template <class Packed>
constexpr int64_t encode_chunk(int64_t batch) {
  return 18 * 1024 / int64_t(sizeof(Packed)) / larger(1, smaller(batch, 12)) / 64 * 64;
}

// What one task reads and writes, resolved to its map and row range.
template <class Dot, class T>
struct EncodeTask {
  const EncodeArgs& args;
  int64_t c, row_begin, rows, chunk;
  typename Dot::Packed* packed;
  vf* sums;

  // Lines `begin` to `end` of the samples' next chunk, counted one sample after the other. Few at a time: a burst is
  // dropped, and what the packing misses it waits for.
  void prefetch_samples(const T* next, int64_t lines, int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; ++i) {
      prefetch_l1(reinterpret_cast<uintptr_t>(next + i / lines * args.maps.stride_b) + i % lines * 64);
    }
  }

  void accumulate(int64_t batch_begin, const BatchTiles& tiles) const {
    const Sizes& size = args.sizes;
    const auto* weight =
        static_cast<const typename Dot::Weight*>(args.layer.weight) + (c * size.D + row_begin) * size.S;
    const T* maps = static_cast<const T*>(args.maps.data) + c * args.maps.stride_c + batch_begin * args.maps.stride_b;
    if (size.S == 0) std::memset(sums, 0, tiles.batch * rows * sizeof(vf));
    for (int64_t k = 0; k < size.S; k += chunk) {
      const int64_t count = smaller(chunk, size.S - k);
      for (int64_t t = 0; t < tiles.count; ++t) {
        pack_samples<Dot>(packed + tiles.begin(t) * chunk, maps + tiles.begin(t) * args.maps.stride_b + k,
                          args.maps.stride_b, tiles.size(t), count);
      }
      // after the last chunk comes, mostly, what follows in memory: the next task
      const bool last_chunk = k + count == size.S;
      const T* next_samples = last_chunk ? maps + args.maps.stride_c : maps + k + count;
      const int64_t next_pixels = last_chunk ? smaller(chunk, size.S) * (c + 1 < size.C) : smaller(chunk, size.S - k - count);
      const int64_t lines = divide_up(next_pixels * int64_t(sizeof(T)), 64), all_lines = lines * tiles.batch;
      const int64_t next_chunk = last_chunk ? -k : count - rows * size.S;
      for (int64_t row = 0; row < rows; row += kRowBlock) {
        const int64_t block = smaller(kRowBlock, rows - row);
        prefetch_samples(next_samples, lines, all_lines * row / rows, all_lines * (row + block) / rows);
        OwnRows ahead{row + block < rows ? 0 : next_chunk};
        NoPrefetch nothing;
        for (int64_t t = 0; t < tiles.count; ++t) {
          with_constant(tiles.size(t), [&](auto n) {
            const auto walk = [&](auto& prefetch) {
              constexpr int N = decltype(n)::value;
              dot_rows<Dot, N>(weight + row * size.S + k, size.S, block, packed + tiles.begin(t) * chunk, count, k == 0,
                               sums + tiles.begin(t) * rows + row * N, prefetch);
            };
            t == 0 ? walk(ahead) : walk(nothing);
          });
        }
      }
    }
  }

  void finish(int64_t batch_begin, const BatchTiles& tiles) const {
    const Sizes& size = args.sizes;
    using W = typename Dot::Weight;
    const W* bias = args.layer.bias ? static_cast<const W*>(args.layer.bias) + c * size.D + row_begin : nullptr;
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int64_t N = tiles.size(t);
      for (int64_t n = 0; n < N; ++n) {
        const vf* column = sums + tiles.begin(t) * rows + n;
        T* out = static_cast<T*>(args.codes) + ((batch_begin + tiles.begin(t) + n) * size.C + c) * size.D + row_begin;
        int64_t row = 0;
        for (; row + VL <= rows; row += VL) {
          vf v = sum_each(column + row * N, N);
          if (bias) v += load(bias + row);
          store(out + row, activate(v, args.layer.activation));
        }
        if (row < rows) {
          vf v = sum_each_partial(column + row * N, N, rows - row);
          if (bias) v += load_partial(bias + row, rows - row);
          store_partial(out + row, activate(v, args.layer.activation), rows - row);
        }
      }
    }
  }
};

template <class Dot, class T>
void encode_task(const EncodeArgs& args, int64_t task) {
  const Sizes& size = args.sizes;
  const int64_t ranges = divide_up(size.D, args.range);
  const int64_t row_begin = task % ranges * args.range;
  const int64_t rows = smaller(args.range, size.D - row_begin);
  const int64_t batch_block = smaller(kBatchBlock, size.B);
  const int64_t chunk = encode_chunk<typename Dot::Packed>(batch_block);
  const int64_t packed_bytes = batch_block * chunk * sizeof(typename Dot::Packed);
  const int64_t sums_bytes = batch_block * rows * sizeof(vf);
  char* scratch = static_cast<char*>(workspace(packed_bytes + sums_bytes));
  EncodeTask<Dot, T> work{args,
                          task / ranges,
                          row_begin,
                          rows,
                          chunk,
                          reinterpret_cast<typename Dot::Packed*>(scratch + sums_bytes),
                          reinterpret_cast<vf*>(scratch)};
  for (int64_t b = 0; b < size.B; b += kBatchBlock) {
    const BatchTiles tiles(smaller(kBatchBlock, size.B - b));
    work.accumulate(b, tiles);
    work.finish(b, tiles);
  }
}

void encode(const EncodeArgs& args, int64_t task) {
  const bool maps_f32 = args.maps.dtype == DType::f32;
  if (args.layer.dtype == DType::f32) {
    maps_f32 ? encode_task<DotFloat<float>, float>(args, task) : encode_task<DotFloat<float>, bf16>(args, task);
  } else if (maps_f32) {
    encode_task<DotFloat<bf16>, float>(args, task);
  } else {
#if defined(__AVX512BF16__)
    encode_task<DotBf16, bf16>(args, task);
#else
    encode_task<DotFloat<bf16>, bf16>(args, task);
#endif
  }
}

}  // namespace
}  // namespace spf
