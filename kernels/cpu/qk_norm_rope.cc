#include "core/ops/qk_norm_rope.h"

#include "kernels/cpu/rms_norm_row.h"
#include "kernels/cpu/rotate_head.h"
#include "kernels/cpu/row_sums.h"

namespace weft::ops::cpu {
namespace {

// The heads of q or of k, in tokens of `of_token` heads.
struct Heads {
  int64_t begin, count, of_token;
};

template <class T, class W>
struct HeadBackward {
  T* dy;  // becomes dx
  const T* x;
  const W* weight;
  const float* cos;
  float rstd;
  float* dweight;  // +=; null where it is frozen
};

template <class T, class W>
inline void head_backward(HeadBackward<T, W> h, int64_t half) {
  rotate_head(h.dy, h.dy + half, h.cos, h.cos + half, -1.0f, half);
  if (h.dweight) add_dweight_row(h.dy, h.x, h.rstd, h.dweight, 2 * half);
  dx_row(RowBackward<T>{h.dy, h.x, nullptr, h.dy}, h.weight, h.rstd, 2 * half);
}

void heads_backward(const QkNormRopeBackwardArgs& args, const Heads& heads,
                    const Tensor& head_weight, const Tensor& head_dweight) {
  const int64_t head_dim = head_weight.dim(0), rstds = args.rstd.dim(1);
  const float* table = args.forward.table.data<float>();
  const float* rstd = args.rstd.data<float>();
  with_types(args.dqkv, head_weight, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    T* dqkv = args.dqkv.data<T>();
    const T* qkv = args.forward.qkv.data<T>();
    const W* weight = head_weight.data<W>();
    // The rows to sum over are these heads of all tokens.
    sum_rows(args.dqkv.dim(0) * heads.count, head_dim, head_dweight,
             [&](int64_t begin, int64_t end, float* dweight) {
               for (int64_t i = begin; i < end; ++i) {
                 const int64_t token = i / heads.count, head = heads.begin + i % heads.count;
                 const int64_t at = (token * heads.of_token + head) * head_dim;
                 head_backward(
                     HeadBackward<T, W>{dqkv + at, qkv + at, weight, table + token * head_dim,
                                        rstd[token * rstds + head], dweight},
                     head_dim / 2);
               }
             });
  });
}

}  // namespace

void qk_norm_rope(const QkNormRopeArgs& args, const QkNormRopeResult& result) {
  const int64_t head_dim = args.table.dim(1), half = head_dim / 2;
  const int64_t num_heads = args.num_heads, turned = num_heads + args.num_kv_heads;
  const int64_t row_width = args.qkv.dim(1);
  const float eps = args.eps;
  const float* table = args.table.data<float>();
  float* rstd = result.rstd.data<float>();
  with_types(args.qkv, args.q_weight, [&](auto x_type, auto w_type) {
    using T = decltype(x_type);
    using W = decltype(w_type);
    const T* x = args.qkv.data<T>();
    const W* q_weight = args.q_weight.data<W>();
    const W* k_weight = args.k_weight.data<W>();
    T* y = result.qkv.data<T>();
    parallel_vectorised(args.qkv.dim(0), 2 * row_width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const float* cos = table + t * head_dim;
        for (int64_t head = 0; head < turned; ++head) {
          const int64_t at = t * row_width + head * head_dim;
          float& scale = rstd[t * turned + head];
          scale = row_rstd(x + at, head_dim, eps);
          normalise_row(x + at, head < num_heads ? q_weight : k_weight, scale, y + at, head_dim);
        }
        for (int64_t head = 0; head < turned; ++head) {
          T* a = y + t * row_width + head * head_dim;
          rotate_head(a, a + half, cos, cos + half, 1.0f, half);
        }
        std::copy(x + t * row_width + turned * head_dim, x + (t + 1) * row_width,
                  y + t * row_width + turned * head_dim);
      }
    });
  });
}

void qk_norm_rope_backward(const QkNormRopeBackwardArgs& args) {
  const QkNormRopeArgs& f = args.forward;
  const int64_t of_token = f.num_heads + 2 * f.num_kv_heads;
  heads_backward(args, {0, f.num_heads, of_token}, f.q_weight, args.dq_weight);
  heads_backward(args, {f.num_heads, f.num_kv_heads, of_token}, f.k_weight, args.dk_weight);
}

}  // namespace weft::ops::cpu
