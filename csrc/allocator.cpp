#include "allocator.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

namespace spf {
namespace {

constexpr size_t kHugePage = size_t(2) << 20;

struct Cache {
  std::mutex mutex;
  std::vector<std::pair<void*, size_t>> free;  // buffer and size, in order of release
  std::unordered_map<void*, size_t> sizes;     // of buffers in use
  CacheStatistics statistics{0, 0, size_t(2) << 30, 0, 0};
};

// Never destroyed: buffers may come back while the process is going down.
Cache& cache() {
  static Cache* instance = new Cache;
  return *instance;
}

#if defined(__unix__) || defined(__APPLE__)
// A child must not inherit a mutex that another thread of the parent holds.
const int fork_handler = pthread_atfork([] { cache().mutex.lock(); }, [] { cache().mutex.unlock(); },
                                        [] { cache().mutex.unlock(); });
#endif

void* from_system(size_t size) {
  void* buffer = std::aligned_alloc(kHugePage, size);
#if defined(__linux__)
  if (buffer) madvise(buffer, size, MADV_HUGEPAGE);
#endif
  return buffer;
}

// Frees unused buffers, the longest unused first, until at most `keep` bytes are left.
void free_cached(Cache& c, size_t keep) {
  auto entry = c.free.begin();
  for (; entry != c.free.end() && c.statistics.cached_bytes > keep; ++entry) {
    std::free(entry->first);
    c.statistics.cached_bytes -= entry->second;
  }
  c.free.erase(c.free.begin(), entry);
}

}  // namespace

void* allocate_output(size_t bytes) {
  const size_t size = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  void* buffer = nullptr;
  const auto entry = std::find_if(c.free.rbegin(), c.free.rend(), [size](const auto& f) { return f.second == size; });
  if (entry != c.free.rend()) {
    buffer = entry->first;
    c.free.erase(std::next(entry).base());
    c.statistics.cached_bytes -= size;
    ++c.statistics.hits;
  } else {
    buffer = from_system(size);
    if (!buffer) {
      free_cached(c, 0);
      buffer = from_system(size);
    }
    if (!buffer) throw std::bad_alloc();
    ++c.statistics.misses;
  }
  c.sizes[buffer] = size;
  c.statistics.used_bytes += size;
  return buffer;
}

void release_output(void* buffer) {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  const auto entry = c.sizes.find(buffer);
  const size_t size = entry->second;
  c.sizes.erase(entry);
  c.statistics.used_bytes -= size;
  if (size > c.statistics.limit_bytes) {
    std::free(buffer);
    return;
  }
  free_cached(c, c.statistics.limit_bytes - size);
  c.free.emplace_back(buffer, size);
  c.statistics.cached_bytes += size;
}

void advise_huge_pages(void* memory, size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kPage = 4096;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / kPage * kPage;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)memory;
  (void)bytes;
#endif
}

void empty_cache() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  free_cached(c, 0);
}

void set_cache_limit(size_t bytes) {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  c.statistics.limit_bytes = bytes;
  free_cached(c, bytes);
}

CacheStatistics cache_statistics() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  return c.statistics;
}

}  // namespace spf
