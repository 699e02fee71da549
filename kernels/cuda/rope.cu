// Query and key heads: norm, rotation, and the write of keys and values to the cache. See
// kernels.QKNormRopeWriteParams. The norm is rounded as rmsnorm_bf16 does it. Pairs
// (i, i + head_dim/2) are rotated in float32 and rounded once, where they are stored.
// https://arxiv.org/abs/2104.09864
//
//   qkv    [rows, heads + 2 * kv_heads, head_dim]: query heads are written back, keys and values go
//          to the cache only
//   cache  bfloat16; float32, not rounded; or float8 (e4m3) x / scale with scale = largest |x| of
//          the head / 448, which lies apart. Base and strides are multiples of 8 bytes, of 2 with
//          float8
//   grid   ceil(rows * (heads + 2 * kv_heads) / kHeadWarps) blocks of kHeadWarps warps: a warp
//          takes a head of a row
//
// A lane has the elements 2j, 2j+1 and their partners for j = lane and lane + 32: words of 4 bytes,
// neighbours side by side. Slots of the null block take what padding rows write, in any order.
// Bound by latency at decode's sizes.
#include <cuda_fp8.h>

#include "device.cuh"

constexpr int kRopeWords = kMaxHeadDim / 4 / kWarp;  // of half a head, that a lane has
constexpr float kLargestFP8 = 448.0f;
constexpr float kSmallestMax = 1e-30f;  // heads with smaller elements only are stored as zeros

// Head is a lane's elements of a head: 2j and 2j+1 in lower[w], their partners in upper[w], for j =
// lane + 32w.
struct Head {
  float lower[kRopeWords][2];
  float upper[kRopeWords][2];
};

// normalize is rmsnorm_bf16 over a warp's head. words is of half a head.
__device__ static void normalize(Head& x, const bf16* weight, float eps, int words, int lane) {
  float squares = 0;
#pragma unroll
  for (int w = 0; w < kRopeWords; w++) {
#pragma unroll
    for (int i = 0; i < 2; i++)
      squares += x.lower[w][i] * x.lower[w][i] + x.upper[w][i] * x.upper[w][i];
  }
  const float mean = warp_sum(squares) / static_cast<float>(4 * words);
  const float scale = rsqrtf(mean + eps);
#pragma unroll
  for (int w = 0; w < kRopeWords; w++) {
    const int j = lane + w * kWarp;
    if (j >= words) break;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float a = __bfloat162float(weight[2 * j + i]);
      const float b = __bfloat162float(weight[2 * j + i + 2 * words]);
      x.lower[w][i] = round_bf16(round_bf16(x.lower[w][i] * scale) * a);
      x.upper[w][i] = round_bf16(round_bf16(x.upper[w][i] * scale) * b);
    }
  }
}

// Turn is a lane's cosines and sines, where Head has its pairs.
struct Turn {
  float2 cosines[kRopeWords];
  float2 sines[kRopeWords];
};

// turn_of reads a row of the table: cosines, then sines.
__device__ static void turn_of(Turn& turn, const float* rope, int words, int lane) {
#pragma unroll
  for (int w = 0; w < kRopeWords; w++) {
    const int j = lane + w * kWarp;
    if (j >= words) break;
    turn.cosines[w] = reinterpret_cast<const float2*>(rope)[j];
    turn.sines[w] = reinterpret_cast<const float2*>(rope)[words + j];
  }
}

// rotate turns the pairs.
__device__ static void rotate(Head& x, const Turn& turn) {
#pragma unroll
  for (int w = 0; w < kRopeWords; w++) {
    const float cosine[2] = {turn.cosines[w].x, turn.cosines[w].y};
    const float sine[2] = {turn.sines[w].x, turn.sines[w].y};
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float a = x.lower[w][i], b = x.upper[w][i];
      x.lower[w][i] = a * cosine[i] - b * sine[i];
      x.upper[w][i] = b * cosine[i] + a * sine[i];
    }
  }
}

// store_bf16 rounds a head to [head_dim] bfloat16 at to.
__device__ static void store_bf16(void* to, const Head& x, int words, int lane) {
  uint32_t* out = static_cast<uint32_t*>(to);
#pragma unroll
  for (int w = 0; w < kRopeWords; w++) {
    const int j = lane + w * kWarp;
    if (j >= words) break;
    out[j] = pack_bf16(x.lower[w][0], x.lower[w][1]);
    out[j + words] = pack_bf16(x.upper[w][0], x.upper[w][1]);
  }
}

// store_f32 stores a head as [head_dim] float32 at to.
__device__ static void store_f32(void* to, const Head& x, int words, int lane) {
  float2* out = static_cast<float2*>(to);
#pragma unroll
  for (int w = 0; w < kRopeWords; w++) {
    const int j = lane + w * kWarp;
    if (j >= words) break;
    out[j] = make_float2(x.lower[w][0], x.lower[w][1]);
    out[j + words] = make_float2(x.upper[w][0], x.upper[w][1]);
  }
}

// store_fp8 stores a head as [head_dim] float8 at to, and its scale.
__device__ static void store_fp8(uint8_t* to, float* scale, const Head& x, int words, int lane) {
  float largest = 0;  // a NaN does not count; its element stays one
#pragma unroll
  for (int w = 0; w < kRopeWords; w++) {
#pragma unroll
    for (int i = 0; i < 2; i++)
      largest = fmaxf(largest, fmaxf(fabsf(x.lower[w][i]), fabsf(x.upper[w][i])));
  }
  largest = warp_max(largest);
  if (largest < kSmallestMax) largest = 0;
  const float inverse = largest == 0 ? 0 : kLargestFP8 / largest;
  __nv_fp8x2_storage_t* out = reinterpret_cast<__nv_fp8x2_storage_t*>(to);
#pragma unroll
  for (int w = 0; w < kRopeWords; w++) {
    const int j = lane + w * kWarp;
    if (j >= words) break;
    const float2 lower = make_float2(x.lower[w][0] * inverse, x.lower[w][1] * inverse);
    const float2 upper = make_float2(x.upper[w][0] * inverse, x.upper[w][1] * inverse);
    out[j] = __nv_cvt_float2_to_fp8x2(lower, __NV_SATFINITE, __NV_E4M3);
    out[j + words] = __nv_cvt_float2_to_fp8x2(upper, __NV_SATFINITE, __NV_E4M3);
  }
  if (lane == 0) *scale = largest / kLargestFP8;
}

extern "C" __global__ void __launch_bounds__(kHeadWarps* kWarp)
    qk_norm_rope_write_bf16(const __grid_constant__ QKNormRopeWriteParams p) {
  let_next_start();
  wait_for_previous();
  const int lane = threadIdx.x % kWarp;
  const int heads = p.heads + 2 * p.kv_heads;
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kHeadWarps + threadIdx.x / kWarp;
  if (unit >= static_cast<int64_t>(p.rows) * heads) return;  // with all its warp
  const int row = static_cast<int>(unit / heads), head = static_cast<int>(unit % heads);
  const bool is_query = head < p.heads, is_value = head >= p.heads + p.kv_heads;
  const int words = p.head_dim / 4;  // of 4 bytes, in half a head

  // What depends on nothing first: these are under way together.
  const int position = is_value ? 0 : p.positions[row], slot = is_query ? 0 : p.slots[row];
  uint32_t* from = reinterpret_cast<uint32_t*>(p.qkv + unit * p.head_dim);
  Head x = {};
#pragma unroll
  for (int w = 0; w < kRopeWords; w++) {
    const int j = lane + w * kWarp;
    if (j >= words) break;
    const uint32_t lower = from[j], upper = from[j + words];
    x.lower[w][0] = lower_bf16(lower);
    x.lower[w][1] = upper_bf16(lower);
    x.upper[w][0] = lower_bf16(upper);
    x.upper[w][1] = upper_bf16(upper);
  }
  if (!is_value) {
    Turn turn = {};
    turn_of(turn, p.rope + static_cast<int64_t>(position) * p.head_dim, words, lane);
    const bf16* norm = is_query ? p.q_norm : p.k_norm;
    if (norm != nullptr) normalize(x, norm, p.eps, words, lane);
    rotate(x, turn);
  }
  if (is_query) {
    store_bf16(from, x, words, lane);
    return;
  }

  const int kv_head = head - p.heads - (is_value ? p.kv_heads : 0);
  const int token = slot % p.kv.block_tokens;
  uint8_t* const block = p.kv.base + slot / p.kv.block_tokens * p.kv.block_stride;
  uint8_t* const to = block + token * p.kv.token_stride + (is_value ? p.kv.v_offset : 0);
  switch (p.kv.type) {
    case kKVBF16:
      store_bf16(to + kv_head * p.head_dim * 2, x, words, lane);
      break;
    case kKVF32:
      store_f32(to + kv_head * p.head_dim * 4, x, words, lane);
      break;
    case kKVFP8:
      store_fp8(to + kv_head * p.head_dim,
                reinterpret_cast<float*>(block + p.kv.scale_offset +
                                         (is_value ? p.kv.v_scale_offset : 0)) +
                    kv_head * p.kv.block_tokens + token,
                x, words, lane);
      break;
  }
}
