#include "core/ops/embedding.h"

#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/chunks.cuh"

namespace weft::ops::cuda {
namespace {

// Ids are checked on the host where they enter (examples as a dataset is read, prompts as they are
// taken) or are places that an op here made, as argmax's. One outside of the table is our error: it
// ends the program's work on this GPU rather than touch memory that is not the table's.
__device__ void check_id(int32_t id, int64_t vocabulary) {
  if (id < 0 || id >= vocabulary) __trap();
}

// Unit: what rows consist of, as large as their width and addresses allow.
template <class Unit>
__global__ void embedding_kernel(const Unit* table, const int32_t* ids, Unit* y, int64_t tokens,
                                 int64_t width, int64_t vocabulary) {
  for (int64_t t = first_row(); t < tokens; t += row_stride()) {
    const int32_t id = ids[t];
    check_id(id, vocabulary);
    for (int64_t i = first_item(); i < width; i += item_stride())
      y[t * width + i] = table[id * width + i];
  }
}

template <class Unit>
void copy_rows(const Tensor& table, const Tensor& ids, const Tensor& y) {
  const int64_t tokens = ids.dim(0);
  const int64_t width = static_cast<int64_t>(y.bytes() / sizeof(Unit)) / tokens;
  const RowGrid over = over_rows(tokens, width);
  embedding_kernel<<<over.grid, over.block, 0, stream_on(y.device())>>>(
      pointer<const Unit>(table), pointer<const int32_t>(ids), pointer<Unit>(y), tokens, width,
      table.dim(0));
}

// Backward. Tokens are sorted by id, those of one id in token order; a run of equal ids is cut into
// segments of kSegment tokens from its start on. A run of one segment is added to its row at once;
// of a longer run, each segment's sum goes to the workspace, the first one with the row itself, and
// their sum in order to the row.
constexpr int kSegment = 128;
constexpr int kPositions = 8;  // that a warp looks at

constexpr int32_t kWholeRun = -1;

struct Sorted {
  const int32_t* ids;
  const int32_t* tokens;
  int64_t count;
};

struct Segments {
  int32_t* length;  // tokens of the segment that starts here, or 0
  int32_t* slot;    // of its sum, or kWholeRun; set where length > 0
};

// Where a run's later segments and a long run's first one keep their sums. In kSegment neighbouring
// positions at most one of each kind starts.
__device__ int64_t later_slot(int64_t position) {
  return position / kSegment * 2;
}
__device__ int64_t first_slot(int64_t position) {
  return position / kSegment * 2 + 1;
}

// The first position in [begin, end) whose id is not less than `id`, or end.
__device__ int64_t lower_bound(const int32_t* ids, int64_t begin, int64_t end, int64_t id) {
  while (begin < end) {
    const int64_t middle = begin + (end - begin) / 2;
    if (ids[middle] < id)
      begin = middle + 1;
    else
      end = middle;
  }
  return begin;
}

__global__ void number_tokens_kernel(int32_t* tokens, int64_t count) {
  for (int64_t i = first_item(); i < count; i += item_stride()) tokens[i] = static_cast<int>(i);
}

__global__ void find_segments_kernel(Sorted sorted, Segments segments, int64_t vocabulary) {
  for (int64_t i = first_item(); i < sorted.count; i += item_stride()) {
    const int32_t id = sorted.ids[i];
    check_id(id, vocabulary);
    const bool starts_run = i == 0 || sorted.ids[i - 1] != id;
    const bool is_later = !starts_run && i >= kSegment && sorted.ids[i - kSegment] == id &&
                          (i - lower_bound(sorted.ids, 0, i - kSegment, id)) % kSegment == 0;
    segments.length[i] = 0;
    if (!starts_run && !is_later) continue;
    const int64_t end = i + kSegment < sorted.count ? i + kSegment : sorted.count;
    segments.length[i] = static_cast<int>(lower_bound(sorted.ids, i, end, int64_t{id} + 1) - i);
    const bool is_long = i + kSegment < sorted.count && sorted.ids[i + kSegment] == id;
    int64_t slot = kWholeRun;
    if (is_later)
      slot = later_slot(i);
    else if (is_long)
      slot = first_slot(i);
    segments.slot[i] = static_cast<int>(slot);
  }
}

template <class X, class G>
struct Gradient {
  const X* dy;
  G* dtable;
  float* sums;  // [slots, width]
  int64_t width;
};

// One segment's columns [column, column + chunk).
template <bool kAligned, class X, class G>
__device__ void add_segment(const Gradient<X, G>& g, const Sorted& sorted, const Segments& segments,
                            int64_t position, int64_t column) {
  constexpr int kCount = kChunk<X>;
  const int length = segments.length[position], slot = segments.slot[position];
  const int64_t left = g.width - column;
  G* row = g.dtable + sorted.ids[position] * g.width + column;
  float sum[kCount] = {};
  const bool has_row = slot < 0 || slot == first_slot(position);
  if (has_row) load_floats<kAligned>(sum, row, left);
#pragma unroll 4
  for (int k = 0; k < length; ++k) {
    float x[kCount];
    load_floats<kAligned>(x, g.dy + sorted.tokens[position + k] * g.width + column, left);
#pragma unroll
    for (int j = 0; j < kCount; ++j) sum[j] += x[j];
  }
  if (slot < 0)
    store_floats<kAligned>(row, sum, left);
  else
    store_floats<kAligned>(g.sums + slot * g.width + column, sum, left);
}

// A warp takes the segments that start in kPositions positions, for a chunk of columns a lane.
template <bool kAligned, class X, class G>
__global__ void add_segments_kernel(Gradient<X, G> g, Sorted sorted, Segments segments) {
  const int lane = threadIdx.x % kWarp;
  const int64_t column = (int64_t{blockIdx.y} * kWarp + lane) * kChunk<X>;
  const int64_t warp = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  const int64_t at = warp * kPositions + lane;
  const bool starts = lane < kPositions && at < sorted.count && segments.length[at] > 0;
  unsigned starting = __ballot_sync(0xffffffffu, starts);
  if (column >= g.width) return;
  for (; starting != 0; starting &= starting - 1) {
    const int64_t position = warp * kPositions + __ffs(static_cast<int>(starting)) - 1;
    add_segment<kAligned>(g, sorted, segments, position, column);
  }
}

// Block x looks for the long run that starts in its kSegment positions (at most one does) and sums
// its segments, block y a part of the columns.
template <class X, class G>
__global__ void add_long_runs_kernel(Gradient<X, G> g, Sorted sorted, Segments segments) {
  __shared__ int64_t start, end;
  const int64_t mine = int64_t{blockIdx.x} * kSegment + threadIdx.x;
  if (threadIdx.x == 0) start = -1;
  __syncthreads();
  if (threadIdx.x < kSegment && mine < sorted.count && segments.length[mine] > 0 &&
      segments.slot[mine] == first_slot(mine)) {
    start = mine;
    end = lower_bound(sorted.ids, mine, sorted.count, int64_t{sorted.ids[mine]} + 1);
  }
  __syncthreads();
  const int64_t column = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  if (start < 0 || column >= g.width) return;
  const int64_t later = later_slot(start),
                segments_of_run = (end - start + kSegment - 1) / kSegment;
  float sum = g.sums[first_slot(start) * g.width + column];
#pragma unroll 8
  for (int64_t k = 1; k < segments_of_run; ++k) sum += g.sums[(later + 2 * k) * g.width + column];
  g.dtable[sorted.ids[start] * g.width + column] = from_float<G>(sum);
}

// The tensors behind Sorted and Segments.
struct SortedIds {
  Tensor ids, tokens, length, slot;
  Sorted sorted() const {
    return {pointer<const int32_t>(ids), pointer<const int32_t>(tokens), ids.numel()};
  }
  Segments segments() const { return {pointer<int32_t>(length), pointer<int32_t>(slot)}; }
};

SortedIds sort_by_id(const Tensor& ids_T, int64_t vocabulary, cudaStream_t stream) {
  const auto like_ids = [&] {
    return Tensor::empty(ids_T.shape(), DType::i32, ids_T.device(), MemoryTag::workspace);
  };
  const int64_t count = ids_T.dim(0);
  const SortedIds result{like_ids(), like_ids(), like_ids(), like_ids()};
  const Tensor numbers = like_ids();
  number_tokens_kernel<<<blocks_for(count), kThreads, 0, stream>>>(pointer<int32_t>(numbers),
                                                                   count);
  int bits = 1;
  while (bits < 31 && (int64_t{1} << bits) < vocabulary) ++bits;
  const auto sort = [&](void* space, size_t& bytes) {
    check(cub::DeviceRadixSort::SortPairs(
              space, bytes, pointer<const uint32_t>(ids_T), pointer<uint32_t>(result.ids),
              pointer<const int32_t>(numbers), pointer<int32_t>(result.tokens),
              static_cast<int>(count), 0, bits, stream),
          "embedding_backward: sorting tokens");
  };
  size_t bytes = 0;
  sort(nullptr, bytes);
  const Tensor space =
      Tensor::empty({static_cast<int64_t>(bytes)}, DType::u8, ids_T.device(), MemoryTag::workspace);
  sort(space.raw(), bytes);
  find_segments_kernel<<<blocks_for(count), kThreads, 0, stream>>>(result.sorted(),
                                                                   result.segments(), vocabulary);
  return result;
}

template <class X, class G>
void add_to_table(const Gradient<X, G>& g, const SortedIds& ids, cudaStream_t stream) {
  const int64_t tokens = ids.ids.numel();
  const int64_t warps = divide_up(tokens, kPositions);
  const auto columns = static_cast<unsigned>(divide_up(g.width, kWarp * kChunk<X>));
  const dim3 grid(static_cast<unsigned>(divide_up(warps * kWarp, kThreads)), columns);
  const bool all_aligned =
      g.width % kChunk<X> == 0 && is_aligned(g.dy) && is_aligned(g.dtable) && is_aligned(g.sums);
  with_alignment(all_aligned, [&](auto aligned) {
    add_segments_kernel<decltype(aligned)::value>
        <<<grid, kThreads, 0, stream>>>(g, ids.sorted(), ids.segments());
  });
  if (tokens <= kSegment) return;  // no long run
  const dim3 long_grid(static_cast<unsigned>(divide_up(tokens, kSegment)),
                       static_cast<unsigned>(divide_up(g.width, kThreads)));
  add_long_runs_kernel<<<long_grid, kThreads, 0, stream>>>(g, ids.sorted(), ids.segments());
}

}  // namespace

void embedding(const Tensor& table_VD, const Tensor& ids_T, const Tensor& y_TD) {
  if (y_TD.numel() == 0) return;
  const size_t row_bytes = static_cast<size_t>(table_VD.dim(1)) * size_of(table_VD.dtype());
  const auto fits = [&](size_t unit) {
    return row_bytes % unit == 0 && reinterpret_cast<uintptr_t>(table_VD.raw()) % unit == 0 &&
           reinterpret_cast<uintptr_t>(y_TD.raw()) % unit == 0;
  };
  if (fits(16))
    copy_rows<uint4>(table_VD, ids_T, y_TD);
  else if (fits(4))
    copy_rows<uint32_t>(table_VD, ids_T, y_TD);
  else if (fits(2))
    copy_rows<uint16_t>(table_VD, ids_T, y_TD);
  else
    copy_rows<uint8_t>(table_VD, ids_T, y_TD);
  check(cudaGetLastError(), "embedding");
}

void embedding_backward(const Tensor& dy_TD, const Tensor& ids_T, const Tensor& dtable_VD) {
  if (dy_TD.numel() == 0) return;
  const int64_t tokens = dy_TD.dim(0), width = dy_TD.dim(1);
  CHECK(tokens < (int64_t{1} << 30), "[embedding_backward] {} tokens", tokens);
  const cudaStream_t stream = stream_on(dy_TD.device());
  const SortedIds ids = sort_by_id(ids_T, dtable_VD.dim(0), stream);
  Tensor sums;
  if (tokens > kSegment)
    sums = Tensor::empty({2 * divide_up(tokens, kSegment), width}, DType::f32, dy_TD.device(),
                         MemoryTag::workspace);
  dispatch(dy_TD.dtype(), [&](auto x_type) {
    using X = decltype(x_type);
    const auto add = [&](auto g_type) {
      using G = decltype(g_type);
      add_to_table(Gradient<X, G>{pointer<const X>(dy_TD), pointer<G>(dtable_VD),
                                  pointer<float>(sums), width},
                   ids, stream);
    };
    if (dtable_VD.dtype() == DType::f32)
      add(float());
    else
      add(x_type);
  });
  check(cudaGetLastError(), "embedding_backward");
}

}  // namespace weft::ops::cuda
