// The dtype that a device computes in.
#include "recipes/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"

namespace weft::recipes {
namespace {

using ::testing::HasSubstr;

constexpr DeviceKind kCpu = DeviceKind::cpu, kGpu = DeviceKind::cuda;

std::string refusal(DeviceKind kind, bool has_bf16, Precision precision) {
  try {
    dtype_on(kind, has_bf16, precision);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
  return "none";
}

TEST(DtypeOn, AutoIsBf16WhereItIsNativeElseFp16OnAGpuAndFp32OnACpu) {
  EXPECT_EQ(dtype_on(kGpu, true, Precision::automatic), DType::bf16);
  EXPECT_EQ(dtype_on(kCpu, true, Precision::automatic), DType::bf16);
  EXPECT_EQ(dtype_on(kCpu, false, Precision::automatic), DType::f32);
  testing::internal::CaptureStderr();
  EXPECT_EQ(dtype_on(kGpu, false, Precision::automatic), DType::f16);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("fp16 it is"));
}

TEST(DtypeOn, WhatIsAskedForIsComputedOrRefused) {
  EXPECT_EQ(dtype_on(kGpu, false, Precision::fp32), DType::f32);
  EXPECT_EQ(dtype_on(kGpu, false, Precision::fp16), DType::f16);
  EXPECT_EQ(dtype_on(kCpu, false, Precision::bf16), DType::bf16);
  EXPECT_THAT(refusal(kGpu, false, Precision::bf16), HasSubstr("does not multiply bf16"));
  EXPECT_THAT(refusal(kCpu, true, Precision::fp16), HasSubstr("on GPUs only"));
}

}  // namespace
}  // namespace weft::recipes
