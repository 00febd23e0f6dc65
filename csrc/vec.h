// One vector of floats of the instruction set being compiled, by GCC's vector extensions. Intrinsics appear
// here alone, and only for what the extensions lack: masked tails, streaming stores, square roots, the
// bf16 dot product.
// Everything is in an unnamed namespace: an AVX-512 copy of an inline function must never win the link.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 12
#error "csrc needs g++ 12 or newer (__builtin_shufflevector)"
#endif

#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "types.h"

namespace spf {
namespace {

#define SPF_INLINE inline __attribute__((always_inline))
#define SPF_UNROLL _Pragma("GCC unroll 16")

#if defined(__AVX512F__)
constexpr int VL = 16;
#elif defined(__AVX2__)
constexpr int VL = 8;
#else
constexpr int VL = 4;
#endif

// Samples a register tile holds: 24 accumulators where there are 32 registers, 12 where there are 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileBatch = 12;
#else
constexpr int kTileBatch = 6;
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));
typedef vf vf_unaligned __attribute__((aligned(4), may_alias));
typedef vh vh_unaligned __attribute__((aligned(2), may_alias));

template <class To, class From>
SPF_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

SPF_INLINE vf splat(float value) { return value - vf{}; }
SPF_INLINE vf select(vi mask, vf yes, vf no) { return mask ? yes : no; }

// The correctly rounded square root.
SPF_INLINE vf square_root(vf v) {
#if defined(__AVX512F__)
  return (vf)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)v);
#elif defined(__SSE2__)
  return (vf)_mm_sqrt_ps((__m128)v);
#else
  SPF_UNROLL
  for (int i = 0; i < VL; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
#endif
}

// GCC 12 splits the conversion of a vector in halves.
SPF_INLINE vf widen(vh half) {
#if defined(__AVX512F__)
  const vu bits = (vu)_mm512_cvtepu16_epi32((__m256i)half);
#elif defined(__AVX2__)
  const vu bits = (vu)_mm256_cvtepu16_epi32((__m128i)half);
#else
  const vu bits = __builtin_convertvector(half, vu);
#endif
  return bit_cast<vf>(bits << 16);
}

// Round to nearest even; a NaN stays a (quiet) NaN. With the instruction for it what is below the normal range
// becomes zero, as it does in the dot product.
SPF_INLINE vh narrow(vf value) {
#if defined(__AVX512BF16__)
  return (vh)_mm512_cvtneps_pbh((__m512)value);
#else
  const vu bits = bit_cast<vu>(value);
  const vu rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const vu quiet = (bits >> 16) | 0x40u;
  const vi is_nan = value != value;
  return __builtin_convertvector(is_nan ? quiet : rounded, vh);
#endif
}

SPF_INLINE float to_float(float value) { return value; }
SPF_INLINE float to_float(bf16 value) { return bit_cast<float>(uint32_t(value.bits) << 16); }

SPF_INLINE vf load(const float* p) { return *reinterpret_cast<const vf_unaligned*>(p); }
SPF_INLINE vf load(const bf16* p) { return widen(*reinterpret_cast<const vh_unaligned*>(p)); }
SPF_INLINE void store(float* p, vf v) { *reinterpret_cast<vf_unaligned*>(p) = v; }
SPF_INLINE void store(bf16* p, vh v) { *reinterpret_cast<vh_unaligned*>(p) = v; }
SPF_INLINE void store(bf16* p, vf v) { store(p, narrow(v)); }

// The first `count` < VL elements, zeros behind them; nothing beyond them is touched.
#if defined(__AVX512F__)
SPF_INLINE vf load_partial(const float* p, int64_t count) {
  return (vf)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p);
}
SPF_INLINE vf load_partial(const bf16* p, int64_t count) {
  return widen((vh)_mm256_maskz_loadu_epi16(__mmask16((1u << count) - 1), p));
}
SPF_INLINE void store_partial(float* p, vf v, int64_t count) {
  _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), (__m512)v);
}
SPF_INLINE void store_partial(bf16* p, vh v, int64_t count) {
  _mm256_mask_storeu_epi16(p, __mmask16((1u << count) - 1), (__m256i)v);
}
SPF_INLINE void store_partial(bf16* p, vf v, int64_t count) { store_partial(p, narrow(v), count); }
#else
template <class T>
SPF_INLINE vf load_partial(const T* p, int64_t count) {
  T padded[VL] = {};
  for (int64_t i = 0; i < count; ++i) padded[i] = p[i];
  return load(padded);
}
template <class T, class V>
SPF_INLINE void store_partial(T* p, V v, int64_t count) {
  T padded[VL];
  store(padded, v);
  for (int64_t i = 0; i < count; ++i) p[i] = padded[i];
}
#endif

// v with zeros behind its first `count` < VL elements.
SPF_INLINE vf keep_first(vf v, int64_t count) {
  float lanes[VL];
  store(lanes, v);
  return load_partial(lanes, count);
}

// Streaming stores want the address aligned to the vector.
#if defined(__AVX512F__)
SPF_INLINE void stream(float* p, vf v) { _mm512_stream_ps(p, (__m512)v); }
SPF_INLINE void stream(bf16* p, vf v) { _mm256_stream_si256((__m256i*)p, (__m256i)narrow(v)); }
#elif defined(__AVX2__)
SPF_INLINE void stream(float* p, vf v) { _mm256_stream_ps(p, (__m256)v); }
SPF_INLINE void stream(bf16* p, vf v) { _mm_stream_si128((__m128i*)p, (__m128i)narrow(v)); }
#elif defined(__SSE2__)
SPF_INLINE void stream(float* p, vf v) { _mm_stream_ps(p, (__m128)v); }
SPF_INLINE void stream(bf16* p, vf v) { store(p, v); }
#else
SPF_INLINE void stream(float* p, vf v) { store(p, v); }
SPF_INLINE void stream(bf16* p, vf v) { store(p, v); }
#endif

SPF_INLINE void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Keeps a loaded vector in one register: GCC otherwise folds the load into every use of it.
SPF_INLINE void keep_in_register(vf& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__SSE2__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

// The bits of its first element.
SPF_INLINE uint32_t first_bits(vf v) { return bit_cast<vu>(v)[0]; }

// Both for the vectors of the bf16 dot product.
#if defined(__AVX512F__)
SPF_INLINE void keep_in_register(__m512i& v) { asm("" : "+v"(v)); }
SPF_INLINE uint32_t first_bits(__m512i v) { return first_bits((vf)v); }
#endif

// The sum of the elements, always in the same (pairwise) order.
SPF_INLINE float sum(vf v) {
  float lanes[VL];
  store(lanes, v);
  typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));
  quad total = *reinterpret_cast<quad*>(lanes);
  SPF_UNROLL
  for (int i = 4; i < VL; i += 4) total += *reinterpret_cast<quad*>(lanes + i);
  return (total[0] + total[2]) + (total[1] + total[3]);
}

template <int... I>
struct Lanes {};
#if defined(__AVX512F__)
using AllLanes = Lanes<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>;
#elif defined(__AVX2__)
using AllLanes = Lanes<0, 1, 2, 3, 4, 5, 6, 7>;
#else
using AllLanes = Lanes<0, 1, 2, 3>;
#endif

// Lane i of a step of sum_each: `Length` floats of a vector hold partial sums of one input; each pair of halves is added.
template <int Length, int Half, int... I>
SPF_INLINE vf halves(vf a, vf b, Lanes<I...>) {
  constexpr int kParts = VL / Length;
  return __builtin_shufflevector(
      a, b, (I / (Length / 2) / kParts * VL + I / (Length / 2) % kParts * Length + I % (Length / 2) + Half * Length / 2)...);
}

// The sums of VL vectors as one vector, lane i that of the i-th, each in the same (pairwise) order.
template <int Count = VL>
SPF_INLINE vf sum_each(const vf* v, int64_t stride) {
  if constexpr (Count == 1) {
    return *v;
  } else {
    constexpr int kLength = 2 * VL / Count;
    const vf a = sum_each<Count / 2>(v, stride), b = sum_each<Count / 2>(v + Count / 2 * stride, stride);
    return halves<kLength, 0>(a, b, AllLanes{}) + halves<kLength, 1>(a, b, AllLanes{});
  }
}

// The same of the first `count` of them.
SPF_INLINE vf sum_each_partial(const vf* v, int64_t stride, int64_t count) {
  vf padded[VL] = {};
  for (int64_t i = 0; i < count; ++i) padded[i] = v[i * stride];
  return sum_each(padded, 1);
}

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// A batch in tiles of nearly equal size, none above kTileBatch: 16 is 8 + 8, not 12 + 4.
struct BatchTiles {
  int64_t batch, count;
  explicit BatchTiles(int64_t B) : batch(B), count(divide_up(B, kTileBatch)) {}
  int64_t begin(int64_t tile) const { return batch * tile / count; }
  int64_t size(int64_t tile) const { return begin(tile + 1) - begin(tile); }
  // The tile that holds a sample.
  int64_t of(int64_t sample) const { return ((sample + 1) * count - 1) / batch; }
};

template <int N>
struct Constant {
  static constexpr int value = N;
};

// f(Constant<n>{}) for a run-time n in 1 .. kTileBatch.
template <int N = kTileBatch, class F>
SPF_INLINE void with_constant(int64_t n, F f) {
  if constexpr (N >= 1) {
    if (n == N) {
      f(Constant<N>{});
    } else {
      with_constant<N - 1>(n, f);
    }
  }
}

}  // namespace
}  // namespace spf
