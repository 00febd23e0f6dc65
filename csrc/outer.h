// outer: out[c, d, s] = sum over b of left[b, c, d] * right[b, c, s], every dense weight gradient.
//
// Bytes: out once (streamed past the caches where it is large and aligned), left and right once.
#pragma once

#include "row_tile.h"

namespace spf {
namespace {

constexpr int64_t kOuterRows = 6;
constexpr int kOuterVectors = kTileBatch == 12 ? 4 : 2;

// Pixels a block: the samples of one block stay in L1, or in L2 for large batches.
inline int64_t outer_pixels(int64_t B) { return larger(4 * VL, smaller(256, 8192 / larger(B, 1) / (4 * VL) * (4 * VL))); }

template <class Out, int V>
SPF_INLINE void outer_rows(const float* left, const float* right, int64_t right_pitch, const Sizes& size, Out* out,
                           int64_t rows, int64_t valid, bool streaming) {
  switch (rows) {
    case 6: return outer_tile<Out, 6, V>(left, size.D, right, right_pitch, size.B, out, size.S, valid, streaming);
    case 5: return outer_tile<Out, 5, V>(left, size.D, right, right_pitch, size.B, out, size.S, valid, streaming);
    case 4: return outer_tile<Out, 4, V>(left, size.D, right, right_pitch, size.B, out, size.S, valid, streaming);
    case 3: return outer_tile<Out, 3, V>(left, size.D, right, right_pitch, size.B, out, size.S, valid, streaming);
    case 2: return outer_tile<Out, 2, V>(left, size.D, right, right_pitch, size.B, out, size.S, valid, streaming);
    default: return outer_tile<Out, 1, V>(left, size.D, right, right_pitch, size.B, out, size.S, valid, streaming);
  }
}

template <class Out>
void outer_block(const float* left, const float* right, int64_t right_pitch, const Sizes& size, Out* out,
                 int64_t pixels, bool streaming) {
  constexpr int V = kOuterVectors;
  for (int64_t d = 0; d < size.D; d += kOuterRows) {
    const int64_t rows = smaller(kOuterRows, size.D - d);
    Out* to = out + d * size.S;
    int64_t s = 0;
    for (; s + V * VL <= pixels; s += V * VL) {
      outer_rows<Out, V>(left + d, right + s, right_pitch, size, to + s, rows, VL, streaming);
    }
    for (; s < pixels; s += VL) {
      outer_rows<Out, 1>(left + d, right + s, right_pitch, size, to + s, rows, smaller(VL, pixels - s), streaming);
    }
  }
}

template <class T>
inline void pack_left(float* left, const T* from, const Codes& layout, const Sizes& size) {
  for (int64_t b = 0; b < size.B; ++b) {
    for (int64_t d = 0; d < size.D; ++d) {
      left[b * size.D + d] = to_float(from[b * layout.stride_b + d * layout.stride_d]);
    }
  }
}

// The samples' next `pixels` pixels, each sample padded to whole vectors with zeros.
template <class T>
inline void pack_right(float* right, int64_t pitch, const T* from, int64_t stride_b, int64_t B, int64_t pixels) {
  for (int64_t b = 0; b < B; ++b, from += stride_b, right += pitch) {
    int64_t i = 0;
    for (; i + VL <= pixels; i += VL) store(right + i, load(from + i));
    if (i < pixels) store(right + i, load_partial(from + i, pixels - i));
  }
}

template <class T, class Out>
void outer_task(const OuterArgs& args, int64_t task) {
  const Sizes& size = args.sizes;
  const int64_t ranges = divide_up(size.S, args.range);
  const int64_t c = task / ranges, begin = task % ranges * args.range;
  const int64_t end = smaller(size.S, begin + args.range);
  const int64_t block = outer_pixels(size.B);
  const int64_t left_size = round_up(size.B * size.D, 64);
  float* left = static_cast<float*>(workspace((left_size + size.B * block) * sizeof(float)));
  float* right = left + left_size;

  const int64_t offset = c * args.left.stride_c;
  if (args.left.dtype == DType::f32) {
    pack_left(left, static_cast<const float*>(args.left.data) + offset, args.left, size);
  } else {
    pack_left(left, static_cast<const bf16*>(args.left.data) + offset, args.left, size);
  }
  for (int64_t s = begin; s < end; s += block) {
    const int64_t pixels = smaller(block, end - s);
    const T* from = static_cast<const T*>(args.right.data) + c * args.right.stride_c + s;
    pack_right(right, block, from, args.right.stride_b, size.B, pixels);
    outer_block(left, right, block, size, static_cast<Out*>(args.out) + c * size.D * size.S + s, pixels, args.stream);
  }
  if (args.stream) stream_fence();
}

void outer(const OuterArgs& args, int64_t task) {
  const bool in_f32 = args.right.dtype == DType::f32;
  if (args.out_dtype == DType::f32) {
    in_f32 ? outer_task<float, float>(args, task) : outer_task<bf16, float>(args, task);
  } else {
    in_f32 ? outer_task<float, bf16>(args, task) : outer_task<bf16, bf16>(args, task);
  }
}

}  // namespace
}  // namespace spf
