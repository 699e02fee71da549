// What compute capability 9.0 has beyond device.cuh: barriers in shared memory that count bytes,
// the copy engine that fills tiles and tells a barrier, clusters of blocks, and products of a
// warpgroup (four warps) whose operands lie in shared memory. All of it is for sm_90a alone.
//
// Addresses are of shared memory, as shared_address gives them. In a cluster an address with
// another block's rank in it (there_in) is that block's memory.
#pragma once
#include "device.cuh"

constexpr int kWarpgroup = 4 * kWarp;

// let_next_begin lets the kernel after this one start early where it may. It waits for this one's
// end by itself, and until then has what this one's blocks leave of the multiprocessors.
__device__ inline void let_next_begin() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// Barriers: a phase ends when as many arrivals as it was made for and all bytes that were announced
// have come. Phases are told apart by their parity, which begins with 0.
__device__ inline void barrier_make(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// barrier_made lets the copy engine and the other blocks of a cluster see new barriers, once the
// threads have met.
__device__ inline void barrier_made() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// barrier_announce arrives, and makes the phase wait for so many bytes.
__device__ inline void barrier_announce(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// barrier_arrive arrives at a barrier of any block of the cluster. It says that reads are over and
// publishes no writes: to do so beyond the block would cost a fence of the whole device each time.
__device__ inline void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// barrier_wait returns when the phase of that parity is over.
__device__ inline void barrier_wait(uint32_t barrier, uint32_t parity) {
  uint32_t over = 0;
#ifdef QUIRE_SPIN_LIMIT
  int spins = 0;
#endif
  while (true) {
    asm volatile(
        "{\n"
        ".reg .pred over;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over;\n"
        "}"
        : "=r"(over)
        : "r"(barrier), "r"(parity)
        : "memory");
    if (over) return;
#ifdef QUIRE_SPIN_LIMIT
    if (++spins > QUIRE_SPIN_LIMIT) __trap();
#endif
  }
}

// there_in is the same place in the memory of the cluster's block of that rank.
__device__ inline uint32_t there_in(uint32_t address, uint32_t rank) {
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}

__device__ inline uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// cluster_come says that a thread has come to where the cluster meets, and cluster_wait returns when
// all have. Then each sees what the others wrote to shared memory before. Between the two a thread
// may do what is its own business.
__device__ inline void cluster_come() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ inline void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// cluster_meet is both where nothing was written, and cheap.
__device__ inline void cluster_meet() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  cluster_wait();
}

__device__ inline float4 load_there(uint32_t address) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

// copy_tile has the copy engine bring the box of a map that begins at (column, row) to shared
// memory, and its bytes to the barrier. What lies outside the matrix comes as zeros and counts.
__device__ inline void copy_tile(uint32_t to, const TensorMap* map, int column, int row,
                                 uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4}], [%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(column), "r"(row)
      : "memory");
}

// copy_tile_to does it for the blocks of the cluster whose bits are set: to the same place in each,
// and to the same barrier.
__device__ inline void copy_tile_to(uint16_t blocks, uint32_t to, const TensorMap* map, int column,
                                    int row, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "h"(blocks)
      : "memory");
}

__device__ inline void prefetch_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// operand_at describes a tile in shared memory, aligned to 1,024 bytes, whose rows are 128 bytes:
// 64 columns of bfloat16, swizzled as the copy engine does it for 128 bytes (run i of row r at
// i ^ r % 8). Groups of eight rows are 1,024 bytes apart. Adding 2 goes on by 16 columns.
__device__ inline uint64_t operand_at(uint32_t address) {
  return static_cast<uint64_t>(1) << 62 | static_cast<uint64_t>(1024 / 16) << 32 |
         static_cast<uint64_t>(1) << 16 | (address & 0x3ffff) >> 4;
}

// Products of a warpgroup are queued between begin and commit, and run on their own.
__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kGroups>
__device__ inline void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}

// product_add is sums = a · bᵀ (+ sums if add) for 64 rows of a and kOutputs rows of b, 16 columns
// of each. Lane (g, t) of warp w has at sums[4j + 2i + c] row 16w + g + 8i, output 8j + 2t + c.
template <int kOutputs>
__device__ inline void product_add(float (&sums)[kOutputs / 2], uint64_t a, uint64_t b, int add);

#define QUIRE_S4(i) "+f"(s[i]), "+f"(s[i + 1]), "+f"(s[i + 2]), "+f"(s[i + 3])
#define QUIRE_S16(i) QUIRE_S4(i), QUIRE_S4(i + 4), QUIRE_S4(i + 8), QUIRE_S4(i + 12)
#define QUIRE_S32(i) QUIRE_S16(i), QUIRE_S16(i + 16)
#define QUIRE_N32                                                                              \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define QUIRE_N48 \
  QUIRE_N32       \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define QUIRE_N64 \
  QUIRE_N48       \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define QUIRE_N96                                                                         \
  QUIRE_N64                                                                               \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80" \
  ", %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define QUIRE_N128                                                                     \
  QUIRE_N96                                                                            \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109"   \
  ", %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123" \
  ", %124, %125, %126, %127"

// The operands after the sums: a, b, and if to add.
#define QUIRE_PRODUCT(outputs, numbers, a_number, b_number, add_number, ...)                   \
  template <>                                                                                  \
  __device__ inline void product_add<outputs>(float (&s)[outputs / 2], uint64_t a, uint64_t b, \
                                              int add) {                                       \
    asm volatile(                                                                              \
        "{\n"                                                                                  \
        ".reg .pred add;\n"                                                                    \
        "setp.ne.b32 add, " add_number ", 0;\n"                                                \
        "wgmma.mma_async.sync.aligned.m64n" #outputs "k16.f32.bf16.bf16 {" numbers             \
        "}, " a_number ", " b_number ", add, 1, 1, 0, 0;\n"                                    \
        "}"                                                                                    \
        : __VA_ARGS__                                                                          \
        : "l"(a), "l"(b), "r"(add));                                                           \
  }
QUIRE_PRODUCT(64, QUIRE_N32, "%32", "%33", "%34", QUIRE_S32(0))
QUIRE_PRODUCT(96, QUIRE_N48, "%48", "%49", "%50", QUIRE_S32(0), QUIRE_S16(32))
QUIRE_PRODUCT(128, QUIRE_N64, "%64", "%65", "%66", QUIRE_S32(0), QUIRE_S32(32))
QUIRE_PRODUCT(192, QUIRE_N96, "%96", "%97", "%98", QUIRE_S32(0), QUIRE_S32(32), QUIRE_S32(64))
QUIRE_PRODUCT(256, QUIRE_N128, "%128", "%129", "%130", QUIRE_S32(0), QUIRE_S32(32), QUIRE_S32(64),
              QUIRE_S32(96))
#undef QUIRE_PRODUCT
