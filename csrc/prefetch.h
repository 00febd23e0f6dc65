// Prefetching of W, which is read once and comes from memory.
//
// A processor drops prefetches that come faster than memory answers (Zen 5: half of a burst) or beside too many loads,
// and each line dropped is waited for later, nearly alone. So they are spread evenly over the arithmetic, and
// where that outruns the memory they are paced: none is asked for before the line read now has arrived.
#pragma once

#include "vec.h"

namespace spf {
namespace {

SPF_INLINE void prefetch_l1(uintptr_t address) { __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 3); }
SPF_INLINE void prefetch_l2(uintptr_t address) { __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 2); }

// Zero, but known to the processor only when v is: what is addressed with it waits for v.
template <class V>
SPF_INLINE uintptr_t zero_after(V& v) {
  keep_in_register(v);
  uint32_t zero = 0;
  asm("" : "+r"(zero));
  return first_bits(v) & zero;
}

// What a walk over rows prefetches on its way. Nothing;
struct NoPrefetch {};

// the rows it comes to itself, and behind their end, `jump` elements further, those needed then;
struct OwnRows {
  int64_t jump;
};

// the same pixels `distance` elements further, in the rows that come after all of these;
struct SamePixels {
  int64_t distance;
};

// or a block of W that is read later, row by row: the order of memory, in whatever order it will be read. 2 halves of
// it are prefetched while as much is read, or 1 half in either of two walks.
template <int Halves>
struct NextBlock {
  uintptr_t row;
  int64_t row_bytes, pitch;
  int64_t column = 0;

  template <class W>
  NextBlock(const W* begin, int64_t pixels, int64_t row_pitch)
      : row(reinterpret_cast<uintptr_t>(begin)),
        row_bytes(pixels * int64_t(sizeof(W))),
        pitch(row_pitch * int64_t(sizeof(W))) {}

  // Its share while `Read` bytes are read; `after` is 0 or zero_after(what to wait for).
  template <int64_t Read>
  SPF_INLINE void prefetch(uintptr_t after) {
    constexpr int64_t kShare = Read * Halves / 2;
    SPF_UNROLL
    for (int64_t i = 0; i < kShare; i += 64) prefetch_l2(row + column + i + after);
    column += kShare;
    if (column >= row_bytes) {
      column = 0;
      row += pitch;
    }
  }
};

}  // namespace
}  // namespace spf
