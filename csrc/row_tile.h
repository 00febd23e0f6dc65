// The row tile: a few rows of the output, vectors along the pixels, summed over k: acc[r] += a[k][r] * row k of b.
// decode and reconstruct sum over the code (rows are samples), outer sums over the batch (rows are code elements).
#pragma once

#include <type_traits>

#include "prefetch.h"

namespace spf {
namespace {

// Packs codes (b, d) of one map as [d][b] for one batch tile.
template <class T>
inline void pack_codes(float* packed, const T* codes, const Codes& layout, int64_t D, int64_t N) {
  for (int64_t n = 0; n < N; ++n) {
    const T* from = codes + n * layout.stride_b;
    for (int64_t d = 0; d < D; ++d) packed[d * N + n] = to_float(from[d * layout.stride_d]);
  }
}

// acc[N][V] over `rows` rows of W; `valid` < VL only where V is 1.
template <class W, int N, int V, class Ahead>
SPF_INLINE void decode_tile(const W* w, int64_t row_pitch, int64_t rows, const float* z, bool first, float* y,
                            int64_t y_pitch, int64_t valid, Ahead& ahead) {
  vf acc[N][V];
  SPF_UNROLL
  for (int n = 0; n < N; ++n) {
    SPF_UNROLL
    for (int v = 0; v < V; ++v) acc[n][v] = first ? vf{} : load(y + n * y_pitch + v * VL);
  }
  for (int64_t d = 0; d < rows; ++d) {
    const W* p = w + d * row_pitch;
    vf row[V];
    SPF_UNROLL
    for (int v = 0; v < V; ++v) {
      row[v] = valid < VL ? load_partial(p, valid) : load(p + v * VL);
      if constexpr (std::is_same_v<Ahead, SamePixels>) {
        prefetch_l2(reinterpret_cast<uintptr_t>(p + v * VL) + ahead.distance * int64_t(sizeof(W)));
      }
    }
    if constexpr (!std::is_same_v<Ahead, SamePixels> && !std::is_same_v<Ahead, NoPrefetch>) {
      ahead.template prefetch<V * VL * int64_t(sizeof(W))>(zero_after(row[V - 1]));
    }
    SPF_UNROLL
    for (int n = 0; n < N; ++n) {
      const vf code = splat(z[d * N + n]);
      SPF_UNROLL
      for (int v = 0; v < V; ++v) acc[n][v] += code * row[v];
    }
  }
  SPF_UNROLL
  for (int n = 0; n < N; ++n) {
    SPF_UNROLL
    for (int v = 0; v < V; ++v) store(y + n * y_pitch + v * VL, acc[n][v]);
  }
}

// One block of `pixels` of one batch tile: y[N][pixels] (+)= z W. y is padded to whole vectors.
template <class W, int N, class Ahead>
inline void decode_block(const W* w, int64_t row_pitch, int64_t rows, const float* z, bool first, float* y,
                         int64_t y_pitch, int64_t pixels, Ahead& ahead) {
  constexpr int V = N <= kTileBatch / 2 ? 4 : 2;
  // a copy, so that it can stay in registers
  Ahead mine = ahead;
  int64_t s = 0;
  for (; s + V * VL <= pixels; s += V * VL) {
    decode_tile<W, N, V>(w + s, row_pitch, rows, z, first, y + s, y_pitch, VL, mine);
  }
  for (; s < pixels; s += VL) {
    decode_tile<W, N, 1>(w + s, row_pitch, rows, z, first, y + s, y_pitch, smaller(VL, pixels - s), mine);
  }
  ahead = mine;
}

// out[R rows][V vectors] = sum over b of left[b][r] * right[b]; every element is written once.
template <class Out, int R, int V>
SPF_INLINE void outer_tile(const float* left, int64_t left_pitch, const float* right, int64_t right_pitch, int64_t B,
                           Out* out, int64_t out_pitch, int64_t valid, bool streaming) {
  vf acc[R][V];
  SPF_UNROLL
  for (int r = 0; r < R; ++r) {
    SPF_UNROLL
    for (int v = 0; v < V; ++v) acc[r][v] = vf{};
  }
  for (int64_t b = 0; b < B; ++b) {
    vf row[V];
    SPF_UNROLL
    for (int v = 0; v < V; ++v) row[v] = load(right + b * right_pitch + v * VL);
    SPF_UNROLL
    for (int r = 0; r < R; ++r) {
      const vf factor = splat(left[b * left_pitch + r]);
      SPF_UNROLL
      for (int v = 0; v < V; ++v) acc[r][v] += factor * row[v];
    }
  }
  SPF_UNROLL
  for (int r = 0; r < R; ++r) {
    SPF_UNROLL
    for (int v = 0; v < V; ++v) {
      Out* to = out + r * out_pitch + v * VL;
      if (valid < VL) {
        store_partial(to, acc[r][v], valid);
      } else if (streaming) {
        stream(to, acc[r][v]);
      } else {
        store(to, acc[r][v]);
      }
    }
  }
}

}  // namespace
}  // namespace spf
