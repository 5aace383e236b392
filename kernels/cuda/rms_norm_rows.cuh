// RMSNorm over rows: a team of threads takes a row and keeps up to kMostKept chunks of it a thread
// in registers; what is wider is read again. Nothing here depends on more than the shape, so bits
// repeat.
#pragma once

#include "kernels/cuda/rms_norm_chunks.cuh"

namespace weft::ops::cuda {

constexpr int kMostKept = 4;       // chunks a thread keeps
constexpr int kWidestBlock = 512;  // threads of a block that takes one row
constexpr int kTeamsBlock = 128;   // threads of a block of teams

// Threads of a block that keeps kKept chunks a thread, at most.
template <int kKept>
constexpr int kBlockBound = kKept == kMostKept ? kWidestBlock : kTeamsBlock;

struct Rows {
  int64_t count = 0;
  int64_t width = 0;
};

// Threads of a block and of a team: a part of a warp, or the block. Which thread takes which chunk
// follows from the lanes alone; `kept` is the chunks that each needs room for.
struct Teams {
  int threads = kTeamsBlock, lanes = 1, kept = 2;
  int count() const { return threads / lanes; }
};
inline Teams teams_for(int64_t width, int chunk) {
  CHECK(width < (int64_t{1} << 30), "[rms_norm] rows of {}", width);
  const auto chunks = static_cast<int>(divide_up(width, chunk));
  Teams teams;
  while (teams.lanes < kWarp && chunks > 2 * teams.lanes) teams.lanes *= 2;
  if (chunks <= kMostKept * kWarp) {
    if (chunks > 2 * kWarp) teams.kept = chunks > 3 * kWarp ? 4 : 3;
    return teams;
  }
  const auto threads = static_cast<int>(divide_up(chunks, kMostKept * kWarp)) * kWarp;
  teams.lanes = threads < kWidestBlock ? threads : kWidestBlock;
  return {teams.lanes, teams.lanes, kMostKept};
}

// Blocks that share `rows`: what kSms SMs hold at once, less where every team then still has as
// many rows to take as the busiest, or at least `least`.
inline int64_t blocks_of_rows(int64_t rows, const Teams& teams, int threads_of_sm, int64_t least) {
  const int64_t of_sm = threads_of_sm < teams.threads ? 1 : threads_of_sm / teams.threads;
  const int64_t wanted = divide_up(rows, teams.count());
  const int64_t rounds = divide_up(wanted, kSms * of_sm);
  return divide_up(wanted, rounds < least ? least : rounds);
}

// Calls f(kept, aligned), both integral constants. Elements read one by one have one kernel.
template <class F>
void with_path(int kept, bool aligned, F&& f) {
  using std::integral_constant;
  if (!aligned)
    f(integral_constant<int, kMostKept>(), std::false_type());
  else if (kept == 2)
    f(integral_constant<int, 2>(), std::true_type());
  else if (kept == 3)
    f(integral_constant<int, 3>(), std::true_type());
  else
    f(integral_constant<int, kMostKept>(), std::true_type());
}

// A thread's part of a row: chunks lane, lane + lanes, ...
struct Part {
  int lane, lanes, width;
  template <class T>
  __device__ int kept(int k) const {
    return (lane + k * lanes) * kChunk<T>;
  }
  // A row's first kept chunk of the thread; the others lie `step` further each. The compiler does
  // not see how the address came about, or it would multiply row and width anew for every chunk.
  template <class T>
  __device__ T* first_of(T* row) const {
    T* first = row + lane * kChunk<std::remove_const_t<T>>;
    asm("" : "+l"(first));
    __builtin_assume(__isGlobal(first));
    return first;
  }
  // The first element that is not kept, and the way to the next.
  template <class T>
  __device__ int rest() const {
    return kept<T>(kMostKept);
  }
  template <class T>
  __device__ int step() const {
    return lanes * kChunk<T>;
  }
};
// A team that keeps 3 chunks a thread is a warp.
template <int kKept>
__device__ Part part_of(const Rows& rows, int lanes) {
  if (kKept == 3) lanes = kWarp;
  return {static_cast<int>(threadIdx.x) % lanes, lanes, static_cast<int>(rows.width)};
}
__device__ inline int64_t first_row_of_team(int lanes) {
  return int64_t{blockIdx.x} * (blockDim.x / lanes) + threadIdx.x / lanes;
}
__device__ inline int64_t rows_of_round(int lanes) {
  return int64_t{gridDim.x} * (blockDim.x / lanes);
}

// What the block's warps say in an even and in an odd round: a warp may be one round ahead.
struct Scratch {
  float of_warp[2][kWarp];
};

// Sum over the team, the same order always; every thread of it has it. A team is lanes of a warp
// (lanes_sum), or the block, whose rounds count 0, 1, ...
__device__ inline float team_sum(float value, int lanes, Scratch& scratch, int round) {
  value = lanes_sum(value, lanes);
  if (lanes <= kWarp) return value;
  const int lane = threadIdx.x % kWarp;
  float* of_warp = scratch.of_warp[round % 2];
  if (lane == 0) of_warp[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = lane < static_cast<int>(blockDim.x) / kWarp ? of_warp[lane] : 0.0f;
  return lanes_sum(value, kWarp);
}

// Chunks of a row that are kept; 0 behind its end.
template <bool kAligned, int kKept, class T>
__device__ void load_kept(Chunk<T> (&kept)[kKept], const T* row, const Part& part) {
  const T* first = part.first_of(row);
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int i = part.kept<T>(k);
    kept[k] = Chunk<T>{};
    if (i < part.width) kept[k] = load_chunk<kAligned>(first + k * part.step<T>(), part.width - i);
  }
}

// Brings the row into the L2 cache.
template <class T>
__device__ void prefetch_row(const T* row, const Part& part) {
  constexpr int kLine = 128 / static_cast<int>(sizeof(T));
#pragma unroll 1
  for (int i = part.lane * kLine; i < part.width; i += part.lanes * kLine)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(row + i));
}

// Whether chunks of rows are aligned in tensors of these addresses (null where undefined).
template <class T, class... Pointer>
bool rows_are_aligned(const Rows& rows, const Pointer*... pointers) {
  return rows.width % kChunk<T> == 0 && (is_aligned(pointers) && ...);
}

}  // namespace weft::ops::cuda
