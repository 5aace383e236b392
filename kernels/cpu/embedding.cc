#include "core/ops/embedding.h"

#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cpu/vectorised.h"

namespace weft::ops::cpu {
namespace {

void check_ids(const Tensor& ids_T, int64_t vocabulary) {
  const int32_t* ids = ids_T.data<int32_t>();
  for (int64_t t = 0; t < ids_T.numel(); ++t)
    CHECK(0 <= ids[t] && ids[t] < vocabulary, "token id {} at {} of a table of {} rows", ids[t], t,
          vocabulary);
}

// Tokens by id, those of one id in token order.
std::vector<int64_t> tokens_by_id(const int32_t* ids, int64_t num_tokens) {
  std::vector<int64_t> tokens(static_cast<size_t>(num_tokens));
  std::iota(tokens.begin(), tokens.end(), 0);
  std::stable_sort(tokens.begin(), tokens.end(),
                   [&](int64_t a, int64_t b) { return ids[a] < ids[b]; });
  return tokens;
}

template <class T>
void load_row(float* sum, const T* x, int64_t n) {
  each(n, [=](int64_t i) { sum[i] = static_cast<float>(x[i]); });
}

template <class T>
void add_row(float* sum, const T* x, int64_t n) {
  each(n, [=](int64_t i) { sum[i] += static_cast<float>(x[i]); });
}

template <class T>
void store_row(T* y, const float* sum, int64_t n) {
  each(n, [=](int64_t i) { y[i] = static_cast<T>(sum[i]); });
}

constexpr int64_t kBlock = 64;  // columns summed at a time, in f32, rounded once

struct SortedTokens {
  const std::vector<int64_t>& tokens;
  const int32_t* ids;
};

// dtable += dy in columns [begin, begin + n), n <= kBlock, of every row that has tokens.
template <class X, class G>
void add_columns(const X* dy, G* dtable, const SortedTokens& sorted, int64_t width, int64_t begin,
                 int64_t n) {
  float sum[kBlock];
  for (size_t i = 0; i < sorted.tokens.size();) {
    const int32_t id = sorted.ids[sorted.tokens[i]];
    G* row = dtable + id * width + begin;
    load_row(sum, row, n);
    for (; i < sorted.tokens.size() && sorted.ids[sorted.tokens[i]] == id; ++i)
      add_row(sum, dy + sorted.tokens[i] * width + begin, n);
    store_row(row, sum, n);
  }
}

}  // namespace

void embedding(const Tensor& table_VD, const Tensor& ids_T, const Tensor& y_TD) {
  check_ids(ids_T, table_VD.dim(0));
  const size_t row_bytes = static_cast<size_t>(table_VD.dim(1)) * size_of(table_VD.dtype());
  const char* table = static_cast<const char*>(table_VD.raw());
  char* y = static_cast<char*>(y_TD.raw());
  const int32_t* ids = ids_T.data<int32_t>();
  if (row_bytes == 0) return;
  parallel_for(ids_T.dim(0), std::max<int64_t>(1, 65536 / static_cast<int64_t>(row_bytes)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = begin; t < end; ++t)
                   std::memcpy(y + t * row_bytes, table + ids[t] * row_bytes, row_bytes);
               });
}

// Parallel over columns: each row of dtable takes its tokens in order whatever the thread count.
void embedding_backward(const Tensor& dy_TD, const Tensor& ids_T, const Tensor& dtable_VD) {
  const int64_t num_tokens = dy_TD.dim(0);
  const int64_t width = dy_TD.dim(1);
  check_ids(ids_T, dtable_VD.dim(0));
  const int32_t* ids = ids_T.data<int32_t>();
  const std::vector<int64_t> tokens = tokens_by_id(ids, num_tokens);
  const SortedTokens sorted{tokens, ids};
  with_float_type(dy_TD.dtype(), [&](auto x_type) {
    with_float_type(dtable_VD.dtype(), [&](auto g_type) {
      const auto* dy = dy_TD.data<decltype(x_type)>();
      auto* dtable = dtable_VD.data<decltype(g_type)>();
      const int64_t blocks = (width + kBlock - 1) / kBlock;
      parallel_vectorised(blocks, num_tokens * kBlock, [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block)
          add_columns(dy, dtable, sorted, width, block * kBlock,
                      std::min(kBlock, width - block * kBlock));
      });
    });
  });
}

}  // namespace weft::ops::cpu
