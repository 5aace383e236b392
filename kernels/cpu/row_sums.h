// Sums over the rows of a matrix, added to a tensor: the same bits whatever the thread count.
#pragma once

#include "core/tensor/tensor.h"
#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {

template <class G>
void add_partials(const float* partials, int64_t num_partials, int64_t width, G* out, int64_t begin,
                  int64_t end) {
  for (int64_t column = begin; column < end; column += kLanes) {
    const int64_t n = std::min<int64_t>(kLanes, end - column);
    float sum[kLanes] = {};
    for (int64_t p = 0; p < num_partials; ++p) {
      const float* partial = partials + p * width + column;
      for (int64_t i = 0; i < n; ++i) sum[i] += partial[i];
    }
    for (int64_t i = 0; i < n; ++i)
      out[column + i] = static_cast<G>(static_cast<float>(out[column + i]) + sum[i]);
  }
}

// out[width] (f32 or bf16) += the sums that add_rows(begin, end, partial) makes: it adds rows
// [begin, end) in order to partial[width] (f32). Chunks of rows depend on num_rows only; their
// partial sums are added in order. add_rows runs in parallel, vectorised. With an undefined out,
// add_rows runs all the same, with partial = nullptr.
template <class AddRows>
void sum_rows(int64_t num_rows, int64_t width, const Tensor& out, const AddRows& add_rows) {
  if (!out.defined()) {
    return parallel_vectorised(num_rows, width, [&](int64_t begin, int64_t end) {
      add_rows(begin, end, static_cast<float*>(nullptr));
    });
  }
  if (num_rows == 0 || width == 0) return;
  const int64_t chunk = std::max<int64_t>(32, (num_rows + 127) / 128);
  const int64_t num_chunks = (num_rows + chunk - 1) / chunk;
  const Tensor partials =
      Tensor::zeros({num_chunks, width}, DType::f32, out.device(), MemoryTag::workspace);
  float* partial = partials.data<float>();
  parallel_vectorised(num_chunks, chunk * width, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      add_rows(c * chunk, std::min(num_rows, (c + 1) * chunk), partial + c * width);
  });
  with_float_type(out.dtype(), [&](auto g_type) {
    auto* sums = out.data<decltype(g_type)>();
    parallel_vectorised(width, num_chunks, [&](int64_t begin, int64_t end) {
      add_partials(partial, num_chunks, width, sums, begin, end);
    });
  });
}

}  // namespace weft::ops::cpu
