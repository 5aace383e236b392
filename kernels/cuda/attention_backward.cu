#include "kernels/cuda/attention.cuh"

namespace weft::ops::cuda {
namespace {

// delta = sum of do * o of every query of a block: a warp a row.
template <class T>
__global__ void delta_kernel(AttentionParams p, int rows) {
  const int head = static_cast<int>(blockIdx.x % p.num_heads);
  const AttentionBlock block = p.blocks[blockIdx.x / p.num_heads];
  const int lane = threadIdx.x % kWarp;
  const int64_t end = min(block.first + rows, block.q_len);
  for (int64_t i = block.first + threadIdx.x / kWarp; i < end; i += blockDim.x / kWarp) {
    const T* o = head_row<const T>(p.o, block.q_begin + i, head, p);
    const T* dout = head_row<const T>(p.dout, block.q_begin + i, head, p);
    float sum = 0;
    for (int d = lane; d < p.head_dim; d += kWarp) sum += to_float(o[d]) * to_float(dout[d]);
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
      sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (lane == 0) p.delta[(block.q_begin + i) * p.num_heads + head] = sum;
  }
}

}  // namespace

void attention_backward(const AttentionBackwardArgs& args) {
  const AttentionArgs& forward = args.forward;
  const cudaStream_t stream = stream_on(forward.device);
  if (cudnn::backward(args, stream)) return;
  const bool on_tensor_cores = tensor::takes(forward);
  const AttentionRows rows = on_tensor_cores ? tensor::rows(forward.shape.head_dim) : fma::rows();
  const KeptList queries = query_blocks(forward, rows.queries_dq, stream);
  const KeptList keys = key_blocks(forward, rows.keys, stream);
  const Tensor delta =
      Tensor::empty(forward.lse.shape(), DType::f32, forward.device, MemoryTag::workspace);
  AttentionParams params = attention_params(forward, &args);
  params.delta = pointer<float>(delta);
  params.blocks = queries.data<const AttentionBlock>();
  dispatch(forward.dtype, [&](auto type) {
    delta_kernel<decltype(type)>
        <<<units_of(queries.count, params.num_heads), kThreads, 0, stream>>>(params,
                                                                             rows.queries_dq);
  });
  check(cudaGetLastError(), "attention_backward");
  (on_tensor_cores ? tensor::backward_queries : fma::backward_queries)(forward.dtype, params,
                                                                       queries.count, stream);
  params.blocks = keys.data<const AttentionBlock>();
  (on_tensor_cores ? tensor::backward_keys : fma::backward_keys)(forward.dtype, params, keys.count,
                                                                 stream);
}

}  // namespace weft::ops::cuda
