// What the kernels take: plain pointers, sizes and strides (in elements). No torch, no Python.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spf {

// The upper half of a float, as torch.bfloat16 stores it.
struct bf16 {
  uint16_t bits;
};

enum class DType : int { f32 = 0, bf16 = 1 };
enum class Activation : int { none = 0, relu = 1, tanh = 2, sigmoid = 3 };

// B batch, C maps, D code size, S pixels of a map.
struct Sizes {
  int64_t B, C, D, S;
};

// (B, C, S), pixels contiguous.
struct Maps {
  const void* data;
  int64_t stride_b, stride_c;
  DType dtype;
};

// (B, C, D), any strides: they are packed once a map.
struct Codes {
  const void* data;
  int64_t stride_b, stride_c, stride_d;
  DType dtype;
};

// (C, D, S) weights and the bias that belongs to them, both contiguous and of one dtype.
struct Layer {
  const void* weight;
  const void* bias;  // null: none
  DType dtype;
  Activation activation;
};

// A task is one map and one range of it; `range` is its length in rows (encode) or pixels (the others).
// Ranges follow from the sizes alone, never from the number of threads, so results do not depend on it.
struct EncodeArgs {
  Sizes sizes;
  Maps maps;
  Layer layer;
  void* codes;  // (B, C, D) of the maps' dtype
  int64_t range;
};

struct DecodeArgs {
  Sizes sizes;
  Codes codes;
  Layer layer;
  void* maps;  // (B, C, S) of the codes' dtype
  int64_t range;
};

struct OuterArgs {
  Sizes sizes;
  Codes left;
  Maps right;
  void* out;  // (C, D, S)
  DType out_dtype;
  bool stream;  // write past the caches
  int64_t range;
};

struct ReconstructArgs {
  Sizes sizes;
  Codes codes;
  Maps maps;
  Layer layer;
  double* loss;           // (tasks, B): partial sums of squares
  void* error;            // (B, C, S) of the maps' dtype, or null
  void* residual;         // (B, C, S) of the maps' dtype, or null
  float* codes_gradient;  // (tasks, B, D) partial sums, or null
  int64_t range;
};

// What a NAdam step changes in place: contiguous, of one shape; momentum and variance of one dtype.
struct NadamState {
  void* weight;
  void* momentum;
  void* variance;
  DType weight_dtype, state_dtype;
};

// One NAdam step's numbers.
struct NadamStep {
  float momentum_rate, variance_rate;  // 1 - beta1, 1 - beta2
  float epsilon;
  float weight_decay;   // times the weight, added to the gradient
  float weight_factor;  // times the weight: decoupled decay
  float gradient_step, momentum_step;
  float variance_scale;  // 1 / bias correction
  float sign;            // of the gradient: -1 to maximize
  uint32_t noise_key;    // of the random bits that round bf16 momentum and variance
};

// weight (C, D, S), its gradient the outer product of left and right, summed over the batch.
struct NadamFactoredArgs {
  Sizes sizes;
  NadamState state;
  Codes left;
  Maps right;
  NadamStep step;
  int64_t range;
};

// `count` elements, contiguous; `range` is in elements.
struct NadamDenseArgs {
  int64_t count;
  NadamState state;
  const void* gradient;
  DType gradient_dtype;
  NadamStep step;
  int64_t range;
};

// One instruction set's kernels.
struct Kernels {
  const char* name;
  void (*encode)(const EncodeArgs&, int64_t task);
  void (*decode)(const DecodeArgs&, int64_t task);
  void (*outer)(const OuterArgs&, int64_t task);
  void (*reconstruct)(const ReconstructArgs&, int64_t task);
  void (*nadam_factored)(const NadamFactoredArgs&, int64_t task);
  void (*nadam_dense)(const NadamDenseArgs&, int64_t task);
  float (*read_memory)(const float* from, int64_t count);
  void (*write_memory)(float* to, int64_t count, float value);
};

// Scratch memory of the calling thread, kept between calls, aligned to a page. Contents are undefined.
void* workspace(size_t bytes);

}  // namespace spf
