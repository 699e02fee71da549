// Mixture of experts. For a batch of rows, in stream order and with fixed grids, nothing of it
// known to the host:
//
//   moe_route    the top_k experts of each row and their weights
//   moe_sort     pairs (row, choice) sorted by expert; tiles: runs of pairs of one expert
//   moe_gemm     gate and up of each pair, with its expert's matrix
//   silu_mul     of each pair
//   moe_gemm     down of each pair, with its expert's matrix, in float32
//   moe_combine  out[r] += weighted sum over the row's pairs
//
// A row's result depends on its own pairs only, and they are summed in the order of their experts:
// no atomics on numbers.
#include "gemm_tile.cuh"

using Pairs = Tile<kGemmSmallRows, kGemmSmallOutputs, 2, 2, 4>;
static_assert(Pairs::kThreads == kGemmSmallThreads && Pairs::kSharedBytes == kGemmSmallShared);
static_assert(kMaxTopK <= kWarp, "a lane holds a choice");
static_assert(kMaxExperts <= kWarp * 32,
              "a lane remembers which of its experts are taken in a word");

// Routing: a softmax over all experts; the top_k largest logits, equal ones by smaller index; their
// probabilities, divided by their sum where normalize is set. Chosen experts come in ascending
// order.
//
//   logits [rows, experts], chosen [rows, top_k], weights [rows, top_k];
//   top_k <= experts <= kMaxExperts, top_k <= kMaxTopK
//   grid   ceil(rows / kRouteWarps) blocks of kRouteWarps warps: a warp takes a row, a lane every
//          32nd expert
//
// A logit that is NaN counts as the smallest; the weight of an expert chosen so is NaN. The choices
// are experts in any case.
extern "C" __global__ void __launch_bounds__(kRouteWarps* kWarp)
    moe_route_f32(const __grid_constant__ MoERouteParams p) {
  let_next_start();
  wait_for_previous();
  const int lane = threadIdx.x % kWarp;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRouteWarps + threadIdx.x / kWarp;
  if (row >= p.rows) return;  // with all its warp
  const float* logits = p.logits + row * p.experts;

  uint32_t taken = 0;        // bit i: expert lane + 32i
  int choice = kMaxExperts;  // of lane < top_k
  float choice_logit = 0;
  float largest = 0;
  for (int k = 0; k < p.top_k; k++) {
    float best = -INFINITY;
    int expert = kMaxExperts;
    for (int e = lane, i = 0; e < p.experts; e += kWarp, i++) {
      if (taken >> i & 1) continue;
      const float logit = logits[e];
      if (expert == kMaxExperts || logit > best) {  // equal: the smaller, which came first
        best = logit == logit ? logit : -INFINITY;
        expert = e;
      }
    }
#pragma unroll
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
      const float other = __shfl_xor_sync(kAllLanes, best, lanes);
      const int other_expert = __shfl_xor_sync(kAllLanes, expert, lanes);
      if (other > best || (other == best && other_expert < expert)) {
        best = other;
        expert = other_expert;
      }
    }
    if (expert % kWarp == lane) taken |= 1u << expert / kWarp;
    if (k == 0) largest = best;
    if (k == lane) {
      choice = expert;
      choice_logit = logits[expert];
    }
  }

  float sum = 0;
  if (p.normalize) {
    sum = lane < p.top_k ? expf(choice_logit - largest) : 0.0f;
  } else {
    for (int e = lane; e < p.experts; e += kWarp) sum += expf(logits[e] - largest);
  }
  sum = warp_sum(sum);
  int place = 0;  // how many choices are smaller
  for (int k = 0; k < p.top_k; k++) place += __shfl_sync(kAllLanes, choice, k) < choice;
  if (lane < p.top_k) {
    p.chosen[row * p.top_k + place] = choice;
    p.weights[row * p.top_k + place] = expf(choice_logit - largest) / sum;
  }
}

// Sorting: a counting sort of the pairs by expert that keeps their order within one.
//
//   chosen [rows, top_k], source [rows * top_k], place [rows, top_k], tiles, tile_count [1]
//   grid   experts blocks of kSortThreads threads: every block counts all pairs and places those of
//          its expert, so that none waits for another
extern "C" __global__ void __launch_bounds__(kSortThreads)
    moe_sort(const __grid_constant__ MoESortParams p) {
  constexpr int kWarps = kSortThreads / kWarp;
  static_assert(kWarps == kWarp, "one warp adds up the warps' counts");
  __shared__ int counts[kMaxExperts];
  __shared__ int before[2];  // pairs and tiles of smaller experts
  __shared__ int warps[kWarps];
  let_next_start();
  wait_for_previous();
  const int thread = threadIdx.x, lane = thread % kWarp, warp = thread / kWarp;
  const int mine = blockIdx.x;
  const int pairs = p.rows * p.top_k;

  for (int e = thread; e < p.experts; e += kSortThreads) counts[e] = 0;
  __syncthreads();
  for (int i = thread; i < pairs; i += kSortThreads) atomicAdd(&counts[p.chosen[i]], 1);
  __syncthreads();
  if (warp == 0) {
    int smaller = 0, tiles = 0;
    for (int e = lane; e < mine; e += kWarp) {
      smaller += counts[e];
      tiles += (counts[e] + kGemmSmallRows - 1) / kGemmSmallRows;
    }
    smaller = warp_sum(smaller);
    tiles = warp_sum(tiles);
    if (lane == 0) {
      before[0] = smaller;
      before[1] = tiles;
    }
  }
  __syncthreads();

  const int end = before[0] + counts[mine];
  const int tiles = (counts[mine] + kGemmSmallRows - 1) / kGemmSmallRows;
  for (int i = thread; i < tiles; i += kSortThreads) {
    const int first = before[0] + i * kGemmSmallRows;
    p.tiles[before[1] + i] = MoETile{mine, first, min(end, first + kGemmSmallRows), 0};
  }
  if (mine == p.experts - 1 && thread == 0) *p.tile_count = before[1] + tiles;

  int next = before[0];  // the place of the first pair of this round
  for (int round = 0; round < pairs; round += kSortThreads) {
    const int i = round + thread;
    const bool wanted = i < pairs && p.chosen[i] == mine;
    const unsigned lanes = __ballot_sync(kAllLanes, wanted);
    if (lane == 0) warps[warp] = __popc(lanes);
    __syncthreads();
    const int count = warps[lane];
    const int smaller = warp_sum(lane < warp ? count : 0);
    const int all = warp_sum(count);
    if (wanted) {
      const int place = next + smaller + __popc(lanes & ((1u << lane) - 1));
      p.source[place] = i / p.top_k;
      p.place[i] = place;
    }
    next += all;
    __syncthreads();  // before warps is written again
  }
}

// Products of sorted pairs with their experts' matrices. See gemm_tile.cuh.
//
//   x [any, cols], index [pairs] or null, experts [experts] of [outputs, cols],
//   out [pairs, outputs]
//   grid    (max_tiles, ceil(outputs / kGemmSmallOutputs)) blocks of kGemmSmallThreads threads;
//           those past tile_count do nothing
//   shared  kGemmSmallShared, asked for at launch
extern "C" __global__ void __launch_bounds__(kGemmSmallThreads, 3)
    moe_gemm_bf16(const __grid_constant__ MoEGemmParams p) {
  extern __shared__ __align__(128) unsigned char shared[];
  let_next_start();
  wait_for_previous();
  const int tile = blockIdx.x;
  if (tile >= *p.tile_count) return;
  Product product;
  product.x = p.x;
  product.index = p.index;
  product.out = p.out;
  product.x_stride = p.cols;
  product.out_stride = p.outputs;
  product.first = p.tiles[tile].first;
  product.end = p.tiles[tile].end;
  product.first_output = blockIdx.y * kGemmSmallOutputs;
  product.outputs = p.outputs;
  product.cols = p.cols;
  product.store = p.store;
  Pairs::run(product, p.experts[p.tiles[tile].expert], shared_address(shared));
}

// Sum: out[r] += sum over k of weights[r, k] · down[place[r, k]], in float32 and rounded once.
//
//   down [pairs, cols], weights [rows, top_k], place [rows, top_k], out [rows, cols]
//   grid   (rows, ceil(cols / kRowThreads)) blocks of kRowThreads threads, an output a thread
extern "C" __global__ void __launch_bounds__(kRowThreads)
    moe_combine_bf16(const __grid_constant__ MoECombineParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const int c = blockIdx.y * kRowThreads + threadIdx.x;
  if (c >= p.cols) return;
  float sum = 0;
  for (int k = 0; k < p.top_k; k++) {
    const int64_t pair = row * p.top_k + k;
    sum += p.weights[pair] * p.down[p.place[pair] * static_cast<int64_t>(p.cols) + c];
  }
  bf16* out = p.out + row * p.cols + c;
  *out = __float2bfloat16_rn(__bfloat162float(*out) + sum);
}
