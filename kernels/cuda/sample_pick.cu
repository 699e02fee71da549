// The token of each row, and its largest logits; sample.cu has the whole.
//
//   grid   any number of blocks of kSampleThreads threads: a block takes a row
//
// Where a filter leaves no more tokens than fit, they are gathered and sorted in shared memory;
// else the places where it cuts are searched for in passes over the row.
#include "sample.cuh"

constexpr int kRoom = 2048;   // tokens that a block can sort
constexpr int kFewest = 512;  // largest top_k that is found by the threads' largest logits

// Row is what sample_pick knows of a row.
struct Row {
  const Chunk* chunks;
  int chunk_count;
  const float* logits;  // after biases and penalties
  int vocab;
  float largest;  // of them
  float temperature;
};

// uniform is the number in [0, 1) for a token of a request: Philox 4x32-10, see ref.Uniform.
__device__ static double uniform(uint64_t seed, uint64_t counter) {
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  uint32_t k[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int i = 0; i < 10; i++) {
    const uint64_t a = static_cast<uint64_t>(0xD2511F53u) * c[0],
                   b = static_cast<uint64_t>(0xCD9E8D57u) * c[2];
    const uint32_t c1 = c[1], c3 = c[3];
    c[0] = static_cast<uint32_t>(b >> 32) ^ c1 ^ k[0];
    c[1] = static_cast<uint32_t>(b);
    c[2] = static_cast<uint32_t>(a >> 32) ^ c3 ^ k[1];
    c[3] = static_cast<uint32_t>(a);
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  const uint64_t random = (static_cast<uint64_t>(c[1]) << 32 | c[0]) >> 11;
  return __dmul_rn(__ull2double_rn(random), 1.0 / 9007199254740992.0);
}

// Room is the shared memory of sample_pick and sample_top. Entries are tokens that may be left.
struct Room {
  uint64_t key[kRoom];
  uint64_t weight[kRoom];
  uint32_t id[kRoom];
  uint64_t bin_weights[kSampleBins];
  int32_t bin_counts[kSampleBins];
  uint64_t words[kWarp];
  double doubles[kWarp];
  float floats[kWarp];
  int entries;
  int found;
  uint64_t rest;
  double rest_double;
};
static_assert(sizeof(Room) <= 48 * 1024);

__device__ static uint64_t* words_of(Room& r, uint64_t) { return r.words; }
__device__ static double* words_of(Room& r, double) { return r.doubles; }
__device__ static uint64_t& rest_of(Room& r, uint64_t) { return r.rest; }
__device__ static double& rest_of(Room& r, double) { return r.rest_double; }

// total_of is the sum of n weights.
template <class T, class Weight>
__device__ static T total_of(Room& r, int n, Weight weight) {
  const int each = (n + kSampleThreads - 1) / kSampleThreads, first = threadIdx.x * each;
  T own = 0;
  for (int i = first; i < min(first + each, n); i++) own += weight(i);
  return sum_of<kSampleThreads>(own, words_of(r, T()));
}

// find is the last of n weights above 0 of which those before it add up to target or less: where
// the cumulative weight exceeds target, or the last one. rest is what target exceeds them by. -1
// where all are 0.
template <class T, class Weight>
__device__ static int find(Room& r, int n, T target, Weight weight, T& rest) {
  const int each = (n + kSampleThreads - 1) / kSampleThreads, first = threadIdx.x * each;
  T own = 0, total;
  for (int i = first; i < min(first + each, n); i++) own += weight(i);
  const T before = before_in<kSampleThreads>(own, words_of(r, T()), total);
  if (threadIdx.x == 0) r.found = -1;
  __syncthreads();
  if (own > 0 && before <= target) atomicMax(&r.found, static_cast<int>(threadIdx.x));
  __syncthreads();
  const bool here = r.found == static_cast<int>(threadIdx.x);
  __syncthreads();
  if (here) {
    T sum = before;
    for (int i = first; i < min(first + each, n); i++) {
      const T w = weight(i);
      if (!(w > 0)) continue;
      if (sum > target) break;
      r.found = i;
      rest_of(r, T()) = target - sum;
      sum += w;
    }
  }
  __syncthreads();
  const int found = r.found;
  rest = rest_of(r, T());
  __syncthreads();
  return found;
}

// sort puts n entries in the order of their keys, equal ones of their ids; or of their ids alone.
// Bitonic: Batcher, 1968.
template <bool kByID>
__device__ __noinline__ static void sort(Room& r, int n) {
  int size = 2;
  while (size < n) size *= 2;
  for (int i = n + threadIdx.x; i < size; i += kSampleThreads) {
    r.key[i] = kNone;
    r.id[i] = ~0u;
    r.weight[i] = 0;
  }
  __syncthreads();
  for (int run = 2; run <= size; run *= 2) {
    for (int apart = run / 2; apart > 0; apart /= 2) {
      for (int k = threadIdx.x; k < size / 2; k += kSampleThreads) {
        const int a = k / apart * 2 * apart + k % apart, b = a + apart;
        const bool rising = (a & run) == 0;
        const uint64_t key_a = r.key[a], key_b = r.key[b];
        const uint32_t id_a = r.id[a], id_b = r.id[b];
        const bool after = kByID || key_a == key_b ? id_a > id_b : key_a > key_b;
        if (after == rising && (key_a != key_b || id_a != id_b)) {
          const uint64_t weight = r.weight[a];
          r.key[a] = key_b, r.key[b] = key_a;
          r.id[a] = id_b, r.id[b] = id_a;
          r.weight[a] = r.weight[b], r.weight[b] = weight;
        }
      }
      __syncthreads();
    }
  }
}

// leading is how many of the first n entries it takes to have the needed weight: all where all have
// less.
__device__ __noinline__ static int leading(Room& r, int n, uint64_t need) {
  uint64_t rest;
  const int at = find<uint64_t>(r, n, need - 1, [&](int i) { return r.weight[i]; }, rest);
  return at < 0 ? n : at + 1;
}

// each_token calls visit(id, logit, real) for all tokens of a row, from warps as a whole: some
// tokens are not real. kSmall visits are written out four times.
template <bool kSmall = false, class Visit>
__device__ static void each_token(const float* logits, int vocab, Visit visit) {
  const bool aligned = aligned16(logits);
#pragma unroll(kSmall ? 2 : 1)
  for (int base = 0; base < vocab; base += 4 * kSampleThreads) {
    const int id = base + 4 * static_cast<int>(threadIdx.x);
    const float4 four = load4(logits, id, vocab, aligned);
#pragma unroll(kSmall ? 4 : 1)
    for (int i = 0; i < 4; i++) {
      const float logit = i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
      visit(id + i, logit, id + i < vocab);
    }
  }
}

// gather makes entries of the wanted tokens, with their costs as keys, in any order. It returns how
// many there are; only kRoom are gathered.
template <bool kSmall = false, class Wanted>
__device__ static int gather(Room& r, const float* logits, int vocab, Wanted wanted) {
  __syncthreads();
  if (threadIdx.x == 0) r.entries = 0;
  __syncthreads();
  each_token<kSmall>(logits, vocab, [&](int id, float logit, bool real) {
    if (!real || !wanted(id, logit)) return;
    const int at = atomicAdd(&r.entries, 1);
    if (at >= kRoom) return;
    r.key[at] = cost_of(logit);
    r.id[at] = id;
  });
  __syncthreads();
  return r.entries;
}

// mark_of is a cost that at least n tokens do not exceed, and hardly more: the n-th of the threads'
// least. n is at most kFewest. kNone where there are not enough threads with tokens: then there are
// few tokens.
__device__ __noinline__ static uint64_t mark_of(Room& r, const float* logits, int vocab, int n) {
  uint64_t least = kNone;
  each_token<true>(logits, vocab, [&](int, float logit, bool real) {
    if (real) least = min(least, static_cast<uint64_t>(cost_of(logit)));
  });
  __syncthreads();
  r.key[threadIdx.x] = least;
  r.id[threadIdx.x] = threadIdx.x;
  r.weight[threadIdx.x] = 0;
  __syncthreads();
  sort<false>(r, kSampleThreads);
  const uint64_t mark = r.key[n - 1];
  __syncthreads();
  return mark;
}

// Place is a token's place in an order: by high, then by low.
struct Place {
  uint64_t high;
  uint32_t low;

  __device__ bool upto(const Place& end) const {
    return high < end.high || (high == end.high && low <= end.low);
  }
};

// select is the place of the last of the first tokens that together have the needed measure: their
// weights, or with by_count their number. measure(id, logit, inside) is a token's weight, 0 for one
// that does not take part; it asks inside(its place) first, and is 0 for one that is not. It looks
// at eight bits of the places at a time, at most 12 times at all tokens.
template <class Measure>
__device__ static Place select(Room& r, const float* logits, int vocab, uint64_t need,
                               bool by_count, Measure measure) {
  constexpr int kDigits = 12;
  Place found = {0, 0};
  for (int digit = 0; digit < kDigits; digit++) {
    __syncthreads();
    for (int i = threadIdx.x; i < kSampleBins; i += kSampleThreads)
      r.bin_weights[i] = r.bin_counts[i] = 0;
    __syncthreads();
    each_token(logits, vocab, [&](int id, float logit, bool real) {
      int bin = 0;
      const auto inside = [&](const Place& at) {
        if (digit < 8) {
          bin = static_cast<int>(at.high >> (56 - 8 * digit) & 255);
          return digit == 0 || at.high >> (64 - 8 * digit) == found.high >> (64 - 8 * digit);
        }
        bin = static_cast<int>(at.low >> (88 - 8 * digit) & 255);
        return at.high == found.high &&
               (digit == 8 || at.low >> (96 - 8 * digit) == found.low >> (96 - 8 * digit));
      };
      const uint64_t weight = real ? measure(id, logit, inside) : 0;
      add_to_bins(r.bin_weights, r.bin_counts, bin, weight, weight > 0);
    });
    __syncthreads();
    uint64_t rest;
    const auto measured = [&](int i) {
      return by_count ? static_cast<uint64_t>(r.bin_counts[i]) : r.bin_weights[i];
    };
    const uint64_t total = total_of<uint64_t>(r, kSampleBins, measured);
    if (total < need) return {kNone, ~0u};  // only at the first digit: all are wanted
    const int bin = find<uint64_t>(r, kSampleBins, need - 1, measured, rest);
    need = rest + 1;
    const bool last = r.bin_counts[bin] == 1 || measured(bin) == need;
    // The digit, and ones behind it: they stay if the bin is wanted as it is.
    if (digit < 8) {
      const int shift = 56 - 8 * digit;
      found.high = (found.high & ~(kNone >> (8 * digit))) | static_cast<uint64_t>(bin) << shift |
                   ((1ull << shift) - 1);
      found.low = ~0u;
    } else {
      const int shift = 88 - 8 * digit;
      found.low = (found.low & ~(~0u >> (8 * digit - 64))) | static_cast<uint32_t>(bin) << shift |
                  ((1u << shift) - 1);
    }
    if (last) break;
  }
  return found;
}

// finish draws from entries, whose keys are costs: all that the filter may leave, or all of the
// first ones that may have the weight need, if that is not 0.
__device__ __noinline__ static int finish(Room& r, const Row& row, const Wish& wish, int n,
                                          uint64_t need) {
  const auto weight = [&](int i) { return r.weight[i]; };
  sort<false>(r, n);
  if (wish.few) n = min(n, wish.filter.top_k);
  for (int i = threadIdx.x; i < n; i += kSampleThreads)
    r.weight[i] = weigh(logit_of(static_cast<uint32_t>(r.key[i])), row.largest, row.temperature);
  __syncthreads();
  if (wish.nucleus) {
    if (need == 0) need = share(total_of<uint64_t>(r, n, weight), wish.filter.top_p);
    n = leading(r, n, need);
  }
  for (int i = threadIdx.x; i < n; i += kSampleThreads) {
    if (r.weight[i] >= wish.least) continue;
    r.weight[i] = 0;
    r.id[i] = ~0u;  // behind the others
  }
  __syncthreads();
  sort<true>(r, n);
  uint64_t total = total_of<uint64_t>(r, n, weight);
  if (wish.typical) {
    for (int i = threadIdx.x; i < n; i += kSampleThreads) {
      const float logit = logit_of(static_cast<uint32_t>(r.key[i]));
      r.key[i] = __double_as_longlong(exponent(logit, row.largest, row.temperature));
    }
    __syncthreads();
    if (threadIdx.x == 0) {  // in the order of the ids, as the reference has it
      double mean = 0;
      for (int i = 0; i < n && r.weight[i] > 0; i++)
        mean = product_plus(__ull2double_rn(r.weight[i]), __longlong_as_double(r.key[i]), mean);
      r.rest_double = __ddiv_rn(mean, __ull2double_rn(total));
    }
    __syncthreads();
    const double mean = r.rest_double;
    for (int i = threadIdx.x; i < n; i += kSampleThreads) {
      const double far = fabs(__dsub_rn(__longlong_as_double(r.key[i]), mean));
      r.key[i] = r.weight[i] > 0 ? __double_as_longlong(far) : kNone;
    }
    __syncthreads();
    sort<false>(r, n);
    n = leading(r, n, share(total, wish.filter.typical_p));
    sort<true>(r, n);
    total = total_of<uint64_t>(r, n, weight);
  }
  uint64_t target = static_cast<uint64_t>(
      __dmul_rn(uniform(wish.row.seed, wish.row.counter), __ull2double_rn(total)));
  target = min(target, total - 1);
  const int at = find<uint64_t>(r, n, target, weight, target);
  return static_cast<int>(r.id[at]);
}

// draw picks a token of a row, given what each weighs and what its chunks weigh.
template <class Weight>
__device__ static int draw(Room& r, const Row& row, const Wish& wish, Weight weight) {
  const auto chunk_weight = [&](int i) { return row.chunks[i].weight; };
  const uint64_t total = total_of<uint64_t>(r, row.chunk_count, chunk_weight);
  uint64_t target = static_cast<uint64_t>(
      __dmul_rn(uniform(wish.row.seed, wish.row.counter), __ull2double_rn(total)));
  target = min(target, total - 1);
  const int chunk = find<uint64_t>(r, row.chunk_count, target, chunk_weight, target);
  const int first = chunk * kSampleChunk;
  const auto token_weight = [&](int i) { return weight(first + i, row.logits[first + i]); };
  return first +
         find<uint64_t>(r, min(kSampleChunk, row.vocab - first), target, token_weight, target);
}

// search draws where more tokens are left than a block can sort: it looks for the places at which
// the filters cut.
__device__ __noinline__ static int search(Room& r, const Row& row, const Wish& wish,
                                          Chunk* chunks) {
  const auto weight = [&](float logit) { return weigh(logit, row.largest, row.temperature); };
  Place last = {kNone, ~0u};  // by logit
  if (wish.few) {
    last = select(r, row.logits, row.vocab, wish.filter.top_k, true,
                  [&](int id, float logit, auto inside) {
                    return static_cast<uint64_t>(inside(Place{rank(logit, id), 0}));
                  });
  }
  const auto total = [&](auto left) {
    uint64_t own = 0;
    each_token(row.logits, row.vocab,
               [&](int id, float logit, bool real) { own += real ? left(id, logit) : 0; });
    return sum_of<kSampleThreads>(own, r.words);
  };
  if (wish.nucleus) {
    const auto left = [&](int id, float logit) {
      return Place{rank(logit, id), 0}.upto(last) ? weight(logit) : static_cast<uint64_t>(0);
    };
    const uint64_t need = share(total(left), wish.filter.top_p);
    last = select(r, row.logits, row.vocab, need, false, [&](int id, float logit, auto inside) {
      return inside(Place{rank(logit, id), 0}) ? left(id, logit) : 0;
    });
  }
  const auto likely = [&](int id, float logit) {
    if (!Place{rank(logit, id), 0}.upto(last)) return static_cast<uint64_t>(0);
    const uint64_t w = weight(logit);
    return w >= wish.least ? w : 0;
  };
  double mean = 0;
  Place farthest = {kNone, ~0u};  // by distance from the mean
  const auto place_of = [&](int id, float logit) {
    const double far = fabs(__dsub_rn(exponent(logit, row.largest, row.temperature), mean));
    return Place{static_cast<uint64_t>(__double_as_longlong(far)), static_cast<uint32_t>(id)};
  };
  if (wish.typical) {
    double own = 0;
    each_token(row.logits, row.vocab, [&](int id, float logit, bool real) {
      const uint64_t w = real ? likely(id, logit) : 0;
      if (w > 0)
        own = product_plus(__ull2double_rn(w), exponent(logit, row.largest, row.temperature), own);
    });
    const uint64_t all = total(likely);
    mean = __ddiv_rn(sum_of<kSampleThreads>(own, r.doubles), __ull2double_rn(all));
    const uint64_t need = share(all, wish.filter.typical_p);
    farthest = select(r, row.logits, row.vocab, need, false, [&](int id, float logit, auto inside) {
      return inside(place_of(id, logit)) ? likely(id, logit) : 0;
    });
  }
  const auto left = [&](int id, float logit) {
    const uint64_t w = likely(id, logit);
    return w > 0 && wish.typical && !place_of(id, logit).upto(farthest) ? static_cast<uint64_t>(0)
                                                                        : w;
  };
  const int lane = threadIdx.x % kWarp;
  for (int c = threadIdx.x / kWarp; c < row.chunk_count; c += kSampleThreads / kWarp) {
    unsigned long long own = 0;
    const int end = min((c + 1) * kSampleChunk, row.vocab);
    for (int id = c * kSampleChunk + lane; id < end; id += kWarp) own += left(id, row.logits[id]);
#pragma unroll
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2)
      own += __shfl_xor_sync(kAllLanes, own, lanes);
    if (lane == 0) chunks[c].weight = own;
  }
  __syncthreads();
  return draw(r, row, wish, left);
}

// filter draws from a filtered row.
__device__ static int filter(const SampleParams& p, Room& r, const Row& row, const Wish& wish,
                             Chunk* chunks, int index) {
  if (wish.few) {
    if (wish.filter.top_k <= kFewest) {
      const uint64_t mark = mark_of(r, row.logits, row.vocab, wish.filter.top_k);
      const int n = gather<true>(r, row.logits, row.vocab,
                                 [&](int, float logit) { return cost_of(logit) <= mark; });
      if (n <= kRoom) return finish(r, row, wish, n, 0);
    }
    return search(r, row, wish, chunks);
  }
  if (!wish.nucleus && !wish.typical) {
    return draw(r, row, wish, [&](int, float logit) {
      const uint64_t w = weigh(logit, row.largest, row.temperature);
      return w >= wish.least ? w : 0;
    });
  }
  const uint64_t* const weights = p.bin_weights + static_cast<int64_t>(index) * kSampleBins;
  const int32_t* const counts = p.bin_counts + static_cast<int64_t>(index) * kSampleBins;
  uint64_t need = 0, rest;
  int last = kSampleBins - 1;  // bin
  if (wish.nucleus) {
    const auto weight = [&](int i) { return weights[i]; };
    need = share(total_of<uint64_t>(r, kSampleBins, weight), wish.filter.top_p);
    last = find<uint64_t>(r, kSampleBins, need - 1, weight, rest);
  }
  const uint64_t tokens = total_of<uint64_t>(r, kSampleBins, [&](int i) {
    return i <= last ? static_cast<uint64_t>(counts[i]) : static_cast<uint64_t>(0);
  });
  if (tokens > kRoom) return search(r, row, wish, chunks);
  const int n = gather(r, row.logits, row.vocab, [&](int, float logit) {
    const int bin = bin_of(logit, row.largest, row.temperature);
    constexpr int kHeavy =
        kSampleBins * 63 / 64;  // in the bins below there is nothing without weight
    return bin <= last && (bin < kHeavy || weigh(logit, row.largest, row.temperature) > 0);
  });
  return finish(r, row, wish, n, need);
}

// temper draws from a row without filters.
__device__ static int temper(Room& r, const Row& row, const Wish& wish) {
  const float bits = bits_of(row.temperature);
  const auto scale = [&](int i) {
    return exp2(static_cast<double>((logit_at(row.chunks[i].top) - row.largest) * bits));
  };
  const auto chunk_weight = [&](int i) { return row.chunks[i].tempered * scale(i); };
  const double total = total_of<double>(r, row.chunk_count, chunk_weight);
  double target = uniform(wish.row.seed, wish.row.counter) * total;
  const int chunk = find<double>(r, row.chunk_count, target, chunk_weight, target);
  if (chunk < 0) return -1;  // not a number
  const int first = chunk * kSampleChunk;
  const float largest = logit_at(row.chunks[chunk].top);
  target /= scale(chunk);
  const auto weight = [&](int i) {
    return static_cast<double>(power((row.logits[first + i] - largest) * bits));
  };
  return first + find<double>(r, min(kSampleChunk, row.vocab - first), target, weight, target);
}

extern "C" __global__ void __launch_bounds__(kSampleThreads, 1)
    sample_pick(const __grid_constant__ SampleParams p) {
  let_next_start();
  wait_for_previous();
  __shared__ Room r;
  const int rows = rows_of(p), chunk_count = (p.vocab + kSampleChunk - 1) / kSampleChunk;
  for (int index = blockIdx.x; index < rows; index += gridDim.x) {
    const Wish wish = wish_of(p, index);
    Chunk* const chunks =
        static_cast<Chunk*>(p.chunk_room) + static_cast<int64_t>(index) * chunk_count;
    const float* const logits = p.logits + static_cast<int64_t>(index) * p.vocab;
    uint64_t top = kNone, edited = kNone;
    bool strange = false;
    for (int i = threadIdx.x; i < chunk_count; i += kSampleThreads) {
      top = min(top, chunks[i].top);
      edited = min(edited, chunks[i].edited);
      strange |= chunks[i].finite == 0;
    }
    top = least_of<kSampleThreads>(top, r.words);
    const bool finite = !__syncthreads_or(strange);
    const float largest = logit_at(top);
    float plain = 0;
    for (int i = threadIdx.x; i < chunk_count; i += kSampleThreads)
      plain += chunks[i].plain * power((logit_at(chunks[i].top) - largest) * kBits);
    plain = sum_of<kSampleThreads>(plain, r.floats);

    SampleOut out = {};
    out.finite = finite;
    out.log_sum_exp = largest + logf(plain);
    out.argmax = finite ? static_cast<int32_t>(top & ~0u) : 0;
    out.token = out.argmax;
    if (wish.row.want >= 0) {
      out.token = wish.row.want;
    } else if (finite && wish.filtered) {
      edited = least_of<kSampleThreads>(edited, r.words);
      const float* const left =
          wish.edits ? p.edited + static_cast<int64_t>(index) * p.vocab : logits;
      const Row row = {chunks, chunk_count, left, p.vocab, logit_at(edited), wish.row.temperature};
      if (row.largest != minus_infinity()) {
        out.token = row.temperature == 0 ? static_cast<int32_t>(edited & ~0u)
                                         : filter(p, r, row, wish, chunks, index);
      }
    } else if (finite && wish.row.temperature > 0) {
      const Row row = {chunks, chunk_count, logits, p.vocab, largest, wish.row.temperature};
      const int token = temper(r, row, wish);
      if (token >= 0) out.token = token;
    }
    out.logit = logits[out.token];
    if (threadIdx.x == 0) p.out[index] = out;
    __syncthreads();  // the room has been read
  }
}

extern "C" __global__ void __launch_bounds__(kSampleThreads, 1)
    sample_top(const __grid_constant__ SampleParams p) {
  let_next_start();
  wait_for_previous();
  __shared__ Room r;
  const int rows = rows_of(p), most = p.top_n;
  if (most <= 0) return;
  for (int index = blockIdx.x; index < rows; index += gridDim.x) {
    const float* const logits = p.logits + static_cast<int64_t>(index) * p.vocab;
    const uint64_t mark = mark_of(r, logits, p.vocab, most);
    int n =
        gather<true>(r, logits, p.vocab, [&](int, float logit) { return cost_of(logit) <= mark; });
    if (n > kRoom) {  // many are equal
      const Place last =
          select(r, logits, p.vocab, most, true, [&](int id, float logit, auto inside) {
            return static_cast<uint64_t>(inside(Place{rank(logit, id), 0}));
          });
      n = gather(r, logits, p.vocab,
                 [&](int id, float logit) { return Place{rank(logit, id), 0}.upto(last); });
    }
    sort<false>(r, n);
    for (int i = threadIdx.x; i < most; i += kSampleThreads) {
      const int id = static_cast<int>(r.id[i]);
      p.top_tokens[static_cast<int64_t>(index) * most + i] = id;
      p.top_logits[static_cast<int64_t>(index) * most + i] = logits[id];
    }
    __syncthreads();  // the room has been read
  }
}
