// One test body for every storage dtype, instruction set and device, and checks that bits do not
// depend on threads or instruction sets. In a build with CUDA the cases of a GPU are skipped, with
// the reason, where there is none.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/cpu_features.h"
#include "core/base/threads.h"
#include "core/tensor/device_memory.h"
#include "tests/support/tensors.h"

namespace weft::test {

struct OpCase {
  DType dtype;
  VectorIsa isa;
  Device device;
};

inline std::string name_of_op_case(const testing::TestParamInfo<OpCase>& info) {
  if (!info.param.device.is_cpu()) return fmt::format("{}_cuda", name_of(info.param.dtype));
  return fmt::format("{}_{}", name_of(info.param.dtype), name_of(info.param.isa));
}

class OpTest : public testing::TestWithParam<OpCase> {
 protected:
  OpTest() : threads_(num_threads()) {
    set_vector_isa_limit(GetParam().isa);
    device_of_test() = device();
  }
  ~OpTest() override {
    device_of_test() = {};
    set_vector_isa_limit(VectorIsa::avx512);
    set_num_threads(threads_);
  }
  void SetUp() override {
    if (!device().is_cpu() && device_memory::count() == 0)
      GTEST_SKIP() << "needs a GPU: " << device_memory::why_none();
  }
  static DType dtype() { return GetParam().dtype; }
  static Device device() { return GetParam().device; }
  // Of a result stored in the case's dtype, relative to the largest: rounding to bf16 is 2^-9.
  static double tolerance() {
    return dtype() == DType::f32 ? 4e-6 : dtype() == DType::bf16 ? 5e-3 : 7e-4;
  }

 private:
  int threads_;
};

inline std::vector<OpCase> op_cases() {
  std::vector<OpCase> cases;
  for (DType dtype : {DType::f32, DType::bf16})
    for (VectorIsa isa : {VectorIsa::baseline, VectorIsa::avx2, VectorIsa::avx512})
      cases.push_back({dtype, isa, {}});
#ifdef WEFT_HAS_CUDA
  for (DType dtype : {DType::f32, DType::bf16, DType::f16})
    cases.push_back({dtype, VectorIsa::avx512, {DeviceKind::cuda, 0}});
#endif
  return cases;
}

// run() makes new tensors; they have the same bytes for any number of threads and any instruction
// set.
inline void expect_same_bits_everywhere(const std::function<std::vector<Tensor>()>& run) {
  if (!device_of_test().is_cpu()) {  // there: the same bits each time
    const std::vector<Tensor> want = run();
    for (int repeat = 0; repeat < 5; ++repeat) {
      const std::vector<Tensor> got = run();
      for (size_t i = 0; i < want.size(); ++i)
        EXPECT_TRUE(same_bytes(got[i], want[i])) << "result " << i << ", repeat " << repeat;
    }
    return;
  }
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
