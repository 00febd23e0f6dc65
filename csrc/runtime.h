// Which kernels run, on how many threads, with what scratch memory.
#pragma once

#include <string>
#include <vector>

#include "types.h"

namespace spf {

// The instruction sets compiled in that this processor has, best first.
std::vector<std::string> available_isas();
// Throws std::invalid_argument for one that is not available.
void select_isa(const std::string& name);
const Kernels& kernels();

// The kernels over all tasks. `threads` is an upper bound: small problems use one.
void run_encode(EncodeArgs args, int threads);
void run_decode(DecodeArgs args, int threads);
void run_outer(OuterArgs args, int threads);
// loss (B,), codes_gradient (B, C, D) or null.
void run_reconstruct(ReconstructArgs args, float* loss, float* codes_gradient, int threads);
void run_nadam_factored(NadamFactoredArgs args, int threads);
void run_nadam_dense(NadamDenseArgs args, int threads);

// A pure read (returns a checksum) and a pure streaming write of `count` floats, for the benchmarks.
float measure_read(const float* from, int64_t count, int threads);
void measure_write(float* to, int64_t count, int threads);

bool has_openmp();

}  // namespace spf
