// What reconstruct does between decoding and the codes' gradient: the decoded pixels against the maps.
#pragma once

#include "activations.h"

namespace spf {
namespace {

template <class W, class T>
struct Comparison {
  const ReconstructArgs& args;
  int64_t c;

  // `count` pixels of sample b from s on, y being their sums without the bias: returns the sum of squares, writes what
  // is asked for and hands on each vector of errors, keep(index of its first pixel, error).
  template <class F>
  SPF_INLINE double pixels(const float* y, int64_t b, int64_t s, int64_t count, F keep) const {
    const Sizes& size = args.sizes;
    const W* bias = args.layer.bias ? static_cast<const W*>(args.layer.bias) + c * size.S + s : nullptr;
    const T* map = static_cast<const T*>(args.maps.data) + b * args.maps.stride_b + c * args.maps.stride_c + s;
    const int64_t offset = (b * size.C + c) * size.S + s;
    vf squares = {};
    for (int64_t i = 0; i < count; i += VL) {
      keep(i, compare(load(y + i), bias ? bias + i : nullptr, map + i, offset + i, smaller(VL, count - i), squares));
    }
    return double(sum(squares));
  }

 private:
  SPF_INLINE vf compare(vf y_sum, const W* bias, const T* map, int64_t offset, int64_t count, vf& squares) const {
    const bool whole = count == VL;
    if (bias) y_sum += whole ? load(bias) : load_partial(bias, count);
    const vf out = activate(y_sum, args.layer.activation);
    vf residual = out - (whole ? load(map) : load_partial(map, count));
    vf error = residual * activation_slope(out, args.layer.activation);
    if (!whole) {
      // the lanes behind the last pixel hold act(0), or NaN where a code is not finite
      residual = keep_first(residual, count);
      error = keep_first(error, count);
    }
    squares += residual * residual;
    write(static_cast<T*>(args.residual), offset, residual, count);
    write(static_cast<T*>(args.error), offset, error, count);
    return error;
  }

  static SPF_INLINE void write(T* to, int64_t offset, vf v, int64_t count) {
    if (!to) return;
    count == VL ? store(to + offset, v) : store_partial(to + offset, v, count);
  }
};

}  // namespace
}  // namespace spf
