// Attention of documents with one query each (decoding with a KV cache), bound by the speed at
// which keys and values are read: ranges of keys are worked on side by side, each for up to kHeads
// query heads of a kv head at once, and what they leave is summed in their order. Where a
// sequence's keys lie is read on the GPU; the grid has room for the longest, ranges past a
// sequence's end do nothing.
#include "core/ops/decode_attention.h"
#include "kernels/cuda/attention.cuh"

namespace weft::ops::cuda {
namespace decode {
namespace {

constexpr int kHeads = 4;     // query heads of a thread block
constexpr int kRange = 256;   // keys of a thread block
constexpr int kMaxDim = 256;  // of head_dim
constexpr int kChunk = 8;     // elements of a row that a lane has
constexpr int kInFlight = 4;  // rows that a lane asks for at a time
constexpr int kWarps = kThreads / kWarp;

// Keys [first_key, first_key + keys) of a sequence; none behind its end.
struct KeyRange {
  int64_t query;
  int64_t first_key;
  int keys;
  int ranges;  // of the sequence
};

// Sequence b has the keys first[b] .. last[b].
struct Sequences {
  const int32_t* first;
  const int32_t* last;
  const int32_t* queries;  // rows of q; null: b
  int most_ranges;         // of a sequence

  __device__ KeyRange range(int b, int index) const {
    const int keys = last[b] - first[b] + 1, begin = index * kRange;
    return {queries ? queries[b] : b, int64_t{first[b]} + begin, min(kRange, keys - begin),
            (keys + kRange - 1) / kRange};
  }
};

struct Params {
  AttentionParams attention;
  Sequences sequences;
  float* partials;  // [range][head][head_dim + 2]: sums, max, sum of weights; null: one range each
  __device__ float* partial(int64_t range, int head) const {
    return partials + (range * attention.num_heads + head) * (attention.head_dim + 2);
  }
};

struct Shared {
  float q[kHeads][kMaxDim];
  float weights[kHeads][kRange];
  float max[kHeads];
  float sum[kHeads];
  float sums[kWarps][kHeads][kMaxDim];
};

// The heads [head, head + count) of a thread block, which share kv_head.
struct Heads {
  int head;
  int count;
  int kv_head;
  __device__ Heads(int unit, const AttentionParams& p) {
    const int parts = (p.group + kHeads - 1) / kHeads;
    kv_head = unit / parts;
    head = kv_head * p.group + unit % parts * kHeads;
    count = min(kHeads, (kv_head + 1) * p.group - head);
  }
};

// A row is shared by `lanes` lanes (a power of two), so that a warp reads kWarp / lanes at a time.
struct Lane {
  int lanes = 1;
  int row;    // of the warp's first step; the next is `step` further
  int step;   // of the block
  int first;  // element
  __device__ explicit Lane(int head_dim) {
    while (lanes * kChunk < head_dim) lanes *= 2;
    const int lane = threadIdx.x % kWarp;
    row = threadIdx.x / kWarp * (kWarp / lanes) + lane / lanes;
    step = kThreads / lanes;
    first = lane % lanes * kChunk;
  }
};

template <class T>
__device__ void load_chunk(const T* row, int first, const AttentionParams& p, float (&to)[kChunk]) {
  constexpr int kVector = 16 / sizeof(T);
#pragma unroll
  for (int at = 0; at < kChunk; at += kVector) {
    T values[kVector];
    if (p.vectors && first + at < p.head_dim) {
      const uint4 loaded = *reinterpret_cast<const uint4*>(row + first + at);
      memcpy(values, &loaded, sizeof values);
    }
#pragma unroll
    for (int e = 0; e < kVector; ++e) {
      const int d = first + at + e;
      to[at + e] = d >= p.head_dim ? 0.0f : to_float(p.vectors ? values[e] : row[d]);
    }
  }
}

// Calls f(row, chunk) for the lane's rows of a range, all lanes of a warp equally often: rows past
// the range are zeros.
template <class T, class F>
__device__ void for_each_row(const HeadsView& view, const KeyRange& range, int kv_head,
                             const Lane& lane, const AttentionParams& p, F&& f) {
  const T* rows = head_row<const T>(view, range.first_key, kv_head, p);
  for (int base = 0; base < range.keys; base += lane.step * kInFlight) {
    float chunks[kInFlight][kChunk] = {};
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int row = base + i * lane.step + lane.row;
      if (row < range.keys) load_chunk(rows + row * view.row_stride, lane.first, p, chunks[i]);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) f(base + i * lane.step + lane.row, chunks[i]);
  }
}

// weights = scores of the range's keys.
template <class T>
__device__ void scores_of_range(Shared& s, const KeyRange& range, const Heads& heads,
                                const Lane& lane, const AttentionParams& p) {
  for_each_row<T>(p.k, range, heads.kv_head, lane, p, [&](int row, const float(&key)[kChunk]) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (h >= heads.count) break;
      float score = 0;
#pragma unroll
      for (int e = 0; e < kChunk; ++e) score += s.q[h][lane.first + e] * key[e];
      for (int offset = lane.lanes / 2; offset > 0; offset /= 2)
        score += __shfl_xor_sync(~0u, score, offset);
      if (lane.first == 0 && row < range.keys) s.weights[h][row] = score;
    }
  });
}

// weights become exp(score - max): a warp a head.
__device__ void softmax_of_range(Shared& s, int keys, int heads) {
  const int h = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (h >= heads) return;
  float best = -INFINITY, sum = 0;
  for (int key = lane; key < keys; key += kWarp) best = fmaxf(best, s.weights[h][key]);
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    best = fmaxf(best, __shfl_xor_sync(~0u, best, offset));
  for (int key = lane; key < keys; key += kWarp)
    sum += s.weights[h][key] = expf(s.weights[h][key] - best);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
  if (lane == 0) s.max[h] = best, s.sum[h] = sum;
}

// sums[warp] = weights times the values of the warp's keys.
template <class T>
__device__ void values_of_range(Shared& s, const KeyRange& range, const Heads& heads,
                                const Lane& lane, const AttentionParams& p) {
  float sums[kHeads][kChunk] = {};
  for_each_row<T>(p.v, range, heads.kv_head, lane, p, [&](int row, const float(&value)[kChunk]) {
    if (row >= range.keys) return;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (h >= heads.count) break;
#pragma unroll
      for (int e = 0; e < kChunk; ++e) sums[h][e] += s.weights[h][row] * value[e];
    }
  });
#pragma unroll
  for (int h = 0; h < kHeads; ++h)
#pragma unroll
    for (int e = 0; e < kChunk; ++e) {
      for (int offset = lane.lanes; offset < kWarp; offset *= 2)
        sums[h][e] += __shfl_xor_sync(~0u, sums[h][e], offset);
      if (threadIdx.x % kWarp < lane.lanes)
        s.sums[threadIdx.x / kWarp][h][lane.first + e] = sums[h][e];
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads) range_kernel(Params params, int units) {
  __shared__ Shared s;
  const AttentionParams& p = params.attention;
  const int at = static_cast<int>(blockIdx.x) / units, most = params.sequences.most_ranges;
  const KeyRange range = params.sequences.range(at / most, at % most);
  if (range.keys <= 0) return;
  const Heads heads(static_cast<int>(blockIdx.x % units), p);
  const Lane lane(p.head_dim);
  const T* q = head_row<const T>(p.q, range.query, heads.head, p);
  for (int i = threadIdx.x; i < kHeads * kMaxDim; i += kThreads) {
    const int h = i / kMaxDim, d = i % kMaxDim;
    const bool real = h < heads.count && d < p.head_dim;
    s.q[h][d] = real ? to_float(q[h * p.head_dim + d]) * p.scale : 0.0f;
  }
  __syncthreads();
  scores_of_range<T>(s, range, heads, lane, p);
  __syncthreads();
  softmax_of_range(s, range.keys, heads.count);
  __syncthreads();
  values_of_range<T>(s, range, heads, lane, p);
  __syncthreads();
  for (int i = threadIdx.x; i < heads.count * p.head_dim; i += kThreads) {
    const int h = i / p.head_dim, d = i % p.head_dim;
    float sum = 0;
    for (int warp = 0; warp < kWarps; ++warp) sum += s.sums[warp][h][d];
    if (range.ranges == 1)
      head_row<T>(p.o, range.query, heads.head + h, p)[d] = from_float<T>(sum / s.sum[h]);
    else
      params.partial(at, heads.head + h)[d] = sum;
  }
  if (threadIdx.x >= heads.count) return;
  const int h = threadIdx.x, head = heads.head + h;
  if (range.ranges > 1) {
    params.partial(at, head)[p.head_dim] = s.max[h];
    params.partial(at, head)[p.head_dim + 1] = s.sum[h];
  } else if (p.lse) {
    p.lse[range.query * p.num_heads + head] = s.max[h] + logf(s.sum[h]);
  }
}

// The whole of a sequence from its ranges' partials, for a head.
template <class T>
__global__ void combine_kernel(Params params) {
  const AttentionParams& p = params.attention;
  const int sequence = static_cast<int>(blockIdx.x) / p.num_heads, dim = p.head_dim;
  const int head = static_cast<int>(blockIdx.x) % p.num_heads;
  const KeyRange range = params.sequences.range(sequence, 0);
  if (range.ranges == 1) return;
  const int64_t at = int64_t{sequence} * params.sequences.most_ranges;
  float best = -INFINITY, total = 0;
  for (int r = 0; r < range.ranges; ++r) best = fmaxf(best, params.partial(at + r, head)[dim]);
  for (int r = 0; r < range.ranges; ++r) {
    const float* partial = params.partial(at + r, head);
    total += partial[dim + 1] * expf(partial[dim] - best);
  }
  for (int d = threadIdx.x; d < dim; d += blockDim.x) {
    float sum = 0;
    for (int r = 0; r < range.ranges; ++r) {
      const float* partial = params.partial(at + r, head);
      sum += partial[d] * expf(partial[dim] - best);
    }
    head_row<T>(p.o, range.query, head, p)[d] = from_float<T>(sum / total);
  }
  if (p.lse && threadIdx.x == 0) p.lse[range.query * p.num_heads + head] = best + logf(total);
}

struct Call {
  DType dtype;
  Device device;
  int64_t count;  // of sequences
  int64_t num_kv_heads;
};

void launch(Params params, const Call& call, cudaStream_t stream) {
  const AttentionParams& p = params.attention;
  const int64_t ranges = call.count * params.sequences.most_ranges;
  Tensor partials;
  if (params.sequences.most_ranges > 1) {
    partials = Tensor::empty({ranges, p.num_heads, p.head_dim + 2}, DType::f32, call.device,
                             MemoryTag::workspace);
    params.partials = pointer<float>(partials);
  }
  const int64_t units = call.num_kv_heads * divide_up(p.group, int64_t{kHeads});
  const unsigned blocks = units_of(ranges, units);
  const unsigned combined = units_of(call.count, p.num_heads);
  dispatch(call.dtype, [&](auto type) {
    using T = decltype(type);
    range_kernel<T><<<blocks, kThreads, 0, stream>>>(params, static_cast<int>(units));
    if (params.partials) combine_kernel<T><<<combined, 128, 0, stream>>>(params);
  });
  check(cudaGetLastError(), "decode_attention");
}

}  // namespace

bool takes(const AttentionArgs& args) {
  return args.shape.head_dim <= kMaxDim &&
         std::all_of(args.documents->begin(), args.documents->end(), [](const auto& d) {
           return d.q_len == 1 && std::max(d.q_begin, d.kv_begin + d.kv_len) <= INT32_MAX;
         });
}

void forward(const AttentionArgs& args, cudaStream_t stream) {
  const std::vector<AttentionDocument>& documents = *args.documents;
  const auto count = static_cast<int64_t>(documents.size());
  int64_t longest = 0;
  for (const AttentionDocument& d : documents) longest = std::max(longest, d.kv_len);
  const KeptList rows = KeptLists::get(
      KeptLists::key_of(args.device, KeptLists::decode_rows, {}, documents), stream, [&] {
        std::vector<int32_t> list;  // first, last, queries
        for (const AttentionDocument& d : documents)
          list.push_back(static_cast<int32_t>(d.kv_begin));
        for (const AttentionDocument& d : documents)
          list.push_back(static_cast<int32_t>(d.kv_begin + d.kv_len - 1));
        for (const AttentionDocument& d : documents)
          list.push_back(static_cast<int32_t>(d.q_begin));
        return list;
      });
  const int32_t* at = rows.data<const int32_t>();
  const Sequences sequences{at, at + count, at + 2 * count,
                            static_cast<int>(divide_up(longest, kRange))};
  launch({attention_params(args), sequences, nullptr},
         {args.dtype, args.device, count, args.shape.num_kv_heads}, stream);
}

}  // namespace decode

void decode_attention(const DecodeAttentionArgs& args) {
  if (args.shape.head_dim > decode::kMaxDim)
    fail(ErrorKind::unavailable,
         "[decode_attention] heads of {}: on a GPU at most {}; the CPU takes any (--device cpu)",
         args.shape.head_dim, decode::kMaxDim);
  const cudaStream_t stream = stream_on(args.device);
  const AttentionParams params = attention_params({.q = args.q,
                                                   .k = args.k,
                                                   .v = args.v,
                                                   .o = args.o,
                                                   .lse = {},
                                                   .shape = args.shape,
                                                   .documents = nullptr,
                                                   .dtype = args.dtype,
                                                   .device = args.device});
  const decode::Sequences sequences{pointer<const int32_t>(args.first_B),
                                    pointer<const int32_t>(args.last_B), nullptr,
                                    static_cast<int>(divide_up(args.longest, decode::kRange))};
  decode::launch({params, sequences, nullptr},
                 {args.dtype, args.device, args.last_B.dim(0), args.shape.num_kv_heads}, stream);
}

}  // namespace weft::ops::cuda
