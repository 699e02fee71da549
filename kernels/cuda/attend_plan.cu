// The tiles of a step, from its work list; attend.cu has the whole.
//
//   grid   one block of kAttendPlanThreads threads
//
// Bound by latency: once for a step, not for a layer.
//
// Version 1 cut every walk of a decoded row into parts of 128 tokens, at most 32, and what a part
// costs beside its tokens was most of the time of attend_decode: on an H200 340 us for 256 rows of
// 1,024 tokens where version 2, which weighs lengths, has 248, and with float8 338 and 152.
#include "attend_params.h"
#include "device.cuh"

constexpr int kNoSplit = 0x7fffffff;  // more than any cost

// sum_before gives a thread the sum of value over the threads before it, and total over all. sums
// is [kWarp + 1].
__device__ static int sum_before(int value, int* sums, int& total) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  int upto = value;
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) {
    const int before = __shfl_up_sync(kAllLanes, upto, lanes);
    if (lane >= lanes) upto += before;
  }
  __syncthreads();  // sums have been read
  if (lane == kWarp - 1) sums[warp] = upto;
  __syncthreads();
  if (warp == 0) {
    int all = lane < kAttendPlanThreads / kWarp ? sums[lane] : 0;
#pragma unroll
    for (int lanes = 1; lanes < kWarp; lanes *= 2) {
      const int before = __shfl_up_sync(kAllLanes, all, lanes);
      if (lane >= lanes) all += before;
    }
    sums[lane] = all;
  }
  __syncthreads();
  total = sums[kWarp - 1];
  return upto - value + (warp == 0 ? 0 : sums[warp - 1]);
}

// largest_upto gives a thread the largest value over the threads up to it, and all the largest of
// all.
__device__ static int largest_upto(int value, int* largest, int& all) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) {
    const int before = __shfl_up_sync(kAllLanes, value, lanes);
    if (lane >= lanes) value = max(value, before);
  }
  __syncthreads();
  if (lane == kWarp - 1) largest[warp] = value;
  __syncthreads();
  all = largest[0];
  int before = value;
  for (int w = 0; w < kAttendPlanThreads / kWarp; w++) {
    if (w < warp) before = max(before, largest[w]);
    all = max(all, largest[w]);
  }
  return before;
}

// follows says if item b goes on where a ends, over the same segments.
__device__ static bool follows(const AttendItem& a, const AttendItem& b) {
  return b.segment == a.segment && b.segments == a.segments && b.row == a.row + a.rows;
}

// rows_from is how many rows there are from row on, which lies in item i, up to most.
__device__ static int rows_from(const AttendPlanParams& p, int items, int i, int row, int most) {
  AttendItem item = p.items[i];
  while (item.row + item.rows - row < most && ++i < items) {
    const AttendItem next = p.items[i];
    if (!follows(item, next)) break;
    item = next;
  }
  return min(most, item.row + item.rows - row);
}

// Cut is how a tile's walk is cut.
struct Cut {
  bool decode;
  int rows;
  int tokens;  // of the whole walk
  int split;   // tokens of a part
  int parts;
};

// cut says how the tile is cut whose first row lies in item i, of a run of items that begins with
// head.
__device__ static Cut cut(const AttendPlanParams& p, int items, int head, int i, int row,
                          int tile_rows, int decode_split) {
  Cut c;
  c.rows = rows_from(p, items, i, row, tile_rows);
  c.decode = p.only_decode != 0 || c.rows * p.group <= p.decode_queries;
  c.tokens = 0;
  const AttendItem item = p.items[i];
  const int last = p.positions[row + c.rows - 1];  // positions rise with the rows
  for (int k = 0; k < item.segments; k++) {
    const AttendSegment s = p.segments[item.segment + k];
    c.tokens += max(0, min(s.len, last + 1 - s.pos));
  }
  c.split = max(1, c.tokens);
  if (c.decode) {
    const int even = (c.tokens + p.decode_splits - 1) / p.decode_splits;
    c.split =
        max(decode_split, (even + kAttendSplitStep - 1) / kAttendSplitStep * kAttendSplitStep);
  } else if (p.prefill_split_rows > 0 &&
             rows_from(p, items, head, p.items[head].row, p.prefill_split_rows + 1) <=
                 p.prefill_split_rows) {
    c.split = p.prefill_split;
  }
  c.parts = max(1, (c.tokens + c.split - 1) / c.split);
  return c;
}

// tokens_of is how many tokens an item's segments have.
__device__ static int tokens_of(const AttendPlanParams& p, const AttendItem& item) {
  int tokens = 0;
  for (int k = 0; k < item.segments; k++) tokens += p.segments[item.segment + k].len;
  return tokens;
}

__device__ static int quotient(int n, int by) { return (n + by - 1) / by; }

// cut_decodes is how many tokens a part of a decoded row has: as shared_split, of 32 lengths from
// decode_split on, four for each power of two. A row that sees nothing, as those that fill a step
// up, changes nothing. The first kAttendPlanThreads items count. A lane judges a length, and a warp
// looks at every 32nd item.
__device__ static int cut_decodes(const AttendPlanParams& p, int items) {
  __shared__ int tokens[kAttendPlanThreads], times[kAttendPlanThreads];
  __shared__ int tiles[kWarp], longest[kWarp], work, chosen;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  tokens[thread] = times[thread] = 0;
  if (thread < items) {
    const AttendItem item = p.items[thread];
    if (p.only_decode != 0 || item.rows * p.group <= p.decode_queries) {
      const int last = p.positions[item.row + item.rows - 1];
      int seen = 0;
      for (int k = 0; k < item.segments; k++) {
        const AttendSegment s = p.segments[item.segment + k];
        seen += max(0, min(s.len, last + 1 - s.pos));
      }
      tokens[thread] = seen;
      if (seen > 0) times[thread] = quotient(item.rows, max(1, p.decode_queries / p.group));
    }
  }
  if (thread < kWarp) tiles[thread] = longest[thread] = 0;
  if (thread == 0) work = 0;
  __syncthreads();
  const int split = (p.decode_split + lane % 4 * (p.decode_split / 4)) << lane / 4;
  int mine = 0, most = 0, sum = 0;
  for (int i = thread / kWarp; i < min(items, kAttendPlanThreads);
       i += kAttendPlanThreads / kWarp) {
    const int each = max(split, quotient(tokens[i], p.decode_splits));
    mine += times[i] * quotient(tokens[i], each);
    most = max(most, min(tokens[i], each));
    sum += times[i] * tokens[i];
  }
  atomicAdd(&tiles[lane], mine);
  atomicMax(&longest[lane], most);
  if (lane == 0) atomicAdd(&work, sum);
  __syncthreads();
  if (thread < kWarp) {
    const int busy = max(1, p.decode_tiles_busy), turns = quotient(tiles[lane], busy);
    const int each = longest[lane] + kAttendDecodeCost;
    const int cost = min(turns * each, quotient(work, busy) + turns * kAttendDecodeCost + each);
    int least = cost;
#pragma unroll
    for (int apart = 1; apart < kWarp; apart *= 2)
      least = min(least, __shfl_xor_sync(kAllLanes, least, apart));
    const unsigned best = __ballot_sync(kAllLanes, cost == least);
    if (lane == 31 - __clz(best)) chosen = split;  // the longest of them
  }
  __syncthreads();
  return chosen;
}

// shared_split is how many tokens a part of a shared item has: that for which the busiest block is
// done first, where blocks take turns for shared_tiles tiles and a part costs as much as
// kAttendSharedCost tokens beside its own, and for whose parts there is room. For the last resort,
// items that are not cut, the host cares that there is. Each thread judges one length.
__device__ static int shared_split(const AttendPlanParams& p, int items, int tile_rows,
                                   int* scratch) {
  const int thread = static_cast<int>(threadIdx.x), turn = max(1, p.shared_tiles);
  int longest = 1, work = 0;  // tokens; tokens of all tiles
  for (int i = 0; i < items; i++) {
    const int tokens = tokens_of(p, p.shared[i]);
    longest = max(longest, tokens);
    work += tokens * quotient(p.shared[i].rows, tile_rows);
  }
  int split = kAttendSharedSplit + thread * kAttendSharedStep;
  if (thread == kAttendPlanThreads - 1)
    split = max(split, quotient(longest, kAttendSharedStep) * kAttendSharedStep);
  int parts = 0, tiles = 0;
  for (int i = 0; i < items; i++) {
    const int rows = p.shared[i].rows, splits = quotient(tokens_of(p, p.shared[i]), split);
    parts += rows * splits;
    tiles += quotient(rows, tile_rows) * splits;
  }
  const int each = min(split, longest) + kAttendSharedCost;
  const int cost = min(quotient(tiles, turn) * each,
                       quotient(work, turn) + quotient(tiles, turn) * kAttendSharedCost + each);
  const bool fits = split >= longest || parts + p.rows <= p.parts_most;
  const int worth = fits ? -cost : -kNoSplit;
  int best, chosen;
  largest_upto(worth, scratch, best);
  largest_upto(worth == best ? kAttendPlanThreads - thread : 0, scratch, chosen);
  __syncthreads();  // scratch has been read
  if (thread == kAttendPlanThreads - chosen) scratch[0] = split;
  __syncthreads();
  return scratch[0];
}

// share makes the tiles of shared items: up to a tile's rows, wherever in the batch they are, for a
// run of tokens. All of them give parts; where those of a row are is listed in the order of the
// items, and of the tokens in each. It returns the number of parts.
__device__ static int share(const AttendPlanParams& p, int* scratch, int& tiles) {
  const int items = p.item_count == nullptr ? p.shared_most : min(p.item_count[3], p.shared_most);
  const int tile_rows = max(1, kAttendTileQueries / p.group);
  const int thread = static_cast<int>(threadIdx.x);
  const int split = shared_split(p, items, tile_rows, scratch);

  for (int r = thread; r < p.rows; r += kAttendPlanThreads) p.row_parts[r] = 0;
  __syncthreads();
  int part = 0;
  for (int i = 0; i < items; i++) {
    const AttendItem item = p.shared[i];
    const int tokens = tokens_of(p, item), splits = quotient(tokens, split);
    const int count = splits * quotient(item.rows, tile_rows);
    for (int t = thread; t < count; t += kAttendPlanThreads) {
      const int first = t / splits * tile_rows, k = t % splits;
      int segment = item.segment, skip = k * split;
      while (skip >= p.segments[segment].len) skip -= p.segments[segment++].len;
      p.prefill_tiles[tiles + t] = {~(item.row + first), min(tile_rows, item.rows - first),
                                    segment,             skip,
                                    min(split, tokens - k * split), part + k * item.rows + first,
                                    0,                  0};
    }
    for (int j = thread; j < item.rows; j += kAttendPlanThreads)
      p.row_parts[p.shared_rows[item.row + j]] += splits;
    __syncthreads();  // the next item may have the same rows
    part += item.rows * splits;
    tiles += count;
  }

  int listed = 0;
  for (int base = 0; base < p.rows; base += kAttendPlanThreads) {
    const int r = base + thread;
    int total;
    const int before = sum_before(r < p.rows ? p.row_parts[r] : 0, scratch, total);
    if (r < p.rows) p.row_first[r] = listed + before;
    listed += total;
  }
  __syncthreads();
  int first = 0;
  for (int i = 0; i < items; i++) {  // row_first goes on to where the row's next part is listed
    const AttendItem item = p.shared[i];
    const int splits = quotient(tokens_of(p, item), split);
    for (int j = thread; j < item.rows; j += kAttendPlanThreads) {
      int* to = &p.row_first[p.shared_rows[item.row + j]];
      for (int k = 0; k < splits; k++) p.shared_list[*to + k] = first + k * item.rows + j;
      *to += splits;
    }
    __syncthreads();
    first += item.rows * splits;
  }
  for (int r = thread; r < p.rows; r += kAttendPlanThreads) {
    p.row_first[r] -= p.row_parts[r];
    p.part_list[part + r] = part + r;
  }
  __syncthreads();
  return part;
}

// attend_plan cuts items into tiles. Items of one span, which follow each other over the same
// segments, are one run of rows; tiles are cut from its first row on. A thread has the tiles that
// begin in its item.
extern "C" __global__ void __launch_bounds__(kAttendPlanThreads)
    attend_plan(const __grid_constant__ AttendPlanParams p) {
  let_next_start();
  wait_for_previous();
  __shared__ int scratch[kWarp + 1];
  if (p.done != nullptr)
    for (int i = threadIdx.x; i < p.done_most; i += kAttendPlanThreads) p.done[i] = 0;
  const int items = p.item_count == nullptr ? p.items_most : min(*p.item_count, p.items_most);
  const int decode_split = cut_decodes(p, items);
  const int tile_rows =
      max(1, (p.only_decode != 0 ? p.decode_queries : kAttendTileQueries) / p.group);
  int decodes = 0, prefills = 0, merges = 0, parts = 0, run = 0;  // of the items before
  // What a row that shares has of its own is a part, too: the one at own + row where it is not cut.
  int own = 0;
  if (p.row_parts != nullptr) {
    own = share(p, scratch, prefills);
    parts = own + p.rows;
  }
  const auto shares = [&](int row) { return p.row_parts != nullptr && p.row_parts[row] > 0; };
  for (int base = 0; base < items; base += kAttendPlanThreads) {
    const int i = base + static_cast<int>(threadIdx.x);
    AttendItem item = {};
    bool begins = false;
    if (i < items) {
      item = p.items[i];
      begins = i == 0 || !follows(p.items[i - 1], item);
    }
    int last_run;
    const int head = largest_upto(max(run, begins ? i : 0), scratch, last_run);
    run = last_run;
    int first = item.row, end = item.row + item.rows;
    if (i < items) {
      const int before =
          (first - p.items[head].row) % tile_rows;  // rows of the tile that goes on here
      if (before > 0) first += tile_rows - before;
    }

    int wanted = 0, total;
    for (int row = first; row < end; row += tile_rows) {
      const Cut c = cut(p, items, head, i, row, tile_rows, decode_split);
      if (c.parts > 1) wanted += c.parts * c.rows;
    }
    const int first_part = parts + sum_before(wanted, scratch, total);
    parts += total;

    int part = first_part, my_decodes = 0, my_prefills = 0, my_merges = 0;
    for (int row = first; row < end; row += tile_rows) {
      const Cut c = cut(p, items, head, i, row, tile_rows, decode_split);
      const bool fits = c.parts > 1 && part + c.parts * c.rows <= p.parts_most;
      if (c.parts > 1) part += c.parts * c.rows;
      (c.decode ? my_decodes : my_prefills) += fits ? c.parts : 1;
      my_merges += fits || shares(row) ? c.rows : 0;
    }
    int decode = decodes + sum_before(my_decodes, scratch, total);
    decodes += total;
    int prefill = prefills + sum_before(my_prefills, scratch, total);
    prefills += total;
    int merge = merges + sum_before(my_merges, scratch, total);
    merges += total;

    part = first_part;
    for (int row = first; row < end; row += tile_rows) {
      const Cut c = cut(p, items, head, i, row, tile_rows, decode_split);
      const bool fits = c.parts > 1 && part + c.parts * c.rows <= p.parts_most;
      AttendTile* tile = c.decode ? p.decode_tiles + decode : p.prefill_tiles + prefill;
      int segment = item.segment, skip = 0;  // where the next part begins
      const int tiles = fits ? c.parts : 1;
      for (int k = 0; k < tiles; k++) {
        const int tokens = fits ? min(c.split, c.tokens - k * c.split) : c.tokens;
        const int whole = shares(row) ? own + row : -1;
        tile[k] = {row,    c.rows, segment,
                   skip,   tokens, fits ? part + k * c.rows : whole,
                   part,   tiles};
        skip += tokens;
        while (k + 1 < tiles && skip >= p.segments[segment].len) skip -= p.segments[segment++].len;
        for (int r = 0; fits && r < c.rows; r++)
          p.part_list[part + r * c.parts + k] = part + k * c.rows + r;
      }
      for (int r = 0; fits && r < c.rows; r++)
        p.merges[merge + r] = {row + r, part + r * c.parts, c.parts};
      for (int r = 0; !fits && shares(row) && r < c.rows; r++)
        p.merges[merge + r] = {row + r, own + row + r, 1};
      (c.decode ? decode : prefill) += tiles;
      merge += fits || shares(row) ? c.rows : 0;
      if (c.parts > 1) part += c.parts * c.rows;
    }
  }
  if (threadIdx.x == 0) *p.counts = {decodes, prefills, merges, 0};
}
