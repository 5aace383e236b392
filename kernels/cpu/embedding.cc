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

constexpr int64_t kBlock = 512;  // columns summed at a time, in f32, rounded once

struct TokensOfId {
  int32_t id;
  const int64_t* begin;
  const int64_t* end;
};

std::vector<TokensOfId> groups_of(const int32_t* ids, const std::vector<int64_t>& sorted_tokens) {
  std::vector<TokensOfId> groups;
  for (const int64_t& token : sorted_tokens) {
    if (groups.empty() || groups.back().id != ids[token])
      groups.push_back({ids[token], &token, {}});
    groups.back().end = &token + 1;
  }
  return groups;
}

// row[begin .. begin + n) += dy's rows of these tokens, in order.
template <class X, class G>
void add_tokens(const X* dy, G* row, const TokensOfId& group, int64_t width, int64_t begin) {
  const int64_t n = std::min(kBlock, width - begin);
  float sum[kBlock];
  load_row(sum, row + begin, n);
  for (const int64_t* token = group.begin; token != group.end; ++token)
    add_row(sum, dy + *token * width + begin, n);
  store_row(row + begin, sum, n);
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

// Parallel over ids and blocks of columns: each row of dtable takes its tokens in order whatever
// the thread count.
void embedding_backward(const Tensor& dy_TD, const Tensor& ids_T, const Tensor& dtable_VD) {
  const int64_t width = dy_TD.dim(1);
  check_ids(ids_T, dtable_VD.dim(0));
  const int32_t* ids = ids_T.data<int32_t>();
  const std::vector<int64_t> tokens = tokens_by_id(ids, dy_TD.dim(0));
  const std::vector<TokensOfId> groups = groups_of(ids, tokens);
  const int64_t num_blocks = (width + kBlock - 1) / kBlock;
  const auto num_items = static_cast<int64_t>(groups.size()) * num_blocks;
  if (num_items == 0) return;
  with_float_type(dy_TD.dtype(), [&](auto x_type) {
    with_float_type(dtable_VD.dtype(), [&](auto g_type) {
      const auto* dy = dy_TD.data<decltype(x_type)>();
      auto* dtable = dtable_VD.data<decltype(g_type)>();
      parallel_vectorised(num_items, dy_TD.numel() / num_items, [&](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; ++item) {
          const TokensOfId& group = groups[static_cast<size_t>(item / num_blocks)];
          add_tokens(dy, dtable + group.id * width, group, width, item % num_blocks * kBlock);
        }
      });
    });
  });
}

}  // namespace weft::ops::cpu
