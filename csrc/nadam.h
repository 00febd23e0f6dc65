// nadam: one step of NAdam in one pass over weight, momentum and variance. The gradient is made in registers from its
// factors (the sum over b of left[b, c, d] * right[b, c, s]), or read.
//
// Bytes: weight, momentum and variance read and written once, right once; a dense gradient once. Ordinary stores: what
// was read a moment ago is in cache.
#pragma once

#include <cfloat>
#include <type_traits>

#include "outer.h"

namespace spf {
namespace {

constexpr int64_t kNadamRows = 2;
constexpr int kNadamVectors = 4;

// Pixels a block: long enough for whole pages of a row, the samples of one block in L2.
inline int64_t nadam_pixels(int64_t B) {
  constexpr int64_t kTile = kNadamVectors * VL;
  return larger(kTile, smaller(1024, 32768 / larger(B, 1) / kTile * kTile));
}

template <int... I>
SPF_INLINE vu lane_numbers(Lanes<I...>) {
  return vu{uint32_t(I)...};
}

// 32 random bits for each of the elements from `first` on: Wellons' lowbias32 of index and key.
SPF_INLINE vu noise_bits(uint32_t first, uint32_t key) {
  vu x = (lane_numbers(AllLanes{}) + first) ^ key;
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// To bf16, up with the probability of the part cut off, which makes it unbiased. Infinity has no such part; a NaN that
// comes out of arithmetic is a quiet one, and stays one without its lower half.
SPF_INLINE vh narrow_randomly(vf value, vu noise16) {
  const vu bits = bit_cast<vu>(value);
  const vi is_nan = value != value;
  return __builtin_convertvector((is_nan ? bits : bits + noise16) >> 16, vh);
}

template <class T>
SPF_INLINE vf load_first(const T* p, int64_t valid) {
  return valid < VL ? load_partial(p, valid) : load(p);
}
template <class T, class V>
SPF_INLINE void store_first(T* p, V v, int64_t valid) {
  valid < VL ? store_partial(p, v, valid) : store(p, v);
}

// A moving average, computed from the nearer end, as torch.lerp does: from the other one, a small result is lost in
// the rounding of a large one.
struct Average {
  vi near_old;
  vf share;

  explicit SPF_INLINE Average(float rate)
      : near_old(splat(rate) < splat(0.5f)), share(splat(rate < 0.5f ? rate : rate - 1)) {}
  SPF_INLINE vf operator()(vf old, vf sample) const { return select(near_old, old, sample) + share * (sample - old); }
};

// A step's numbers in registers: in memory they would be read again after every store.
struct NadamVectors {
  Average average_gradient, average_square;
  vf epsilon, weight_decay, weight_factor, gradient_step, momentum_step, variance_scale, sign;
  bool with_decay;
  uint32_t noise_key;

  explicit SPF_INLINE NadamVectors(const NadamStep& step)
      : average_gradient(step.momentum_rate),
        average_square(step.variance_rate),
        epsilon(splat(step.epsilon)),
        weight_decay(splat(step.weight_decay)),
        weight_factor(splat(step.weight_factor)),
        gradient_step(splat(step.gradient_step)),
        momentum_step(splat(step.momentum_step)),
        variance_scale(splat(step.variance_scale)),
        sign(splat(step.sign)),
        with_decay(step.weight_decay != 0),
        noise_key(step.noise_key) {}
};

// Weight, momentum and variance, and where the pass is in them.
template <class W, class M>
struct NadamArrays {
  W* weight;
  M* momentum;
  M* variance;

  explicit NadamArrays(const NadamState& state)
      : weight(static_cast<W*>(state.weight)),
        momentum(static_cast<M*>(state.momentum)),
        variance(static_cast<M*>(state.variance)) {}

  SPF_INLINE void prefetch(int64_t at) const {
    prefetch_l2(reinterpret_cast<uintptr_t>(weight) + at * int64_t(sizeof(W)));
    prefetch_l2(reinterpret_cast<uintptr_t>(momentum) + at * int64_t(sizeof(M)));
    prefetch_l2(reinterpret_cast<uintptr_t>(variance) + at * int64_t(sizeof(M)));
  }

  // The `valid` elements from `at` on, with their gradient.
  SPF_INLINE void update(const NadamVectors& step, int64_t at, vf gradient, int64_t valid) const {
    vf w = load_first(weight + at, valid);
    // read before the rest: right before its store, where GCC would put it, was slower in most runs
    keep_in_register(w);
    vf m = load_first(momentum + at, valid);
    vf v = load_first(variance + at, valid);
    vf g = gradient * step.sign;
    // 0 times an infinite weight would be NaN
    if (step.with_decay) g += step.weight_decay * w;
    m = step.average_gradient(m, g);
    // an overflown variance stays infinite, as torch's does: infinity minus infinity would be NaN
    v = select(v > splat(FLT_MAX), v, step.average_square(v, g * g));
    const vf root = square_root(v * step.variance_scale) + step.epsilon;
    w = w * step.weight_factor - (step.gradient_step * g + step.momentum_step * m) / root;
    store_first(weight + at, w, valid);
    if constexpr (std::is_same_v<M, bf16>) {
      const vu noise = noise_bits(uint32_t(at), step.noise_key);
      store_first(momentum + at, narrow_randomly(m, noise >> 16), valid);
      store_first(variance + at, narrow_randomly(v, noise & 0xffffu), valid);
    } else {
      store_first(momentum + at, m, valid);
      store_first(variance + at, v, valid);
    }
  }
};

// R rows by V vectors from `at` on; left is [row][b]. `ahead` elements on, or 0, is what comes next.
template <int R, int V, class Arrays>
SPF_INLINE void nadam_tile(const Arrays& arrays, const NadamVectors& step, const float* left, const float* right,
                           int64_t right_pitch, int64_t B, int64_t at, int64_t row_pitch, int64_t valid,
                           int64_t ahead) {
  vf gradient[R][V];
  SPF_UNROLL
  for (int r = 0; r < R; ++r) {
    SPF_UNROLL
    for (int v = 0; v < V; ++v) {
      gradient[r][v] = vf{};
      if (ahead) arrays.prefetch(at + r * row_pitch + v * VL + ahead);
    }
  }
  for (int64_t b = 0; b < B; ++b) {
    SPF_UNROLL
    for (int v = 0; v < V; ++v) {
      vf row = load(right + b * right_pitch + v * VL);
      keep_in_register(row);
      SPF_UNROLL
      for (int r = 0; r < R; ++r) gradient[r][v] += splat(left[r * B + b]) * row;
    }
  }
  SPF_UNROLL
  for (int r = 0; r < R; ++r) {
    SPF_UNROLL
    for (int v = 0; v < V; ++v) arrays.update(step, at + r * row_pitch + v * VL, gradient[r][v], valid);
  }
}

template <int R, class Arrays>
void nadam_rows(const Arrays& arrays, const NadamStep& numbers, const float* left, const float* right,
                int64_t right_pitch, const Sizes& size, int64_t at, int64_t pixels, int64_t ahead) {
  constexpr int V = kNadamVectors;
  const NadamVectors step(numbers);
  int64_t s = 0;
  for (; s + V * VL <= pixels; s += V * VL) {
    nadam_tile<R, V>(arrays, step, left, right + s, right_pitch, size.B, at + s, size.S, VL, ahead);
  }
  for (; s + VL <= pixels; s += VL) {
    nadam_tile<R, 1>(arrays, step, left, right + s, right_pitch, size.B, at + s, size.S, VL, ahead);
  }
  if (s < pixels) {
    nadam_tile<R, 1>(arrays, step, left, right + s, right_pitch, size.B, at + s, size.S, pixels - s, ahead);
  }
}

inline void pack_factors(const NadamFactoredArgs& args, int64_t c, float* left) {
  const int64_t offset = c * args.left.stride_c;
  const Sizes& size = args.sizes;
  if (args.left.dtype == DType::f32) {
    pack_codes(left, static_cast<const float*>(args.left.data) + offset, args.left, size.D, size.B);
  } else {
    pack_codes(left, static_cast<const bf16*>(args.left.data) + offset, args.left, size.D, size.B);
  }
}

inline void pack_pixels(const NadamFactoredArgs& args, int64_t c, int64_t s, int64_t pixels, float* right,
                        int64_t pitch) {
  const int64_t offset = c * args.right.stride_c + s;
  const int64_t B = args.sizes.B;
  if (args.right.dtype == DType::f32) {
    pack_right(right, pitch, static_cast<const float*>(args.right.data) + offset, args.right.stride_b, B, pixels);
  } else {
    pack_right(right, pitch, static_cast<const bf16*>(args.right.data) + offset, args.right.stride_b, B, pixels);
  }
}

template <class W, class M>
void nadam_factored_task(const NadamFactoredArgs& args, int64_t task) {
  const Sizes& size = args.sizes;
  const NadamArrays<W, M> arrays(args.state);
  const int64_t ranges = divide_up(size.S, args.range);
  const int64_t c = task / ranges, begin = task % ranges * args.range;
  const int64_t end = smaller(size.S, begin + args.range);
  const int64_t block = nadam_pixels(size.B);
  const int64_t left_size = round_up(size.B * size.D, 64);
  float* left = static_cast<float*>(workspace((left_size + size.B * block) * sizeof(float)));
  float* right = left + left_size;
  pack_factors(args, c, left);
  for (int64_t s = begin; s < end; s += block) {
    const int64_t pixels = smaller(block, end - s);
    pack_pixels(args, c, s, pixels, right, block);
    // after the last rows comes the next block, or the next map
    const int64_t next = s + pixels < size.S ? pixels : size.D * size.S - s;
    for (int64_t d = 0; d < size.D; d += kNadamRows) {
      const int64_t at = (c * size.D + d) * size.S + s;
      const int64_t ahead = d + kNadamRows < size.D ? kNadamRows * size.S : next - d * size.S;
      if (d + 1 < size.D) {
        nadam_rows<2>(arrays, args.step, left + d * size.B, right, block, size, at, pixels, ahead);
      } else {
        nadam_rows<1>(arrays, args.step, left + d * size.B, right, block, size, at, pixels, ahead);
      }
    }
  }
}

template <class W, class M, class G>
void nadam_dense_task(const NadamDenseArgs& args, int64_t task) {
  const NadamArrays<W, M> arrays(args.state);
  const NadamVectors step(args.step);
  const G* gradient = static_cast<const G*>(args.gradient);
  const int64_t end = smaller(args.count, (task + 1) * args.range);
  int64_t at = task * args.range;
  for (; at + VL <= end; at += VL) arrays.update(step, at, load(gradient + at), VL);
  if (at < end) arrays.update(step, at, load_partial(gradient + at, end - at), end - at);
}

void nadam_factored(const NadamFactoredArgs& args, int64_t task) {
  const bool state_f32 = args.state.state_dtype == DType::f32;
  if (args.state.weight_dtype == DType::f32) {
    state_f32 ? nadam_factored_task<float, float>(args, task) : nadam_factored_task<float, bf16>(args, task);
  } else {
    state_f32 ? nadam_factored_task<bf16, float>(args, task) : nadam_factored_task<bf16, bf16>(args, task);
  }
}

template <class W, class M>
void nadam_dense_of(const NadamDenseArgs& args, int64_t task) {
  args.gradient_dtype == DType::f32 ? nadam_dense_task<W, M, float>(args, task)
                                    : nadam_dense_task<W, M, bf16>(args, task);
}

void nadam_dense(const NadamDenseArgs& args, int64_t task) {
  const bool state_f32 = args.state.state_dtype == DType::f32;
  if (args.state.weight_dtype == DType::f32) {
    state_f32 ? nadam_dense_of<float, float>(args, task) : nadam_dense_of<float, bf16>(args, task);
  } else {
    state_f32 ? nadam_dense_of<bf16, float>(args, task) : nadam_dense_of<bf16, bf16>(args, task);
  }
}

}  // namespace
}  // namespace spf
