// The dot-product tile: rows of W against samples of x, vectors along the pixels. encode and the code gradient
// of reconstruct are built of it. Floor: one FMA a (row, sample, pixel); W is read once.
#pragma once

#include "vec.h"

namespace spf {
namespace {

// fp32 arithmetic; W in fp32 or bf16, x packed as fp32.
template <class W>
struct DotFloat {
  using Weight = W;
  using Packed = float;
  static constexpr int kStep = VL;  // pixels an iteration
  using Vector = vf;

  static SPF_INLINE Vector load_weight(const W* p) { return load(p); }
  static SPF_INLINE Vector load_weight_partial(const W* p, int64_t count) { return load_partial(p, count); }
  static SPF_INLINE Vector load_packed(const float* p) {
    vf v = load(p);
    keep_in_register(v);
    return v;
  }
  static SPF_INLINE vf multiply_add(vf acc, Vector w, Vector x) { return acc + w * x; }

  template <class T>
  static SPF_INLINE void pack(float* to, const T* from) {
    store(to, load(from));
  }
  template <class T>
  static SPF_INLINE void pack_partial(float* to, const T* from, int64_t count) {
    store(to, load_partial(from, count));
  }
};

#if defined(__AVX512BF16__)
// Both in bf16: the dot-product instruction adds two exact products to an fp32 sum.
struct DotBf16 {
  using Weight = bf16;
  using Packed = bf16;
  static constexpr int kStep = 2 * VL;
  using Vector = __m512i;

  static SPF_INLINE __mmask32 mask(int64_t count) { return __mmask32((1ull << count) - 1); }
  static SPF_INLINE Vector load_weight(const bf16* p) { return _mm512_loadu_si512(p); }
  static SPF_INLINE Vector load_weight_partial(const bf16* p, int64_t count) {
    return _mm512_maskz_loadu_epi16(mask(count), p);
  }
  static SPF_INLINE Vector load_packed(const bf16* p) {
    Vector v = _mm512_loadu_si512(p);
    asm("" : "+v"(v));
    return v;
  }
  static SPF_INLINE vf multiply_add(vf acc, Vector w, Vector x) {
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)x);
  }
  static SPF_INLINE void pack(bf16* to, const bf16* from) { _mm512_storeu_si512(to, _mm512_loadu_si512(from)); }
  static SPF_INLINE void pack_partial(bf16* to, const bf16* from, int64_t count) {
    _mm512_storeu_si512(to, _mm512_maskz_loadu_epi16(mask(count), from));
  }
};
#endif

// Packs `count` pixels of N samples as [step][sample][kStep], zeros behind the last pixel.
template <class Dot, class T>
inline void pack_samples(typename Dot::Packed* packed, const T* maps, int64_t stride_b, int64_t N, int64_t count) {
  const int64_t steps = count / Dot::kStep, tail = count % Dot::kStep;
  for (int64_t n = 0; n < N; ++n) {
    const T* from = maps + n * stride_b;
    typename Dot::Packed* to = packed + n * Dot::kStep;
    for (int64_t k = 0; k < steps; ++k) Dot::pack(to + k * N * Dot::kStep, from + k * Dot::kStep);
    if (tail) Dot::pack_partial(to + steps * N * Dot::kStep, from + steps * Dot::kStep, tail);
  }
}

// sums[R][N] (+)= rows of W times samples of x over `count` pixels. Prefetches W at `ahead` bytes from where it
// reads (0: not at all).
template <class Dot, int R, int N>
SPF_INLINE void dot_tile(const typename Dot::Weight* w, int64_t row_pitch, const typename Dot::Packed* x, int64_t count,
                         bool first, vf* sums, int64_t ahead) {
  vf acc[R][N];
  SPF_UNROLL
  for (int r = 0; r < R; ++r) {
    SPF_UNROLL
    for (int n = 0; n < N; ++n) acc[r][n] = first ? vf{} : sums[r * N + n];
  }
  const int64_t steps = count / Dot::kStep, tail = count % Dot::kStep;
  for (int64_t k = 0; k < steps; ++k) {
    typename Dot::Vector rows[R];
    SPF_UNROLL
    for (int r = 0; r < R; ++r) {
      const typename Dot::Weight* p = w + r * row_pitch + k * Dot::kStep;
      rows[r] = Dot::load_weight(p);
      if (ahead) prefetch_l2(reinterpret_cast<uintptr_t>(p) + ahead);
    }
    SPF_UNROLL
    for (int n = 0; n < N; ++n) {
      const typename Dot::Vector sample = Dot::load_packed(x + (k * N + n) * Dot::kStep);
      SPF_UNROLL
      for (int r = 0; r < R; ++r) acc[r][n] = Dot::multiply_add(acc[r][n], rows[r], sample);
    }
  }
  if (tail) {
    SPF_UNROLL
    for (int r = 0; r < R; ++r) {
      const typename Dot::Vector row = Dot::load_weight_partial(w + r * row_pitch + steps * Dot::kStep, tail);
      SPF_UNROLL
      for (int n = 0; n < N; ++n) {
        const typename Dot::Vector sample = Dot::load_packed(x + (steps * N + n) * Dot::kStep);
        acc[r][n] = Dot::multiply_add(acc[r][n], row, sample);
      }
    }
  }
  SPF_UNROLL
  for (int r = 0; r < R; ++r) {
    SPF_UNROLL
    for (int n = 0; n < N; ++n) sums[r * N + n] = acc[r][n];
  }
}

// All `rows` of one batch tile; sums is [rows][N].
template <class Dot, int N>
inline void dot_rows(const typename Dot::Weight* w, int64_t row_pitch, int64_t rows, const typename Dot::Packed* x,
                     int64_t count, bool first, vf* sums, int64_t ahead) {
  constexpr int R = 4 * N + 6 <= (kTileBatch == 12 ? 32 : 16) ? 4 : 2;
  int64_t row = 0;
  for (; row + R <= rows; row += R) {
    dot_tile<Dot, R, N>(w + row * row_pitch, row_pitch, x, count, first, sums + row * N, ahead);
  }
  for (; row < rows; ++row) {
    dot_tile<Dot, 1, N>(w + row * row_pitch, row_pitch, x, count, first, sums + row * N, ahead);
  }
}

}  // namespace
}  // namespace spf
