// The machine's own limits, for the benchmarks: a pure read and a pure write of memory.
#pragma once

#include "prefetch.h"

namespace spf {
namespace {

// The sum of `count` floats in no particular order: what matters is that every byte is read.
float read_memory(const float* from, int64_t count) {
  constexpr int kStreams = 8;
  vf total[kStreams] = {};
  int64_t i = 0;
  for (; i + kStreams * VL <= count; i += kStreams * VL) {
    SPF_UNROLL
    for (int s = 0; s < kStreams; ++s) total[s] += load(from + i + s * VL);
    for (size_t line = 0; line < kStreams * sizeof(vf); line += 64) {
      prefetch_l2(reinterpret_cast<uintptr_t>(from + i) + 4096 + line);
    }
  }
  SPF_UNROLL
  for (int s = 1; s < kStreams; ++s) total[0] += total[s];
  return sum(total[0]);
}

// Streams `value` to `count` floats; `to` aligned to 64 bytes, count a multiple of VL.
void write_memory(float* to, int64_t count, float value) {
  const vf v = splat(value);
  for (int64_t i = 0; i + VL <= count; i += VL) stream(to + i, v);
  stream_fence();
}

}  // namespace
}  // namespace spf
