// Large output buffers, recycled by size: a fresh 268 MB gradient costs more in page faults than its computation.
#pragma once

#include <cstddef>

namespace spf {

struct CacheStatistics {
  size_t cached_bytes, used_bytes, limit_bytes, hits, misses;
};

// 2 MB aligned, huge pages asked for. Contents are undefined. Throws std::bad_alloc.
void* allocate_output(size_t bytes);
// Returns the buffer to the cache, or to the system where the cache is full.
void release_output(void* buffer);
// Asks for huge pages behind memory that someone else allocated and nobody has touched yet.
void advise_huge_pages(void* memory, size_t bytes);
void empty_cache();
void set_cache_limit(size_t bytes);
CacheStatistics cache_statistics();

}  // namespace spf
