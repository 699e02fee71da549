// Sampling: takes a token for each row of logits. See kernels.SampleParams and
// kernels.SampleFilter.
//
//   logits [rows, vocab] float32, unchanged
//
// Up to four kernels, on one stream. Nothing is sorted but the few tokens that may be left, and
// nothing waits for the host.
//
//   sample_scan   (row, chunk of the vocabulary): largest logit, sums of exponentials; biases and
//                 penalties
//   sample_weigh  (row, chunk), only where there are filters: weights in whole numbers, and how
//                 they are distributed
//   sample_pick   (row): the token
//   sample_top    (row), only for top_n: the largest logits
//
// Bound by latency: at 151,936 tokens a row is 600 kB, read once by sample_scan and from the cache
// after that.
//
// Filters weigh tokens in units of 2⁻⁴⁰, see weight_of: whole numbers, so atomic additions in any
// order give the same sum, and of operations that all processors round alike, so the same logits
// give the same tokens as on the CPU. Two things can differ at a boundary: a row without filters is
// drawn with float32 exponentials of another last bit, summed in float64 in an order of its own;
// and the mean that typical_p asks for is summed in another order if more than kRoom tokens are
// left to it. All orders are fixed: the same row gives the same token in every batch.
#include "sample.cuh"

// clamp brings a logit back among the finite numbers; -Inf is a masked token and stays.
__device__ static float clamp(float logit) {
  constexpr float kLargest = 3.402823466e38f;
  return logit == minus_infinity() ? logit : fminf(fmaxf(logit, -kLargest), kLargest);
}

__device__ static float penalize(float logit, const SampleFilter& f, int32_t output) {
  if (f.repetition_penalty != 0) {
    logit =
        logit > 0 ? __fdiv_rn(logit, f.repetition_penalty) : __fmul_rn(logit, f.repetition_penalty);
  }
  if (output > 0) {
    logit = __fsub_rn(logit, f.presence_penalty);
    logit = __fsub_rn(logit, __fmul_rn(f.frequency_penalty, __int2float_rn(output)));
  }
  return logit;
}

// A thread of sample_scan and sample_weigh has kOwn logits of a chunk: four side by side, and four
// a block's further on.
constexpr int kOwn = kSampleChunk / kSampleScanThreads;
static_assert(kOwn % 4 == 0);

__device__ static int own(int i) {
  return (i / 4 * kSampleScanThreads + static_cast<int>(threadIdx.x)) * 4 + i % 4;
}

__device__ static void load_own(float (&x)[kOwn], const float* logits, int n) {
  const bool aligned = aligned16(logits);
#pragma unroll
  for (int i = 0; i < kOwn; i += 4) {
    const float4 four = load4(logits, own(i), n, aligned);
    x[i] = four.x, x[i + 1] = four.y, x[i + 2] = four.z, x[i + 3] = four.w;
  }
}

// edit applies a row's biases in their order, then its penalties, to the n logits from token first
// on. claims is all kNobody, and so it is left.
constexpr int kNobody = 0x7fffffff;
__device__ static void edit(const SampleParams& p, const SampleFilter& f, float* logits,
                            int* claims, int first, int n) {
  const int thread = threadIdx.x;
  for (int base = 0; base < f.biases; base += kSampleScanThreads) {
    const int i = base + thread;
    TokenBias bias = {};
    bool waits = false;
    if (i < f.biases) {
      bias = p.biases[f.bias + i];
      waits = bias.token >= first && bias.token < first + n;
    }
    const int at = bias.token - first;
    while (__syncthreads_or(waits)) {  // a token's biases one after the other
      if (waits) atomicMin(claims + at, i);
      __syncthreads();
      const bool next = waits && claims[at] == i;
      __syncthreads();
      if (next) {
        logits[at] = clamp(__fadd_rn(logits[at], bias.bias));
        claims[at] = kNobody;
        waits = false;
      }
    }
  }
  __syncthreads();
  for (int i = thread; i < f.counts; i += kSampleScanThreads) {
    const TokenCount count = p.counts[f.count + i];
    const int at = count.token - first;
    if (at >= 0 && at < n) logits[at] = clamp(penalize(logits[at], f, count.output));
  }
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(kSampleScanThreads)
    sample_scan(const __grid_constant__ SampleParams p) {
  let_next_start();
  wait_for_previous();
  __shared__ float logits[kSampleChunk];
  __shared__ int claims[kSampleChunk];
  __shared__ uint64_t room[kWarp];
  __shared__ double doubles[kWarp];
  __shared__ float floats[kWarp];
  constexpr int kThreads = kSampleScanThreads;
  const int chunks = (p.vocab + kSampleChunk - 1) / kSampleChunk, units = rows_of(p) * chunks;
  for (int i = threadIdx.x; i < kSampleChunk; i += kThreads) claims[i] = kNobody;
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const int row = unit / chunks, first = unit % chunks * kSampleChunk,
              n = min(kSampleChunk, p.vocab - first);
    const Wish wish = wish_of(p, row);
    const int64_t at = static_cast<int64_t>(row) * p.vocab + first;
    float x[kOwn];
    load_own(x, p.logits + at, n);

    Chunk chunk = {};
    uint64_t top = kNone;
    bool strange = false;
#pragma unroll
    for (int i = 0; i < kOwn; i++) {
      if (own(i) >= n) continue;
      top = min(top, rank(x[i], first + own(i)));
      strange |= x[i] - x[i] != 0;
    }
    chunk.top = chunk.edited = least_of<kThreads>(top, room);
    chunk.finite = !__syncthreads_or(strange);
    const float largest = logit_at(chunk.top);
    float plain = 0;
#pragma unroll
    for (int i = 0; i < kOwn; i++) plain += power((x[i] - largest) * kBits);
    chunk.plain = sum_of<kThreads>(plain, floats);

    if (!wish.filtered) {
      if (wish.row.temperature > 0 && wish.row.want < 0) {
        const float bits = bits_of(wish.row.temperature);
        double tempered = 0;
#pragma unroll
        for (int i = 0; i < kOwn; i++) tempered += power((x[i] - largest) * bits);
        chunk.tempered = sum_of<kThreads>(tempered, doubles);
      }
    } else {
      if (first == 0) {
        for (int i = threadIdx.x; i < kSampleBins; i += kThreads) {
          p.bin_weights[static_cast<int64_t>(row) * kSampleBins + i] = 0;
          p.bin_counts[static_cast<int64_t>(row) * kSampleBins + i] = 0;
        }
      }
      if (wish.edits) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kOwn; i++) logits[own(i)] = x[i];
        __syncthreads();
        edit(p, wish.filter, logits, claims, first, n);
        top = kNone;
#pragma unroll
        for (int i = 0; i < kOwn; i++) {
          if (own(i) >= n) continue;
          const float edited = logits[own(i)];
          p.edited[at + own(i)] = edited;
          top = min(top, rank(edited, first + own(i)));
        }
        chunk.edited = least_of<kThreads>(top, room);
      }
    }
    if (threadIdx.x == 0) static_cast<Chunk*>(p.chunk_room)[unit] = chunk;
    __syncthreads();  // what is shared has been read
  }
}

extern "C" __global__ void __launch_bounds__(kSampleScanThreads)
    sample_weigh(const __grid_constant__ SampleParams p) {
  let_next_start();
  wait_for_previous();
  __shared__ uint64_t weights[kSampleBins], room[kWarp];
  __shared__ int32_t counts[kSampleBins];
  constexpr int kThreads = kSampleScanThreads;
  if (p.filters == nullptr) return;
  const int chunks = (p.vocab + kSampleChunk - 1) / kSampleChunk, units = rows_of(p) * chunks;
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const int row = unit / chunks, first = unit % chunks * kSampleChunk,
              n = min(kSampleChunk, p.vocab - first);
    const Wish wish = wish_of(p, row);
    if (!wish.filtered || wish.row.temperature == 0 || wish.few) continue;
    Chunk* const all = static_cast<Chunk*>(p.chunk_room) + static_cast<int64_t>(row) * chunks;
    uint64_t top = kNone;
    for (int i = threadIdx.x; i < chunks; i += kThreads) top = min(top, all[i].edited);
    const float largest = logit_at(least_of<kThreads>(top, room));

    float x[kOwn];
    load_own(x, (wish.edits ? p.edited : p.logits) + static_cast<int64_t>(row) * p.vocab + first,
             n);
    if (!wish.nucleus && !wish.typical) {
      uint64_t weight = 0;
#pragma unroll
      for (int i = 0; i < kOwn; i++) {
        const uint64_t w = own(i) < n ? weigh(x[i], largest, wish.row.temperature) : 0;
        weight += w >= wish.least ? w : 0;
      }
      weight = sum_of<kThreads>(weight, room);
      if (threadIdx.x == 0) all[unit % chunks].weight = weight;
    } else {
      for (int i = threadIdx.x; i < kSampleBins; i += kThreads) weights[i] = counts[i] = 0;
      __syncthreads();
      for (int i = 0; i < kOwn; i++) {
        const uint64_t w = own(i) < n ? weigh(x[i], largest, wish.row.temperature) : 0;
        add_to_bins(weights, counts, bin_of(x[i], largest, wish.row.temperature), w, w > 0);
      }
      __syncthreads();
      for (int i = threadIdx.x; i < kSampleBins; i += kThreads) {
        if (counts[i] == 0) continue;
        add(p.bin_weights + static_cast<int64_t>(row) * kSampleBins + i, weights[i]);
        atomicAdd(p.bin_counts + static_cast<int64_t>(row) * kSampleBins + i, counts[i]);
      }
    }
    __syncthreads();  // what is shared has been read
  }
}
