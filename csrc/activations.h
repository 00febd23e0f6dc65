// Activations on a vector of floats, and their derivatives as functions of the output.
#pragma once

#include "vec.h"

namespace spf {
namespace {

// exp by range reduction to [-ln2/2, ln2/2] and a polynomial (Cephes expf); 1 ulp. NaN stays NaN.
SPF_INLINE vf exp_vec(vf x) {
  // clamped where the result would leave the normal range, so never inf or 0
  x = select(x > splat(88.0f), splat(88.0f), x);
  x = select(x < splat(-87.0f), splat(-87.0f), x);
  const vf rounder = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const vf scaled = x * splat(1.44269504088896341f) + rounder;
  const vf n = scaled - rounder;
  vf r = x - n * splat(0.693359375f);
  r = r - n * splat(-2.12194440e-4f);
  vf p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = p * (r * r) + r + splat(1.0f);
  const vu exponent = (bit_cast<vu>(scaled) << 23) + 0x3f800000u;
  return p * bit_cast<vf>(exponent);
}

SPF_INLINE vf sigmoid_vec(vf x) { return splat(1.0f) / (splat(1.0f) + exp_vec(-x)); }

// A polynomial near 0, where 1 - 2 / (exp(2x) + 1) would cancel (Cephes tanhf).
SPF_INLINE vf tanh_vec(vf x) {
  const vf magnitude = select(x < vf{}, -x, x);
  const vf square = x * x;
  vf p = splat(-5.70498872745e-3f);
  p = p * square + splat(2.06390887954e-2f);
  p = p * square + splat(-5.37397155531e-2f);
  p = p * square + splat(1.33314422036e-1f);
  p = p * square + splat(-3.33332819422e-1f);
  const vf near_zero = x + x * (square * p);
  const vf far = splat(1.0f) - splat(2.0f) / (exp_vec(magnitude + magnitude) + splat(1.0f));
  const vf signed_far = select(x < vf{}, -far, far);
  return select(magnitude < splat(0.625f), near_zero, signed_far);
}

SPF_INLINE vf activate(vf x, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return select(x < vf{}, vf{}, x);
    case Activation::tanh:
      return tanh_vec(x);
    case Activation::sigmoid:
      return sigmoid_vec(x);
    case Activation::none:
      break;
  }
  return x;
}

// d activate(x) / dx, from y = activate(x).
SPF_INLINE vf activation_slope(vf y, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return select(y > vf{}, splat(1.0f), vf{});
    case Activation::tanh:
      return splat(1.0f) - y * y;
    case Activation::sigmoid:
      return y * (splat(1.0f) - y);
    case Activation::none:
      break;
  }
  return splat(1.0f);
}

}  // namespace
}  // namespace spf
