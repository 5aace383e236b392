#include "kernels/cuda/attention.cuh"

namespace weft::ops::cuda {
namespace {

struct SizedBlock {
  AttentionBlock block;
  int64_t work;
};

std::vector<AttentionBlock> largest_first(std::vector<SizedBlock> sized) {
  std::stable_sort(sized.begin(), sized.end(),
                   [](const SizedBlock& a, const SizedBlock& b) { return a.work > b.work; });
  std::vector<AttentionBlock> blocks;
  blocks.reserve(sized.size());
  for (const SizedBlock& s : sized) blocks.push_back(s.block);
  return blocks;
}

bool allows_vectors(const HeadsView& view, const AttentionArgs& args) {
  const auto whole = [&](int64_t elements) {
    return elements * static_cast<int64_t>(size_of(args.dtype)) % 16 == 0;
  };
  return reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && whole(view.row_stride) &&
         whole(args.shape.head_dim);
}

}  // namespace

KeptList query_blocks(const AttentionArgs& args, int rows, cudaStream_t stream) {
  const std::vector<AttentionDocument>& documents = *args.documents;
  const auto key = KeptLists::key_of(args.device, KeptLists::queries, {rows}, documents);
  return KeptLists::get(key, stream, [&] {
    std::vector<SizedBlock> blocks;
    for (const AttentionDocument& d : documents)
      for (int64_t first = 0; first < d.q_len; first += rows) {
        const int64_t keys = d.kv_len - d.q_len + std::min(first + rows, d.q_len);
        blocks.push_back({{d.q_begin, d.q_len, d.kv_begin, d.kv_len, first}, keys});
      }
    return largest_first(std::move(blocks));
  });
}

KeptList key_blocks(const AttentionArgs& args, int rows, cudaStream_t stream) {
  const std::vector<AttentionDocument>& documents = *args.documents;
  const auto key = KeptLists::key_of(args.device, KeptLists::keys, {rows}, documents);
  return KeptLists::get(key, stream, [&] {
    std::vector<SizedBlock> blocks;
    for (const AttentionDocument& d : documents)
      for (int64_t first = 0; first < d.kv_len; first += rows) {
        const int64_t unseen = std::max<int64_t>(0, first - (d.kv_len - d.q_len));
        blocks.push_back({{d.q_begin, d.q_len, d.kv_begin, d.kv_len, first}, d.q_len - unseen});
      }
    return largest_first(std::move(blocks));
  });
}

AttentionParams attention_params(const AttentionArgs& args, const AttentionBackwardArgs* backward) {
  AttentionParams params{};
  params.q = args.q;
  params.k = args.k;
  params.v = args.v;
  params.o = args.o;
  params.vectors = true;
  for (const HeadsView& view : {args.q, args.k, args.v, args.o})
    params.vectors = params.vectors && allows_vectors(view, args);
  if (backward) {
    params.dout = backward->dout;
    params.dq = backward->dq;
    params.dk = backward->dk;
    params.dv = backward->dv;
    for (const HeadsView& view : {params.dout, params.dq, params.dk, params.dv})
      params.vectors = params.vectors && allows_vectors(view, args);
  }
  params.lse = pointer<float>(args.lse);
  params.num_heads = static_cast<int>(args.shape.num_heads);
  params.group = static_cast<int>(args.shape.num_heads / args.shape.num_kv_heads);
  params.head_dim = static_cast<int>(args.shape.head_dim);
  params.scale = args.shape.scale;
  return params;
}

void attention(const AttentionArgs& args) {
  const cudaStream_t stream = stream_on(args.device);
  if (decode::takes(args)) return decode::forward(args, stream);
  if (cudnn::forward(args, stream)) return;
  const bool on_tensor_cores = tensor::takes(args);
  const AttentionRows rows = on_tensor_cores ? tensor::rows(args.shape.head_dim) : fma::rows();
  const KeptList blocks = query_blocks(args, rows.queries, stream);
  AttentionParams params = attention_params(args);
  params.blocks = blocks.data<const AttentionBlock>();
  const auto forward = on_tensor_cores ? tensor::forward : fma::forward;
  forward(args.dtype, params, blocks.count, stream);
}

}  // namespace weft::ops::cuda
