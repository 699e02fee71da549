// What the sampling kernels have in common: the order and the weights of logits, what a row asks
// for, sums over a block. sample.cu says how they work together.
#pragma once
#include "device.cuh"
#include "sample_params.h"

constexpr float kLowest = 28.0f;              // e^-28 weighs nothing
constexpr float kBits = 1.4426950408889634f;  // log2 e
constexpr uint64_t kNone = ~0ull;

// Chunk is what is known of a chunk of a row.
struct Chunk {
  uint64_t top;     // ranked largest logit
  uint64_t edited;  // likewise after biases and penalties
  uint64_t weight;  // of the tokens left
  double tempered;  // sum of e^((logit - largest of the chunk) / temperature)
  float plain;      // sum of e^(logit - largest of the chunk)
  int32_t finite;
};
static_assert(sizeof(Chunk) == kSampleChunkBytes);

__device__ inline float minus_infinity() { return __int_as_float(0xff800000); }

// cost_of orders logits: the larger one costs less; zeros are equal.
__device__ inline uint32_t cost_of(float logit) {
  const uint32_t bits = __float_as_uint(__fadd_rn(logit, 0.0f));
  return bits >> 31 ? bits : 0x7fffffff - bits;
}

// logit_of is the logit of a cost.
__device__ inline float logit_of(uint32_t cost) {
  return __uint_as_float(cost >> 31 ? cost : 0x7fffffff - cost);
}

// rank orders tokens: larger logits first, of equals the smaller id.
__device__ inline uint64_t rank(float logit, uint32_t id) {
  return static_cast<uint64_t>(cost_of(logit)) << 32 | id;
}

__device__ inline float logit_at(uint64_t rank) {
  return logit_of(static_cast<uint32_t>(rank >> 32));
}

__device__ inline float power(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// bits_of is what (logit - largest) is multiplied with, for 2^x to be the tempered exponential.
__device__ inline float bits_of(float temperature) { return fminf(kBits / temperature, 1e30f); }

__device__ inline double product_plus(double a, double b, double c) {
  return __dadd_rn(__dmul_rn(a, b), c);
}

// weight_of is e^x for x <= 0 in units of 2⁻⁴⁰, as ref.Weight computes it to the last bit.
__device__ inline uint64_t weight_of(double x) {
  if (!(x >= -28)) return 0;
  const int64_t halvings =
      static_cast<int64_t>(product_plus(x, -1.44269504088896340735992468100189214, 0.5));
  const double r = __dadd_rn(
      x, __dmul_rn(static_cast<double>(halvings), 0.693147180559945309417232121458176568));
  const double rr = __dmul_rn(r, r);
  double even = 1.0 / 3628800, odd = 1.0 / 362880;
  even = product_plus(even, rr, 1.0 / 40320), odd = product_plus(odd, rr, 1.0 / 5040);
  even = product_plus(even, rr, 1.0 / 720), odd = product_plus(odd, rr, 1.0 / 120);
  even = product_plus(even, rr, 1.0 / 24), odd = product_plus(odd, rr, 1.0 / 6);
  even = product_plus(even, rr, 1.0 / 2), odd = product_plus(odd, rr, 1.0);
  even = product_plus(even, rr, 1.0);
  const double e = product_plus(odd, r, even);
  return static_cast<uint64_t>(__dmul_rn(e, 2305843009213693952.0)) >> (21 + halvings);
}

// exponent is x, of which e^x is a token's weight.
__device__ inline double exponent(float logit, float largest, float temperature) {
  return __ddiv_rn(__dsub_rn(logit, largest), temperature);
}

// weigh is a token's weight. What is clearly too small is seen without float64.
__device__ inline uint64_t weigh(float logit, float largest, float temperature) {
  if (logit - largest < -(kLowest + 0.5f) * temperature) return 0;
  return weight_of(exponent(logit, largest, temperature));
}

// bin_of is a token's bin: equal steps of the exponent, larger logits first. It never falls as
// logits do.
__device__ inline int bin_of(float logit, float largest, float temperature) {
  const float at = (largest - logit) * (kSampleBins / kLowest / temperature);
  return at < kSampleBins - 1 ? static_cast<int>(at) : (at == at ? kSampleBins - 1 : 0);
}

// share is the part p of total, rounded up: at least 1, at most total.
__device__ inline uint64_t share(uint64_t total, float p) {
  const uint64_t part = static_cast<uint64_t>(ceil(__dmul_rn(p, __ull2double_rn(total))));
  return min(max(part, static_cast<uint64_t>(1)), total);
}

// What a row asks for.
struct Wish {
  SampleRow row;
  SampleFilter filter;
  bool filtered, edits, few, nucleus, typical;
  uint64_t least;  // weight
};

__device__ inline Wish wish_of(const SampleParams& p, int row) {
  Wish w = {};
  w.row = p.params[row];
  if (p.filters == nullptr || w.row.want >= 0) return w;
  const SampleFilter f = w.filter = p.filters[row];
  w.filtered = f.top_k != 0 || f.top_p != 0 || f.min_p != 0 || f.typical_p != 0 ||
               f.repetition_penalty != 0 || f.presence_penalty != 0 || f.frequency_penalty != 0 ||
               f.bias != 0 || f.biases != 0 || f.count != 0 || f.counts != 0;
  w.edits = f.biases + f.counts > 0;
  w.few = f.top_k > 0 && f.top_k < p.vocab;
  w.nucleus = f.top_p > 0 && f.top_p < 1;
  w.typical = f.typical_p > 0 && f.typical_p < 1;
  w.least = f.min_p > 0 ? share(weight_of(0), f.min_p) : 1;
  return w;
}

__device__ inline int rows_of(const SampleParams& p) {
  return p.row_count == nullptr ? p.rows_most : min(*p.row_count, p.rows_most);
}

// before_in gives a thread the sum of value over the threads before it, in a fixed order, and total
// over all. room is [kWarp].
template <int kThreads, class T>
__device__ inline T before_in(T value, T* room, T& total) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  T upto = value;
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) {
    const T other = __shfl_up_sync(kAllLanes, upto, lanes);
    if (lane >= lanes) upto += other;
  }
  T before = __shfl_up_sync(kAllLanes, upto, 1);
  if (lane == 0) before = 0;
  __syncthreads();  // room has been read
  if (lane == kWarp - 1) room[warp] = upto;
  __syncthreads();
  T warps = 0;
  total = 0;
  for (int w = 0; w < kThreads / kWarp; w++) {
    if (w == warp) warps = total;
    total += room[w];
  }
  return warps + before;
}

template <int kThreads, class T>
__device__ inline T sum_of(T value, T* room) {
  T total;
  before_in<kThreads>(value, room, total);
  return total;
}

// least_of gives all threads the smallest value.
template <int kThreads>
__device__ inline uint64_t least_of(uint64_t value, uint64_t* room) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2)
    value = min(value, static_cast<uint64_t>(__shfl_xor_sync(
                           kAllLanes, static_cast<unsigned long long>(value), lanes)));
  __syncthreads();
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = room[0];
  for (int w = 1; w < kThreads / kWarp; w++) value = min(value, room[w]);
  return value;
}

__device__ inline void add(uint64_t* to, uint64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}

// add_to_bins adds weights, less than 2^41, to bins, and 1 to their counts. The lanes that have the
// same bin add first. All lanes of a warp call it.
__device__ inline void add_to_bins(uint64_t* weights, int32_t* counts, int bin, uint64_t weight,
                                   bool wanted) {
  constexpr int kLowBits = 26;  // 32 of them fit in a word
  const int lane = threadIdx.x % kWarp;
  unsigned left = __ballot_sync(kAllLanes, wanted);
  while (left != 0) {
    const int leader = __ffs(left) - 1;
    const int its = __shfl_sync(kAllLanes, bin, leader);
    const bool same = wanted && bin == its;
    const unsigned peers = __ballot_sync(kAllLanes, same);
    const uint64_t mine = same ? weight : 0;
    const uint32_t low =
        __reduce_add_sync(kAllLanes, static_cast<uint32_t>(mine & ((1u << kLowBits) - 1)));
    const uint32_t high = __reduce_add_sync(kAllLanes, static_cast<uint32_t>(mine >> kLowBits));
    if (lane == leader) {
      add(weights + bin, (static_cast<uint64_t>(high) << kLowBits) + low);
      atomicAdd(counts + bin, __popc(peers));
    }
    left &= ~peers;
  }
}

// load4 reads the logits at i to i+3 of n; -Inf behind the end.
__device__ inline float4 load4(const float* logits, int i, int n, bool aligned) {
  if (aligned && i + 4 <= n) return *reinterpret_cast<const float4*>(logits + i);
  const float none = minus_infinity();
  return make_float4(i < n ? logits[i] : none, i + 1 < n ? logits[i + 1] : none,
                     i + 2 < n ? logits[i + 2] : none, i + 3 < n ? logits[i + 3] : none);
}
