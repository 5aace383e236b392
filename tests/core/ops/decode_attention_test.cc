#include "core/ops/decode_attention.h"

#include <cmath>

#include "tests/support/op_cases.h"

namespace weft::ops {
namespace {

struct Sequence {
  int64_t first, last;
};

class DecodeAttention : public test::OpTest {
 protected:
  static Tensor i32(const std::vector<double>& values) {
    return test::from_doubles(values, {static_cast<int64_t>(values.size())}, DType::i32);
  }

  // Of the cache's rows as they are now; `longest` may be more than any sequence has.
  static Tensor attend(AttentionShape shape, const std::vector<Sequence>& sequences,
                       int64_t longest) {
    const int64_t count = std::ssize(sequences), rows = 1400,
                  width = shape.num_kv_heads * shape.head_dim;
    shape.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
    std::vector<double> first, last;
    for (const Sequence& s : sequences) {
      first.push_back(static_cast<double>(s.first));
      last.push_back(static_cast<double>(s.last));
    }
    const Tensor q = test::random_tensor({count, shape.num_heads * shape.head_dim}, dtype(), 1, 2);
    const Tensor k = test::random_tensor({rows, width}, dtype(), 2, 2);
    const Tensor v = test::random_tensor({rows, width}, dtype(), 3);
    const Tensor o = Tensor::zeros(q.shape(), dtype(), device());
    decode_attention({.q = {q.raw(), q.dim(1)},
                      .k = {k.raw(), width},
                      .v = {v.raw(), width},
                      .o = {o.raw(), q.dim(1)},
                      .first_B = i32(first),
                      .last_B = i32(last),
                      .longest = longest,
                      .shape = shape,
                      .dtype = dtype(),
                      .device = device()});
    std::vector<double> want(static_cast<size_t>(o.numel()));
    const std::vector<double> Q = test::to_doubles(q), K = test::to_doubles(k),
                              V = test::to_doubles(v);
    const int64_t D = shape.head_dim, group = shape.num_heads / shape.num_kv_heads;
    for (int64_t b = 0; b < count; ++b)
      for (int64_t h = 0; h < shape.num_heads; ++h) {
        const int64_t at = (b * shape.num_heads + h) * D;
        std::vector<double> p;
        double sum = 0;
        for (int64_t row = sequences[b].first; row <= sequences[b].last; ++row) {
          double score = 0;
          for (int64_t d = 0; d < D; ++d) score += Q[at + d] * K[row * width + h / group * D + d];
          p.push_back(std::exp(score * shape.scale));
          sum += p.back();
        }
        for (size_t i = 0; i < p.size(); ++i)
          for (int64_t d = 0; d < D; ++d)
            want[at + d] += p[i] / sum * V[(sequences[b].first + i) * width + h / group * D + d];
      }
    test::expect_close(o, want,
                       dtype() == DType::f32    ? 5e-6
                       : dtype() == DType::bf16 ? 8e-3
                                                : 1e-3,
                       fmt::format("{} of {} heads of {}", shape.num_heads, shape.num_kv_heads, D));
    return o;
  }
};

const std::vector<Sequence> kSequences = {{0, 0}, {3, 258}, {260, 516}, {600, 1399}, {520, 530}};

TEST_P(DecodeAttention, EqualsPlainLoops) {
  for (const AttentionShape& shape : {AttentionShape{9, 3, 64, 0},
                                      {8, 2, 64, 0},
                                      {7, 1, 20, 0},
                                      {3, 3, 128, 0},
                                      {5, 1, 6, 0},
                                      {2, 1, 256, 0}})
    attend(shape, kSequences, 800);
  attend({9, 3, 64, 0}, {{0, 100}}, 101);
}

TEST_P(DecodeAttention, RoomForLongerSequencesChangesNoBit) {
  const Tensor tight = attend({4, 2, 32, 0}, kSequences, 800);
  const Tensor roomy = attend({4, 2, 32, 0}, kSequences, 5000);
  EXPECT_TRUE(test::same_bytes(tight, roomy));
  const Tensor alone = attend({4, 2, 32, 0}, {kSequences[0]}, 1);
  EXPECT_TRUE(test::same_bytes(alone, tight.rows(0, 1)));
}

TEST_P(DecodeAttention, GivesTheSameBitsEachTime) {
  const Tensor want = attend({9, 3, 64, 0}, kSequences, 800);
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(test::same_bytes(attend({9, 3, 64, 0}, kSequences, 800), want));
}

INSTANTIATE_OP_TESTS(DecodeAttention);

}  // namespace
}  // namespace weft::ops
