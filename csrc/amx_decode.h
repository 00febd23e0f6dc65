// decode by matrix tiles, codes and weights in bf16: see decode.h. 32 rows of W become the second operand, two in turn.
//
// Floor: W's bytes and the maps'.
#pragma once

#include "amx.h"
#include "decode.h"

namespace spf {
namespace {

// Fewer samples are as fast by vectors.
constexpr int64_t kAmxFewestDecoded = 10;
constexpr int64_t kAmxPixels = 256;  // a block's
constexpr int64_t kAmxRows = 128;    // of W at once: 64 KB of a block
constexpr int64_t kAmxBlockBytes = kAmxPixels / kTile * (kAmxRows / kTilePairs) * kTileBytes;

// Codes of one map as the first operand: tiles [16 samples][step of 32 code elements].
inline void stage_codes(char* to, const CodeRows& codes, int64_t D, int64_t batch) {
  const int64_t pitch = divide_up(D, kTilePairs) * kTileBytes;
  for (int64_t n = 0; n < batch; n += kTile) {
    stage_rows(to + n / kTile * pitch, codes.first + n * codes.pitch, codes.pitch, smaller(kTile, batch - n), D);
  }
}

// y[16 samples a tile][16 pixels] (+)= a, tiles `a_pitch` apart, times b, over `steps` of 32 rows.
template <int Tiles>
inline void multiply_columns(const char* a, int64_t a_pitch, const char* b, int64_t steps, bool first, float* y,
                             int64_t y_pitch) {
  const int64_t row_bytes = y_pitch * int64_t(sizeof(float));
  for_constants<Tiles>([&](auto t) {
    first ? tile_zero<t.value>() : tile_load<t.value>(y + t.value * kTile * y_pitch, row_bytes);
  });
  for (int64_t step = 0; step < steps; ++step) {
    tile_load<kSecond>(b + step * kTileBytes);
    for_constants<Tiles>([&](auto t) {
      tile_load<kFirst>(a + t.value * a_pitch + step * kTileBytes);
      tile_multiply_add<t.value, kFirst, kSecond>();
    });
  }
  for_constants<Tiles>([&](auto t) { tile_store<t.value>(y + t.value * kTile * y_pitch, row_bytes); });
}

// One block of up to kAmxPixels: y[whole tiles of samples][kAmxPixels] = z W; `weight` is its first pixel.
template <class Ahead>
inline void amx_decode_block(const bf16* weight, const Sizes& size, const char* z, int64_t batch, int64_t pixels,
                             char* staged, float* y, Ahead& ahead) {
  const int64_t tiles = divide_up(batch, kTile), all_steps = divide_up(size.D, kTilePairs);
  if (size.D == 0) std::memset(y, 0, tiles * kTile * kAmxPixels * sizeof(float));
  for (int64_t d = 0; d < size.D; d += kAmxRows) {
    const int64_t rows = smaller(kAmxRows, size.D - d), steps = divide_up(rows, kTilePairs);
    stage_pairs(staged, weight + d * size.S, size.S, rows, pixels, ahead);
    with_constant<kMostTiles>(tiles, [&](auto n) {
      for (int64_t s = 0; s < pixels; s += kTile) {
        multiply_columns<decltype(n)::value>(z + d / kTilePairs * kTileBytes, all_steps * kTileBytes,
                                             staged + s / kTile * steps * kTileBytes, steps, d == 0, y + s, kAmxPixels);
      }
    });
  }
}

inline int64_t amx_codes_bytes(int64_t D, int64_t batch) {
  return divide_up(batch, kTile) * divide_up(D, kTilePairs) * kTileBytes;
}
inline int64_t amx_y_bytes(int64_t batch) { return round_up(batch, kTile) * kAmxPixels * int64_t(sizeof(float)); }

void amx_decode(const DecodeArgs& args, int64_t task) {
  const bool all_bf16 = args.codes.dtype == DType::bf16 && args.layer.dtype == DType::bf16;
  if (!all_bf16 || args.sizes.B < kAmxFewestDecoded) return decode(args, task);
  const Sizes& size = args.sizes;
  const int64_t ranges = divide_up(size.S, args.range), c = task / ranges;
  const int64_t begin = task % ranges * args.range, end = smaller(size.S, begin + args.range);
  const int64_t most = smaller(kAmxBatch, size.B);
  const int64_t z_bytes = amx_codes_bytes(size.D, most);
  char* staged = static_cast<char*>(workspace(kAmxBlockBytes + 2 * z_bytes + amx_y_bytes(most)));
  char* z = staged + kAmxBlockBytes;
  bf16* copy = reinterpret_cast<bf16*>(z + z_bytes);
  float* y = reinterpret_cast<float*>(z + 2 * z_bytes);
  const bf16* weight = static_cast<const bf16*>(args.layer.weight) + c * size.D * size.S;
  const bf16* bias = args.layer.bias ? static_cast<const bf16*>(args.layer.bias) + c * size.S : nullptr;
  configure_tiles();
  for (int64_t b = 0; b < size.B; b += kAmxBatch) {
    const int64_t batch = smaller(kAmxBatch, size.B - b);
    const bf16* codes = static_cast<const bf16*>(args.codes.data) + c * args.codes.stride_c + b * args.codes.stride_b;
    stage_codes(z, code_rows(codes, args.codes, batch, size.D, copy), size.D, batch);
    for (int64_t s = begin; s < end; s += kAmxPixels) {
      const int64_t pixels = smaller(kAmxPixels, end - s);
      NextBlock<2> next(weight + pixels_after(size, s + pixels), pixel_count(size, s + pixels, kAmxPixels), size.S);
      amx_decode_block(weight + s, size, z, batch, pixels, staged, y, next);
      for (int64_t n = 0; n < batch; ++n) {
        bf16* out = static_cast<bf16*>(args.maps) + ((b + n) * size.C + c) * size.S + s;
        finish_pixels(y + n * kAmxPixels, bias ? bias + s : nullptr, args.layer.activation, out, pixels);
      }
    }
  }
  release_tiles();
}

}  // namespace
}  // namespace spf
