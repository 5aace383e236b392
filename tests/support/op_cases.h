// One test body for every storage dtype and instruction set, and checks that bits do not depend on
// threads or instruction sets.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/cpu_features.h"
#include "core/base/threads.h"
#include "tests/support/tensors.h"

namespace weft::test {

struct OpCase {
  DType dtype;
  VectorIsa isa;
};

inline std::string name_of_op_case(const testing::TestParamInfo<OpCase>& info) {
  return fmt::format("{}_{}", name_of(info.param.dtype), name_of(info.param.isa));
}

class OpTest : public testing::TestWithParam<OpCase> {
 protected:
  OpTest() : threads_(num_threads()) { set_vector_isa_limit(GetParam().isa); }
  ~OpTest() override {
    set_vector_isa_limit(VectorIsa::avx512);
    set_num_threads(threads_);
  }
  static DType dtype() { return GetParam().dtype; }
  // Of a result stored in the case's dtype, relative to the largest: rounding to bf16 is 2^-9.
  static double tolerance() { return dtype() == DType::f32 ? 4e-6 : 5e-3; }

 private:
  int threads_;
};

inline std::vector<OpCase> op_cases() {
  std::vector<OpCase> cases;
  for (DType dtype : {DType::f32, DType::bf16})
    for (VectorIsa isa : {VectorIsa::baseline, VectorIsa::avx2, VectorIsa::avx512})
      cases.push_back({dtype, isa});
  return cases;
}

// run() makes new tensors; they have the same bytes for any number of threads and any instruction
// set.
inline void expect_same_bits_everywhere(const std::function<std::vector<Tensor>()>& run) {
  const int threads_before = num_threads();
  set_num_threads(1);
  const std::vector<Tensor> want = run();
  for (VectorIsa isa : {VectorIsa::baseline, VectorIsa::avx2, VectorIsa::avx512})
    for (int threads : {1, 2, 3, 7}) {
      set_vector_isa_limit(isa);
      set_num_threads(threads);
      const std::vector<Tensor> got = run();
      for (size_t i = 0; i < want.size(); ++i)
        EXPECT_TRUE(same_bytes(got[i], want[i]))
            << "result " << i << " with " << threads << " threads, " << name_of(isa);
    }
  set_vector_isa_limit(VectorIsa::avx512);
  set_num_threads(threads_before);
}

}  // namespace weft::test

#define INSTANTIATE_OP_TESTS(Suite)                                                        \
  INSTANTIATE_TEST_SUITE_P(Everywhere, Suite, testing::ValuesIn(::weft::test::op_cases()), \
                           ::weft::test::name_of_op_case)
