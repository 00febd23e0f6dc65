// The dot-product tile: rows of W against samples of x, vectors along the pixels. encode and the code gradient
// of reconstruct are built of it. Floor: one FMA a (row, sample, pixel); W is read once.
#pragma once

#include <type_traits>

#include "prefetch.h"

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
    keep_in_register(v);
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

// Where OwnRows lie ahead. Few samples, long pieces of rows: a fixed number of bytes in the order of reading. Else some
// rows further, as the end of a piece is too near.
constexpr int kNearSamples = kTileBatch / 2;
constexpr int64_t kBytesAhead = 96 * 64;
constexpr int64_t kRowsAhead = 8;
// From this many samples on they are paced; fewer are read as fast as memory gives anyway.
constexpr int kPacedSamples = 4;

// acc[R][N] += rows of W times samples over the steps begin to end; OwnRows lie `distance` bytes from where it reads.
template <class Dot, int R, int N, class Ahead>
SPF_INLINE void dot_steps(vf (&acc)[R][N], const typename Dot::Weight* w, int64_t row_pitch,
                          const typename Dot::Packed* x, int64_t begin, int64_t end, Ahead& ahead, int64_t distance) {
  for (int64_t k = begin; k < end; ++k) {
    typename Dot::Vector rows[R];
    SPF_UNROLL
    for (int r = 0; r < R; ++r) rows[r] = Dot::load_weight(w + r * row_pitch + k * Dot::kStep);
    if constexpr (std::is_same_v<Ahead, OwnRows>) {
      const uintptr_t after = N < kPacedSamples ? 0 : zero_after(rows[R - 1]);
      SPF_UNROLL
      for (int r = 0; r < R; ++r) {
        const uintptr_t there = reinterpret_cast<uintptr_t>(w + r * row_pitch + k * Dot::kStep) + distance + after;
        // what is some rows away would push the samples out of L1
        N <= kNearSamples ? prefetch_l1(there) : prefetch_l2(there);
      }
    } else if constexpr (!std::is_same_v<Ahead, NoPrefetch>) {
      ahead.template prefetch<R * Dot::kStep * int64_t(sizeof(*w))>(0);
    }
    SPF_UNROLL
    for (int n = 0; n < N; ++n) {
      const typename Dot::Vector sample = Dot::load_packed(x + (k * N + n) * Dot::kStep);
      SPF_UNROLL
      for (int r = 0; r < R; ++r) acc[r][n] = Dot::multiply_add(acc[r][n], rows[r], sample);
    }
  }
}

// sums[R][N] (+)= rows of W times samples of x over `count` pixels. OwnRows: the last `distance` pixels prefetch `next`
// bytes from where they read, those before them within the rows.
template <class Dot, int R, int N, class Ahead>
SPF_INLINE void dot_tile(const typename Dot::Weight* w, int64_t row_pitch, const typename Dot::Packed* x, int64_t count,
                         bool first, vf* sums, Ahead& ahead, int64_t distance, int64_t next) {
  constexpr int64_t kStepBytes = Dot::kStep * sizeof(typename Dot::Weight);
  vf acc[R][N];
  SPF_UNROLL
  for (int r = 0; r < R; ++r) {
    SPF_UNROLL
    for (int n = 0; n < N; ++n) acc[r][n] = first ? vf{} : sums[r * N + n];
  }
  const int64_t steps = count / Dot::kStep, tail = count % Dot::kStep;
  if constexpr (std::is_same_v<Ahead, OwnRows> && N <= kNearSamples) {
    const int64_t last = smaller(steps, distance / Dot::kStep), turn = steps - last;
    dot_steps<Dot, R, N>(acc, w, row_pitch, x, 0, turn, ahead, last * kStepBytes);
    dot_steps<Dot, R, N>(acc, w, row_pitch, x, turn, steps, ahead, next - turn * kStepBytes);
  } else {
    dot_steps<Dot, R, N>(acc, w, row_pitch, x, 0, steps, ahead, next);
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
template <class Dot, int N, class Ahead>
inline void dot_rows(const typename Dot::Weight* w, int64_t row_pitch, int64_t rows, const typename Dot::Packed* x,
                     int64_t count, bool first, vf* sums, Ahead& ahead) {
  constexpr int R = 4 * N + 6 <= (kTileBatch == 12 ? 32 : 16) ? 4 : 2;
  constexpr int64_t kPixelsAhead = kBytesAhead / sizeof(*w);
  const bool near = N <= kNearSamples && R * count >= kPixelsAhead;
  const int64_t distance = near ? kPixelsAhead / R : count;
  const int64_t rows_ahead = near ? R : larger(kRowsAhead, divide_up(kPixelsAhead, larger(count, 1)));
  const auto next = [&](int64_t row) -> int64_t {
    if constexpr (std::is_same_v<Ahead, OwnRows>) {
      return (rows_ahead * row_pitch + (row + rows_ahead < rows ? 0 : ahead.jump)) * int64_t(sizeof(*w));
    }
    return 0;
  };
  // a copy, so that it can stay in registers
  Ahead mine = ahead;
  int64_t row = 0;
  for (; row + R <= rows; row += R) {
    dot_tile<Dot, R, N>(w + row * row_pitch, row_pitch, x, count, first, sums + row * N, mine, distance, next(row));
  }
  for (; row < rows; ++row) {
    dot_tile<Dot, 1, N>(w + row * row_pitch, row_pitch, x, count, first, sums + row * N, mine, distance, next(row));
  }
  ahead = mine;
}

}  // namespace
}  // namespace spf
