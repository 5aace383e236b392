#include "core/ops/qk_norm_rope.h"

#include "kernels/cuda/add_partials.cuh"
#include "kernels/cuda/rms_norm_rows.cuh"

// Lanes of a warp take a head. A lane holds the chunk at i of its first half and the partner in the
// second, of which each turns into the other. With kOnce the lanes are no more than the head needs,
// each has one such pair, and all is aligned; else they are a warp, step through the head and read
// it twice. Where one step is enough, both give the same bits.
namespace weft::ops::cuda {
namespace {

constexpr int kHeadsOfTeam = 4;     // in the forward, which share the token's cosines and sines
constexpr int64_t kRowsOfTeam = 4;  // in the backward at least, before more blocks share the rows
constexpr int kBackwardThreadsOfSm = 640;

template <bool kAligned, class T>
__device__ void load_pair(Chunk<T> (&pair)[2], const T* head, int half, int i) {
#pragma unroll
  for (int k = 0; k < 2; ++k) pair[k] = load_chunk<kAligned>(head + k * half + i, half - i);
}
template <bool kAligned, class T>
__device__ void store_pair(T* head, int half, int i, const Chunk<T> (&pair)[2]) {
#pragma unroll
  for (int k = 0; k < 2; ++k) store_chunk<kAligned>(head + k * half + i, pair[k], half - i);
}

// Cosines and sines of the angles at i.
template <int kCount>
struct Turn {
  float cos[kCount], sin[kCount];

  template <bool kAligned>
  __device__ void load(const float* row, int half, int i) {
    load_floats<kAligned>(cos, row + i, half - i);
    load_floats<kAligned>(sin, row + half + i, half - i);
  }
};

// (a, b) turns by the angle: (a cos - b sin, b cos + a sin). `sign` is -1 for the way back.
template <class T>
__device__ void turn_pair(Chunk<T> (&pair)[2], const Turn<kChunk<T>>& turn, float sign) {
#pragma unroll
  for (int j = 0; j < kChunk<T>; ++j) {
    const float a = to_float(pair[0].at[j]), b = to_float(pair[1].at[j]), sin = sign * turn.sin[j];
    pair[0].at[j] = from_float<T>(__fmaf_rn(a, turn.cos[j], -__fmul_rn(b, sin)));
    pair[1].at[j] = from_float<T>(__fmaf_rn(b, turn.cos[j], __fmul_rn(a, sin)));
  }
}

template <class T, class W>
struct Forward {
  const T* x;
  const float* table;
  const W* q_weight;
  const W* k_weight;
  T* y;
  float* rstd;                                // [tokens, turned]
  unsigned tokens, num_heads, turned, heads;  // turned: q's and k's; heads: v's too
  unsigned teams;                             // of a token
  int half;
  float eps;
};

template <bool kOnce, class T, class W>
__global__ void __launch_bounds__(kThreads, kOnce ? 4 : 1)
    qk_norm_rope_kernel(Forward<T, W> f, int lanes) {
  if (!kOnce) lanes = kWarp;
  const unsigned team = blockIdx.x * (kThreads / lanes) + threadIdx.x / lanes;
  const unsigned token = team / f.teams;
  if (token >= f.tokens) return;
  const int half = f.half, step = lanes * kChunk<T>;
  const int first = static_cast<int>(threadIdx.x) % lanes * kChunk<T>;
  const float* table = f.table + int64_t{token} * 2 * half;
  Turn<kChunk<T>> turn;
  if (kOnce && first < half) turn.template load<true>(table, half, first);
  for (unsigned head = team - token * f.teams; head < f.heads; head += f.teams) {
    const int64_t at = (int64_t{token} * f.heads + head) * 2 * half;
    const bool is_v = head >= f.turned;
    Chunk<T> pair[2] = {};
    float squares = 0;
    for (int i = first; i < half; i += step) {
      load_pair<kOnce>(pair, f.x + at, half, i);
      squares = add_squares(pair[1], add_squares(pair[0], squares));
      if (is_v) store_pair<kOnce>(f.y + at, half, i, pair);
    }
    if (is_v) continue;
    squares = lanes_sum(squares, lanes);
    const float rstd = 1.0f / sqrtf(squares / static_cast<float>(2 * half) + f.eps);
    if (first == 0) f.rstd[int64_t{token} * f.turned + head] = rstd;
    const W* weight = head < f.num_heads ? f.q_weight : f.k_weight;
    for (int i = first; i < half; i += step) {
      if (!kOnce) {
        load_pair<kOnce>(pair, f.x + at, half, i);
        turn.template load<kOnce>(table, half, i);
      }
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        float y[kChunk<T>];
        normalise<kOnce>(y, pair[k], rstd, weight + k * half + i, half - i);
#pragma unroll
        for (int j = 0; j < kChunk<T>; ++j) pair[k].at[j] = from_float<T>(y[j]);
      }
      turn_pair(pair, turn, 1.0f);
      store_pair<kOnce>(f.y + at, half, i, pair);
    }
  }
}

// The heads of q or of k, which blocks of their own take.
template <class W>
struct Section {
  const W* weight;
  float* partials;  // [blocks, head_dim] =: dweight of each block's heads; null where it is frozen
  unsigned first_head, num_heads, blocks;
};

template <class T, class W>
struct Backward {
  T* dy;  // becomes dx
  const T* x;
  const float* table;
  const float* rstd;  // [tokens, turned]
  unsigned tokens, turned, heads;
  int half;
  Section<W> q, k;
};

// What a lane has of a head at i: the gradient, turned back and rounded, and the raw head.
template <class T>
struct Kept {
  Chunk<T> dy[2], x[2];

  template <bool kAligned, class W>
  __device__ void load(const Backward<T, W>& b, int64_t at, unsigned token, int i) {
    load_pair<kAligned>(dy, b.dy + at, b.half, i);
    load_pair<kAligned>(x, b.x + at, b.half, i);
    Turn<kChunk<T>> turn;
    turn.template load<kAligned>(b.table + int64_t{token} * 2 * b.half, b.half, i);
    turn_pair(dy, turn, -1.0f);
  }
};

// A block's partial where its one team keeps no sums in registers: of a pair's columns, which are
// always the same lane's.
template <class T>
__device__ void add_to_partial(const Kept<T>& kept, float rstd, float* partial, int half, int i) {
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float sum[kChunk<T>];
    load_floats<false>(sum, partial + k * half + i, half - i);
    add_dweight(kept.dy[k], kept.x[k], rstd, sum);
    store_floats<false>(partial + k * half + i, sum, half - i);
  }
}

// partial[2 * half] = the sum over the block's teams, in their order. `shared` holds a head a team.
template <int kCount>
__device__ void store_partial(const float (&sums)[2][kCount], int lanes, int half, float* shared,
                              float* partial) {
  const int teams = blockDim.x / lanes, i = static_cast<int>(threadIdx.x) % lanes * kCount;
  float* mine = shared + threadIdx.x / lanes * 2 * half + i;
#pragma unroll
  for (int j = 0; j < kCount; ++j)
    if (i + j < half) {
      mine[j] = sums[0][j];
      mine[half + j] = sums[1][j];
    }
  __syncthreads();
  for (int column = threadIdx.x; column < 2 * half; column += blockDim.x) {
    float sum = 0;
    for (int team = 0; team < teams; ++team) sum += shared[team * 2 * half + column];
    partial[column] = sum;
  }
}

template <bool kOnce, bool kFrozen, class T, class W>
__global__ void __launch_bounds__(kTeamsBlock, kOnce ? kBackwardThreadsOfSm / kTeamsBlock : 1)
    qk_norm_rope_backward_kernel(Backward<T, W> b, int lanes) {
  extern __shared__ float heads_of_teams[];
  if (!kOnce) lanes = kWarp;
  const bool is_q = blockIdx.x < b.q.blocks;
  const Section<W> section = is_q ? b.q : b.k;
  const unsigned block = is_q ? blockIdx.x : blockIdx.x - b.q.blocks;
  float* partial =
      kFrozen || !section.partials ? nullptr : section.partials + int64_t{block} * 2 * b.half;
  const int half = b.half, step = lanes * kChunk<T>;
  const int first = static_cast<int>(threadIdx.x) % lanes * kChunk<T>;
  float sums[2][kChunk<T>] = {};
  if (!kOnce && partial)
    for (int i = first; i < half; i += step)
      for (int k = 0; k < 2; ++k) store_floats<false>(partial + k * half + i, sums[k], half - i);
  const unsigned teams = blockDim.x / lanes, rows = b.tokens * section.num_heads;
  for (unsigned r = block * teams + threadIdx.x / lanes; r < rows; r += section.blocks * teams) {
    const unsigned token = r / section.num_heads;
    const unsigned head = section.first_head + r - token * section.num_heads;
    const int64_t at = (int64_t{token} * b.heads + head) * 2 * half;
    RowScale scale{b.rstd[int64_t{token} * b.turned + head], 0};
    Kept<T> kept{};
    for (int i = first; i < half; i += step) {
      kept.template load<kOnce>(b, at, token, i);
#pragma unroll
      for (int k = 0; k < 2; ++k)
        scale.along = add_along_x<kOnce>(kept.dy[k], kept.x[k], section.weight + k * half + i,
                                         half - i, scale.along);
    }
    if constexpr (kOnce) {
      keep_packed(kept.dy);
      keep_packed(kept.x);
    }
    scale.along = lanes_sum(scale.along, lanes) * scale.rstd / static_cast<float>(2 * half);
    for (int i = first; i < half; i += step) {
      if (!kOnce) kept.template load<kOnce>(b, at, token, i);
      if (!kOnce && partial) add_to_partial(kept, scale.rstd, partial, half, i);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        if constexpr (kOnce && !kFrozen) add_dweight(kept.dy[k], kept.x[k], scale.rstd, sums[k]);
        store_dx<kOnce>(kept.dy[k], kept.x[k], Chunk<T>{}, section.weight + k * half + i, scale,
                        b.dy + at + k * half + i, half - i);
      }
    }
  }
  if (kOnce && partial) store_partial(sums, lanes, half, heads_of_teams, partial);
}

// Lanes of a head, and whether the kernels for kOnce take it.
struct Lanes {
  int count = 1;
  bool once = false;
};
template <class T, class... Pointer>
Lanes lanes_for(int64_t half, const Pointer*... pointers) {
  Lanes lanes;
  while (lanes.count < kWarp && lanes.count * kChunk<T> < half) lanes.count *= 2;
  lanes.once =
      half <= lanes.count * kChunk<T> && half % kChunk<T> == 0 && (is_aligned(pointers) && ...);
  if (!lanes.once) lanes.count = kWarp;
  return lanes;
}

template <class T, class W>
void launch(const Forward<T, W>& f, cudaStream_t stream) {
  const Lanes lanes = lanes_for<T>(f.half, f.x, f.table, f.q_weight, f.k_weight, f.y);
  const int64_t teams = int64_t{f.tokens} * f.teams;
  const auto blocks = static_cast<unsigned>(divide_up(teams, kThreads / lanes.count));
  if (lanes.once)
    qk_norm_rope_kernel<true><<<blocks, kThreads, 0, stream>>>(f, lanes.count);
  else
    qk_norm_rope_kernel<false><<<blocks, kThreads, 0, stream>>>(f, lanes.count);
  check(cudaGetLastError(), "qk_norm_rope");
}

template <bool kFrozen, class T, class W>
void launch_backward(const Backward<T, W>& b, const Lanes& lanes, const Teams& teams,
                     cudaStream_t stream) {
  const unsigned blocks = b.q.blocks + b.k.blocks;
  const size_t shared =
      kFrozen ? 0 : static_cast<size_t>(teams.count()) * 2 * b.half * sizeof(float);
  if (lanes.once)
    qk_norm_rope_backward_kernel<true, kFrozen>
        <<<blocks, teams.threads, shared, stream>>>(b, lanes.count);
  else
    qk_norm_rope_backward_kernel<false, kFrozen>
        <<<blocks, teams.threads, 0, stream>>>(b, lanes.count);
  check(cudaGetLastError(), "qk_norm_rope_backward");
}

// Places the sections' partials and launches.
template <class T, class W>
void launch_backward(Backward<T, W> b, const QkNormRopeBackwardArgs& args, cudaStream_t stream) {
  const Lanes lanes = lanes_for<T>(b.half, b.dy, b.x, b.table, b.q.weight, b.k.weight);
  const Teams teams{lanes.once ? kTeamsBlock : kWarp, lanes.count, 2};
  const bool frozen = !args.dq_weight.defined() && !args.dk_weight.defined();
  const auto place = [&](Section<W>& section, const Tensor& dweight) {
    const int64_t blocks = blocks_of_rows(int64_t{b.tokens} * section.num_heads, teams,
                                          kBackwardThreadsOfSm, frozen ? 1 : kRowsOfTeam);
    section.blocks = static_cast<unsigned>(blocks);
    Tensor partials;
    if (dweight.defined())
      partials = Tensor::empty({blocks, int64_t{2} * b.half}, DType::f32, dweight.device(),
                               MemoryTag::workspace);
    section.partials = pointer<float>(partials);
    return partials;
  };
  const Tensor of_q = place(b.q, args.dq_weight), of_k = place(b.k, args.dk_weight);
  if (frozen) return launch_backward<true>(b, lanes, teams, stream);
  launch_backward<false>(b, lanes, teams, stream);
  if (of_q.defined()) add_partials(of_q, args.dq_weight, stream);
  if (of_k.defined()) add_partials(of_k, args.dk_weight, stream);
  check(cudaGetLastError(), "qk_norm_rope_backward: dweight");
}

// The tokens, whose heads are counted in 31 bits.
unsigned tokens_of(const QkNormRopeArgs& args) {
  const int64_t tokens = args.qkv.dim(0), heads = args.num_heads + 2 * args.num_kv_heads;
  CHECK(tokens * heads < (int64_t{1} << 31), "[qk_norm_rope] {} heads of {} tokens", heads, tokens);
  return static_cast<unsigned>(tokens);
}

}  // namespace

void qk_norm_rope(const QkNormRopeArgs& args, const QkNormRopeResult& result) {
  if (args.qkv.numel() == 0) return;
  const auto num_heads = static_cast<unsigned>(args.num_heads);
  const auto num_kv_heads = static_cast<unsigned>(args.num_kv_heads);
  const unsigned heads = num_heads + 2 * num_kv_heads;
  dispatch_types(args.qkv, args.q_weight, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    launch(Forward<T, W>{.x = pointer<const T>(args.qkv),
                         .table = pointer<const float>(args.table),
                         .q_weight = pointer<const W>(args.q_weight),
                         .k_weight = pointer<const W>(args.k_weight),
                         .y = pointer<T>(result.qkv),
                         .rstd = pointer<float>(result.rstd),
                         .tokens = tokens_of(args),
                         .num_heads = num_heads,
                         .turned = num_heads + num_kv_heads,
                         .heads = heads,
                         .teams = (heads + kHeadsOfTeam - 1) / kHeadsOfTeam,
                         .half = static_cast<int>(args.table.dim(1) / 2),
                         .eps = args.eps},
           stream_on(args.qkv.device()));
  });
}

void qk_norm_rope_backward(const QkNormRopeBackwardArgs& args) {
  const QkNormRopeArgs& f = args.forward;
  if (f.qkv.numel() == 0) return;
  const auto num_heads = static_cast<unsigned>(f.num_heads);
  const auto num_kv_heads = static_cast<unsigned>(f.num_kv_heads);
  dispatch_types(f.qkv, f.q_weight, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    launch_backward(
        Backward<T, W>{.dy = pointer<T>(args.dqkv),
                       .x = pointer<const T>(f.qkv),
                       .table = pointer<const float>(f.table),
                       .rstd = pointer<const float>(args.rstd),
                       .tokens = tokens_of(f),
                       .turned = num_heads + num_kv_heads,
                       .heads = num_heads + 2 * num_kv_heads,
                       .half = static_cast<int>(f.table.dim(1) / 2),
                       .q = {pointer<const W>(f.q_weight), nullptr, 0, num_heads, 0},
                       .k = {pointer<const W>(f.k_weight), nullptr, num_heads, num_kv_heads, 0}},
        args, stream_on(f.qkv.device()));
  });
}

}  // namespace weft::ops::cuda
