#include "runtime.h"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__linux__) && defined(SPF_X86)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>

extern "C" {
const spf::Kernels* spf_kernels_baseline();
#if defined(SPF_X86)
const spf::Kernels* spf_kernels_avx2();
const spf::Kernels* spf_kernels_avx512();
const spf::Kernels* spf_kernels_avx512bf16();
const spf::Kernels* spf_kernels_amx();
#endif
}

namespace spf {
namespace {

// Linux gives a process the tiles' registers on request.
bool amx_granted() {
#if defined(__linux__) && defined(SPF_X86)
  constexpr unsigned kTileBits = (1u << 22) | (1u << 24);  // AMX-BF16, AMX-TILE
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTileBits) != kTileBits) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

std::vector<const Kernels*> find_kernels() {
  std::vector<const Kernels*> found;
#if defined(SPF_X86)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool avx512bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  if (avx512bf16 && amx_granted()) found.push_back(spf_kernels_amx());
  if (avx512bf16) found.push_back(spf_kernels_avx512bf16());
  if (avx512) found.push_back(spf_kernels_avx512());
  if (avx2) found.push_back(spf_kernels_avx2());
#endif
  found.push_back(spf_kernels_baseline());
  return found;
}

const std::vector<const Kernels*>& all_kernels() {
  static const std::vector<const Kernels*> found = find_kernels();
  return found;
}

std::atomic<const Kernels*> selected{nullptr};

struct Free {
  void operator()(void* p) const { std::free(p); }
};
struct Scratch {
  std::unique_ptr<void, Free> memory;
  size_t size = 0;
};

// Below this many multiply-adds (some 50 us of one core) a team of threads costs more than it saves.
constexpr int64_t kGrain = int64_t(1) << 21;
// Few maps are cut into ranges until there are about this many tasks, if the ranges stay long enough to be efficient.
constexpr int64_t kTasks = 64;

int64_t split(int64_t C, int64_t length, int64_t multiple, int64_t smallest) {
  const int64_t parts = (kTasks + std::max<int64_t>(C, 1) - 1) / std::max<int64_t>(C, 1);
  const int64_t range = (length + parts - 1) / parts;
  return std::max(smallest, (range + multiple - 1) / multiple * multiple);
}

int64_t task_count(int64_t C, int64_t length, int64_t range) { return C * ((length + range - 1) / range); }

// Multiply-adds; an update of one element costs about as much as 16.
constexpr int64_t kUpdate = 16;
template <class Args>
int64_t work(const Args& args) {
  return args.sizes.B * args.sizes.C * args.sizes.D * args.sizes.S;
}
int64_t work(const NadamFactoredArgs& args) {
  return (args.sizes.B + kUpdate) * args.sizes.C * args.sizes.D * args.sizes.S;
}
int64_t work(const NadamDenseArgs& args) { return kUpdate * args.count; }

template <class Args>
void run_tasks(void (*kernel)(const Args&, int64_t), const Args& args, int64_t tasks, int threads) {
  if (work(args) < kGrain) threads = 1;
  if (threads <= 1 || tasks <= 1) {
    for (int64_t task = 0; task < tasks; ++task) kernel(args, task);
    return;
  }
#if defined(_OPENMP)
  std::atomic<bool> out_of_memory{false};
  // neighbouring tasks in one go: each prefetches the beginning of the next
  const int64_t in_one_go = std::max<int64_t>(1, tasks / (32 * threads));
#pragma omp parallel for num_threads(threads) schedule(dynamic, in_one_go)
  for (int64_t task = 0; task < tasks; ++task) {
    try {
      kernel(args, task);
    } catch (const std::bad_alloc&) {
      out_of_memory.store(true);
    }
  }
  if (out_of_memory.load()) throw std::bad_alloc();
#else
  for (int64_t task = 0; task < tasks; ++task) kernel(args, task);
#endif
}

// Adds the partial sums of each map in a fixed order.
void reduce_codes_gradient(const ReconstructArgs& args, int64_t ranges, float* out) {
  const Sizes& size = args.sizes;
  for (int64_t b = 0; b < size.B; ++b) {
    for (int64_t c = 0; c < size.C; ++c) {
      const float* from = args.codes_gradient + (c * ranges * size.B + b) * size.D;
      const int64_t offset = (b * size.C + c) * size.D;
      for (int64_t d = 0; d < size.D; ++d) {
        float total = 0;
        for (int64_t r = 0; r < ranges; ++r) total += from[r * size.B * size.D + d];
        out[offset + d] = total;
      }
    }
  }
}

}  // namespace

void* workspace(size_t bytes) {
  static thread_local Scratch scratch;
  if (bytes > scratch.size) {
    constexpr size_t kPage = 4096;
    const size_t size = (bytes + kPage - 1) / kPage * kPage;
    scratch.size = 0;
    scratch.memory.reset(std::aligned_alloc(kPage, size));
    if (!scratch.memory) throw std::bad_alloc();
    scratch.size = size;
  }
  return scratch.memory.get();
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* k : all_kernels()) names.push_back(k->name);
  return names;
}

void select_isa(const std::string& name) {
  for (const Kernels* k : all_kernels()) {
    if (name == k->name) {
      selected.store(k);
      return;
    }
  }
  std::string known;
  for (const std::string& isa : available_isas()) known += (known.empty() ? "" : ", ") + isa;
  throw std::invalid_argument("instruction set '" + name + "' is not available here; available: " + known);
}

const Kernels& kernels() {
  const Kernels* k = selected.load();
  return k ? *k : *all_kernels().front();
}

void run_encode(EncodeArgs args, int threads) {
  // at most 128 rows, so that their sums stay in L2
  args.range = std::min<int64_t>(128, split(args.sizes.C, args.sizes.D, 16, 16));
  run_tasks(kernels().encode, args, task_count(args.sizes.C, args.sizes.D, args.range), threads);
}

void run_decode(DecodeArgs args, int threads) {
  args.range = split(args.sizes.C, args.sizes.S, 512, 512);
  run_tasks(kernels().decode, args, task_count(args.sizes.C, args.sizes.S, args.range), threads);
}

void run_outer(OuterArgs args, int threads) {
  const Sizes& size = args.sizes;
  args.range = split(size.C, size.S, 512, 512);
  const size_t element = args.out_dtype == DType::f32 ? 4 : 2;
  constexpr int64_t kStreamBytes = int64_t(8) << 20;
  const bool aligned = reinterpret_cast<uintptr_t>(args.out) % 64 == 0 && size.S * element % 64 == 0;
  args.stream = aligned && int64_t(size.C * size.D * size.S * element) >= kStreamBytes;
  run_tasks(kernels().outer, args, task_count(size.C, size.S, args.range), threads);
}

void run_reconstruct(ReconstructArgs args, float* loss, float* codes_gradient, int threads) {
  const Sizes& size = args.sizes;
  args.range = split(size.C, size.S, 512, 512);
  const int64_t tasks = task_count(size.C, size.S, args.range);
  std::vector<double> partial_loss(tasks * size.B);
  std::vector<float> partial_gradient(codes_gradient ? tasks * size.B * size.D : 0);
  args.loss = partial_loss.data();
  args.codes_gradient = codes_gradient ? partial_gradient.data() : nullptr;
  run_tasks(kernels().reconstruct, args, tasks, threads);
  for (int64_t b = 0; b < size.B; ++b) {
    double total = 0;
    for (int64_t task = 0; task < tasks; ++task) total += partial_loss[task * size.B + b];
    loss[b] = float(total);
  }
  if (codes_gradient) reduce_codes_gradient(args, size.C ? tasks / size.C : 1, codes_gradient);
}

void run_nadam_factored(NadamFactoredArgs args, int threads) {
  const Sizes& size = args.sizes;
  args.range = split(size.C, size.S, 1024, 1024);
  run_tasks(kernels().nadam_factored, args, task_count(size.C, size.S, args.range), threads);
}

void run_nadam_dense(NadamDenseArgs args, int threads) {
  args.range = int64_t(1) << 16;
  run_tasks(kernels().nadam_dense, args, task_count(1, args.count, args.range), threads);
}

float measure_read(const float* from, int64_t count, int threads) {
  const int64_t share = count / threads;
  float total = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : total)
  for (int part = 0; part < threads; ++part) total += kernels().read_memory(from + part * share, share);
  return total;
}

void measure_write(float* to, int64_t count, int threads) {
  // whole cache lines a thread
  const int64_t share = count / threads / 16 * 16;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int part = 0; part < threads; ++part) kernels().write_memory(to + part * share, share, 1.0f);
}

bool has_openmp() {
#if defined(_OPENMP)
  return true;
#else
  return false;
#endif
}

}  // namespace spf
