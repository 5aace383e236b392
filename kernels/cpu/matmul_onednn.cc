// Matrix products by oneDNN, 2.6 and later or 3.x.
#include <array>
#include <dnnl.hpp>
#include <list>
#include <map>
#include <memory>
#include <mutex>

#include "core/base/cpu_features.h"
#include "core/base/threads.h"
#include "kernels/cpu/matmul_backend.h"

namespace weft::ops::cpu {
namespace {

// All that a primitive depends on. oneDNN fixes the number of threads when it builds one.
struct ProductKey {
  std::array<int64_t, 8> sizes;  // M, N, K, strides of a and b, row stride of c
  DType in;
  DType out;
  bool accumulate;
  float alpha;
  int threads;
  auto operator<=>(const ProductKey&) const = default;
};

struct Product {
  dnnl::memory::desc a, b, c, scratchpad;
  dnnl::matmul primitive;
};

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::memory::desc describe(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                            DType dtype) {
  using Type = dnnl::memory::data_type;
  return {{rows, cols}, dtype == DType::f32 ? Type::f32 : Type::bf16, {row_stride, col_stride}};
}

dnnl::primitive_attr attributes(const ProductKey& key) {
  dnnl::post_ops post;
  if (key.alpha != 1.0f) {
#if DNNL_VERSION_MAJOR >= 3
    post.append_eltwise(dnnl::algorithm::eltwise_linear, key.alpha, 0.0f);
#else
    post.append_eltwise(1.0f, dnnl::algorithm::eltwise_linear, key.alpha, 0.0f);
#endif
  }
  if (key.accumulate) post.append_sum(1.0f);
  dnnl::primitive_attr attr;
  attr.set_post_ops(post);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // ours a call: ranks may be threads
#if DNNL_VERSION_MAJOR > 3 || (DNNL_VERSION_MAJOR == 3 && DNNL_VERSION_MINOR >= 4)
  attr.set_deterministic(true);
#endif
  return attr;
}

std::shared_ptr<const Product> build(const ProductKey& key) {
  const auto& [M, N, K, a_row, a_col, b_row, b_col, c_row] = key.sizes;
  auto product = std::make_shared<Product>();
  product->a = describe(M, K, a_row, a_col, key.in);
  product->b = describe(K, N, b_row, b_col, key.in);
  product->c = describe(M, N, c_row, 1, key.out);
  const dnnl::primitive_attr attr = attributes(key);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc description(engine(), product->a, product->b, product->c,
                                                 attr);
#else
  const dnnl::matmul::primitive_desc description({product->a, product->b, product->c}, attr,
                                                 engine());
#endif
  product->scratchpad = description.scratchpad_desc();
  product->primitive = dnnl::matmul(description);
  return product;
}

// The products used last, so that none is built twice in a training run. Thread-safe.
class ProductCache {
 public:
  std::shared_ptr<const Product> get(const ProductKey& key) {
    std::lock_guard lock(mutex_);
    const auto found = by_key_.find(key);
    if (found != by_key_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return found->second->second;
    }
    order_.emplace_front(key, build(key));
    by_key_[key] = order_.begin();
    if (order_.size() > kCapacity) {
      by_key_.erase(order_.back().first);
      order_.pop_back();
    }
    return order_.front().second;
  }

 private:
  static constexpr size_t kCapacity = 1024;
  using Order = std::list<std::pair<ProductKey, std::shared_ptr<const Product>>>;
  std::mutex mutex_;
  Order order_;  // newest first
  std::map<ProductKey, Order::iterator> by_key_;
};

// The stride of a dimension of one element says nothing, but oneDNN checks and compares it.
struct Strides {
  int64_t row, col;
};
Strides plain_strides(const Matrix& m) {
  if (m.col_stride == 1 && (m.rows > 1 || m.cols > 1))
    return {m.rows == 1 ? m.cols : std::max(m.row_stride, m.cols), 1};
  return {1, m.cols == 1 ? m.rows : std::max(m.col_stride, m.rows)};
}

}  // namespace

bool library_multiplies_bf16() {
  return cpu_has_native_bf16();
}

void library_product(const Matrix& a, const Matrix& b, const Matrix& c,
                     const MatmulOptions& options) {
  static ProductCache cache;
  thread_local dnnl::stream stream(engine());
  const Strides as = plain_strides(a), bs = plain_strides(b);
  const int64_t c_row = c.rows == 1 ? c.cols : c.row_stride;
  const ProductKey key{{c.rows, c.cols, a.cols, as.row, as.col, bs.row, bs.col, c_row},
                       a.dtype,
                       c.dtype,
                       options.accumulate,
                       options.alpha,
                       num_threads()};
  try {
    const std::shared_ptr<const Product> product = cache.get(key);
    const std::shared_ptr<void> scratchpad =
        allocate(product->scratchpad.get_size(), Device{}, MemoryTag::workspace);
    const auto memory = [](const dnnl::memory::desc& desc, void* data) {
      return dnnl::memory(desc, engine(), data);
    };
    product->primitive.execute(
        stream, {{DNNL_ARG_SRC, memory(product->a, a.data)},
                 {DNNL_ARG_WEIGHTS, memory(product->b, b.data)},
                 {DNNL_ARG_DST, memory(product->c, c.data)},
                 {DNNL_ARG_SCRATCHPAD, memory(product->scratchpad, scratchpad.get())}});
    stream.wait();
  } catch (const dnnl::error& e) {
    fail(ErrorKind::internal, "[matmul] oneDNN on [{}, {}] x [{}, {}] {} to {}: {}", a.rows, a.cols,
         b.rows, b.cols, name_of(a.dtype), name_of(c.dtype), e.what());
  }
}

}  // namespace weft::ops::cpu
