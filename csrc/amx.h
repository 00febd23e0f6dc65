// Matrix tiles (Intel AMX): 16 rows of 64 bytes; one instruction makes 16 x 16 sums of 32 products of bf16, in fp32.
// What is left to do is to bring numbers into tiles.
//
// All tiles are whole. What is missing at the edges is zero in both operands, so that a NaN stays in its row or column.
#pragma once

#include <type_traits>
#include <utility>

#include "prefetch.h"

namespace spf {
namespace {

constexpr int64_t kTile = 16;       // rows of a tile, and numbers of fp32 or pairs of bf16 in a row
constexpr int64_t kTilePairs = 32;  // numbers of bf16 in a row
constexpr int64_t kTileBytes = 1024;
constexpr int kMostTiles = 4;  // tiles of samples that are worked on at once
constexpr int64_t kAmxBatch = kMostTiles * kTile;

// Tile registers: the sums are in 0 to 3, the operands in these.
constexpr int kFirst = 4, kSecond = 5;

struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// This and the instructions below are in assembler: the compilers' functions for them do not say that they read
// memory.
SPF_INLINE void configure_tiles() {
  static constexpr TileConfig kConfig;
  asm volatile("ldtilecfg %0" ::"m"(kConfig));
}
// Without it the system would go on saving the tiles at every switch of threads.
SPF_INLINE void release_tiles() { asm volatile("tilerelease" ::); }

template <int Tile>
SPF_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(Tile));
}
template <int Tile>
SPF_INLINE void tile_load(const void* from, int64_t row_bytes = 64) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(row_bytes), "i"(Tile) : "memory");
}
template <int Tile>
SPF_INLINE void tile_store(void* to, int64_t row_bytes = 64) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(row_bytes), "i"(Tile) : "memory");
}
// sum[i][j] += over k: a[i][2k] * b[k][2j] + a[i][2k + 1] * b[k][2j + 1]
template <int Sum, int A, int B>
SPF_INLINE void tile_multiply_add() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(A), "i"(B));
}

// f(Constant<0>{}), ..., f(Constant<Count - 1>{}): a tile register is part of its instruction.
template <int Count, class F>
SPF_INLINE void for_constants(F f) {
  if constexpr (Count > 0) {
    for_constants<Count - 1>(f);
    f(Constant<Count - 1>{});
  }
}

typedef uint16_t vw __attribute__((vector_size(64)));
template <int... I>
using Indices = std::integer_sequence<int, I...>;
using Words = std::make_integer_sequence<int, 32>;
using Floats = std::make_integer_sequence<int, 16>;

SPF_INLINE vw load_words(const bf16* from) { return (vw)_mm512_loadu_si512(from); }
// The first `count` of 32, zeros behind them.
SPF_INLINE vw load_words(const bf16* from, int64_t count) {
  if (count >= kTilePairs) return load_words(from);
  return (vw)_mm512_maskz_loadu_epi16(__mmask32((1u << count) - 1), from);
}
SPF_INLINE void store_row(char* tile, int64_t row, vw v) { _mm512_store_si512(tile + row * 64, (__m512i)v); }

// Words 16 * Half to 16 * Half + 15 of a and b in turn.
template <int Half, int... I>
SPF_INLINE vw in_turn(vw a, vw b, Indices<I...>) {
  return __builtin_shufflevector(a, b, (I / 2 + 16 * Half + I % 2 * 32)...);
}
// Every second of the 64 words of a and b.
template <int... I>
SPF_INLINE vw odd_words(vf a, vf b, Indices<I...>) {
  return __builtin_shufflevector(bit_cast<vw>(a), bit_cast<vw>(b), (2 * I + 1)...);
}

// `count` numbers as bf16: themselves;
SPF_INLINE void split(const bf16* from, int64_t count, vw (&part)[1]) { part[0] = load_words(from, count); }
// or, of fp32, their first, second and last 8 bits: the sum of the three is exact. `from` is padded to 32 numbers.
SPF_INLINE void split(const float* from, int64_t, vw (&part)[3]) {
  // what the upper half leaves; of infinity nothing
  const auto rest = [](vf v) {
    const vf upper = bit_cast<vf>(bit_cast<vu>(v) & 0xffff0000u);
    return select(v == upper, vf{}, v - upper);
  };
  vf low = load(from), high = load(from + VL);
  SPF_UNROLL
  for (int i = 0; i < 3; ++i) {
    part[i] = odd_words(low, high, Words{});
    low = rest(low);
    high = rest(high);
  }
}
template <class T>
constexpr int kPartsOf = std::is_same_v<T, float> ? 3 : 1;

template <int Distance, int... I>
SPF_INLINE void exchange(vu& a, vu& b, Indices<I...>) {
  const vu low = __builtin_shufflevector(a, b, (I & Distance ? 16 + I - Distance : I)...);
  b = __builtin_shufflevector(a, b, (I & Distance ? 16 + I : I + Distance)...);
  a = low;
}
// Rows become columns.
template <int Distance = kTile / 2>
SPF_INLINE void transpose(vu (&rows)[kTile]) {
  SPF_UNROLL
  for (int i = 0; i < kTile; ++i) {
    if (!(i & Distance)) exchange<Distance>(rows[i], rows[i + Distance], Floats{});
  }
  if constexpr (Distance > 1) transpose<Distance / 2>(rows);
}

// Up to 16 rows of `count` numbers as the second operand of a sum along them: tiles [step of 32][part], a row a column.
template <class T>
inline void stage_columns(char* to, const T* from, int64_t pitch, int64_t rows, int64_t count) {
  constexpr int P = kPartsOf<T>;
  for (int64_t k = 0; k < count; k += kTilePairs) {
    vu columns[P][kTile] = {};
    for (int64_t row = 0; row < rows; ++row) {
      vw part[P];
      split(from + row * pitch + k, count - k, part);
      SPF_UNROLL
      for (int p = 0; p < P; ++p) columns[p][row] = bit_cast<vu>(part[p]);
    }
    for (int p = 0; p < P; ++p) {
      transpose(columns[p]);
      SPF_UNROLL
      for (int i = 0; i < kTile; ++i) store_row(to, i, bit_cast<vw>(columns[p][i]));
      to += kTileBytes;
    }
  }
}

// `rows` rows of `count` numbers as the second operand of a sum over the rows: tiles [16 columns][step of 32 rows], two
// rows in turn a row of a tile. Tiles of columns come in pairs.
template <class Ahead>
inline void stage_pairs(char* to, const bf16* from, int64_t pitch, int64_t rows, int64_t count, Ahead& ahead) {
  const int64_t steps = divide_up(rows, kTilePairs);
  // a copy, so that it can stay in registers
  Ahead mine = ahead;
  for (int64_t row = 0; row < steps * kTilePairs; row += 2) {
    char* tile = to + row / kTilePairs * kTileBytes;
    for (int64_t k = 0; k < count; k += kTilePairs, tile += 2 * steps * kTileBytes) {
      const bf16* p = from + row * pitch + k;
      const vw even = row < rows ? load_words(p, count - k) : vw{};
      const vw odd = row + 1 < rows ? load_words(p + pitch, count - k) : vw{};
      if constexpr (!std::is_same_v<Ahead, NoPrefetch>) mine.template prefetch<2 * 64>(0);
      store_row(tile, row % kTilePairs / 2, in_turn<0>(even, odd, Words{}));
      store_row(tile + steps * kTileBytes, row % kTilePairs / 2, in_turn<1>(even, odd, Words{}));
    }
  }
  ahead = mine;
}

// Codes (b, d) of one map, each sample's contiguous: where they are, or copied.
struct CodeRows {
  const bf16* first;
  int64_t pitch;
};
inline CodeRows code_rows(const bf16* codes, const Codes& layout, int64_t batch, int64_t D, bf16* copy) {
  if (layout.stride_d == 1) return {codes, layout.stride_b};
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t d = 0; d < D; ++d) copy[n * D + d] = codes[n * layout.stride_b + d * layout.stride_d];
  }
  return {copy, D};
}

// Up to 16 rows of `count` numbers as the first operand of a sum along them: tiles [step of 32].
inline void stage_rows(char* to, const bf16* from, int64_t pitch, int64_t rows, int64_t count) {
  for (int64_t k = 0; k < count; k += kTilePairs, to += kTileBytes) {
    for (int64_t row = 0; row < kTile; ++row) {
      store_row(to, row, row < rows ? load_words(from + row * pitch + k, count - k) : vw{});
    }
  }
}

// The same, where the numbers are or staged.
struct RowTiles {
  const char* first;
  int64_t row_bytes, step_bytes;  // from one row, step of 32 numbers to the next
};

// Where they are if the tiles are whole.
inline RowTiles row_tiles(const bf16* from, int64_t pitch, int64_t rows, int64_t count, char* staged) {
  if (rows == kTile && count % kTilePairs == 0) {
    return {reinterpret_cast<const char*>(from), pitch * int64_t(sizeof(bf16)), 64};
  }
  stage_rows(staged, from, pitch, rows, count);
  return {staged, 64, kTileBytes};
}

// sums[tile of samples][16 rows][16 samples] (+)= a times b, which stage_columns<T> has made.
template <class T, int Tiles, class Ahead>
inline void multiply_rows(const RowTiles& a, const char* b, int64_t b_pitch, int64_t steps, bool first, char* sums,
                          Ahead& ahead) {
  constexpr int P = kPartsOf<T>;
  // a copy, so that it can stay in registers
  Ahead mine = ahead;
  for_constants<Tiles>([&](auto t) {
    first ? tile_zero<t.value>() : tile_load<t.value>(sums + t.value * kTileBytes);
  });
  for (int64_t step = 0; step < steps; ++step) {
    if constexpr (!std::is_same_v<Ahead, NoPrefetch>) mine.template prefetch<kTileBytes>(0);
    tile_load<kFirst>(a.first + step * a.step_bytes, a.row_bytes);
    for_constants<Tiles>([&](auto t) {
      for (int p = 0; p < P; ++p) {
        tile_load<kSecond>(b + t.value * b_pitch + (step * P + p) * kTileBytes);
        tile_multiply_add<t.value, kFirst, kSecond>();
      }
    });
  }
  for_constants<Tiles>([&](auto t) { tile_store<t.value>(sums + t.value * kTileBytes); });
  ahead = mine;
}

// The same for any number of rows from `from` on, the sums of 16 of them after the other; next(row) is what to prefetch
// on the way.
template <class T, class Next>
inline void multiply_all_rows(const bf16* from, int64_t pitch, int64_t rows, int64_t count, const char* b,
                              int64_t b_pitch, int64_t tiles, bool first, char* sums, char* staged, Next next) {
  for (int64_t row = 0; row < rows; row += kTile) {
    const RowTiles a = row_tiles(from + row * pitch, pitch, smaller(kTile, rows - row), count, staged);
    auto ahead = next(row);
    with_constant<kMostTiles>(tiles, [&](auto n) {
      multiply_rows<T, decltype(n)::value>(a, b, b_pitch, divide_up(count, kTilePairs), first,
                                           sums + row / kTile * tiles * kTileBytes, ahead);
    });
  }
}

// f(sample, row, vector, count): the sums of a sample and `count` rows from `row` on, as multiply_rows leaves them.
template <class F>
inline void each_sample(const char* sums, int64_t rows, int64_t samples, F f) {
  const int64_t tiles = divide_up(samples, kTile);
  for (int64_t row = 0; row < rows; row += kTile) {
    for (int64_t t = 0; t < tiles; ++t) {
      vu columns[kTile];
      std::memcpy(columns, sums + (row / kTile * tiles + t) * kTileBytes, sizeof(columns));
      transpose(columns);
      for (int64_t n = 0; n < smaller(kTile, samples - t * kTile); ++n) {
        f(t * kTile + n, row, bit_cast<vf>(columns[n]), smaller(VL, rows - row));
      }
    }
  }
}

}  // namespace
}  // namespace spf
