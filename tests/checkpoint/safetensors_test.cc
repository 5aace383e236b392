#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/model_bytes.h"
#include "tests/support/test_data.h"

namespace weft::checkpoint {
namespace {

using test::bytes_of;
using test::error_of;
using test::safetensors_bytes;
using test::TempDir;
using testing::HasSubstr;

class Safetensors : public testing::Test {
 protected:
  std::unique_ptr<SafetensorsWeights> open(const std::string& header, const std::string& data) {
    return open_bytes(safetensors_bytes(header, data));
  }
  std::unique_ptr<SafetensorsWeights> open_bytes(const std::string& bytes) {
    test::write_file(path_, bytes);
    return SafetensorsWeights::open_file(path_);
  }
  std::string error(const std::string& header, const std::string& data) {
    return error_of_bytes(safetensors_bytes(header, data));
  }
  std::string error_of_bytes(const std::string& bytes) {
    const std::string what = error_of(ErrorKind::bad_data, [&] { open_bytes(bytes); });
    EXPECT_THAT(what, HasSubstr(path_));
    return what;
  }

  TempDir dir_;
  const std::string path_ = dir_.file("model.safetensors");
};

std::vector<float> floats(const Tensor& tensor) {
  return std::vector<float>(tensor.data<float>(), tensor.data<float>() + tensor.numel());
}

TEST_F(Safetensors, ReadsRangesOfEveryFloatTypeConverted) {
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("d":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},)"
                             R"("f":{"dtype":"F32","shape":[2,3],"data_offsets":[16,40]},)"
                             R"("h":{"dtype":"F16","shape":[2],"data_offsets":[40,44]},)"
                             R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[44,48]},)"
                             R"("none":{"dtype":"F32","shape":[0,7],"data_offsets":[48,48]},)"
                             R"("scalar":{"dtype":"F32","shape":[],"data_offsets":[48,52]}}   )";
  const std::string data = bytes_of(std::vector<double>{1.5, -2}) +
                           bytes_of(std::vector<float>{0, 1, 2, 3, 4, 5}) + bytes_of(f16(0.5f)) +
                           bytes_of(f16(-3)) + bytes_of(bf16(0.25f)) + bytes_of(bf16(7)) +
                           bytes_of(9.0f);
  const auto weights = open(header, data);
  EXPECT_EQ(weights->weights().size(), 6u);
  EXPECT_EQ(weights->shape("f"), (Shape{2, 3}));
  EXPECT_EQ(weights->info("b").dtype, DType::bf16);
  EXPECT_EQ(weights->info("d").stored_as, "F64");
  const Tensor part = Tensor::empty({3}, DType::f32);
  weights->read("f", 2, part);
  EXPECT_EQ(floats(part), (std::vector<float>{2, 3, 4}));
  EXPECT_EQ(floats(weights->read_all("d", DType::f32)), (std::vector<float>{1.5, -2}));
  EXPECT_EQ(floats(weights->read_all("h", DType::f32)), (std::vector<float>{0.5, -3}));
  EXPECT_EQ(floats(weights->read_all("b", DType::f32)), (std::vector<float>{0.25, 7}));
  EXPECT_EQ(floats(weights->read_all("scalar", DType::f32)), (std::vector<float>{9}));
  EXPECT_EQ(weights->read_all("none", DType::f32).numel(), 0);
  EXPECT_EQ(weights->read_all("f", DType::bf16).data<bf16>()[5], bf16(5));
  EXPECT_EQ(weights->read_all("b", DType::f16).data<f16>()[1], f16(7));
}

TEST_F(Safetensors, RoundsADoubleOnceNotTwice) {
  // Just above the middle of two bf16 values; rounding to float first would land on the middle.
  const double value = 1.0 + 0x1p-8 + 0x1p-40;
  const auto weights =
      open(R"({"d":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})", bytes_of(value));
  EXPECT_EQ(static_cast<float>(*weights->read_all("d", DType::bf16).data<bf16>()), 1.0f + 0x1p-7f);
}

TEST_F(Safetensors, KeepsNotANumber) {
  const auto weights = open(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                            bytes_of(std::numeric_limits<float>::quiet_NaN()));
  EXPECT_TRUE(std::isnan(*weights->read_all("x", DType::f32).data<float>()));
  EXPECT_TRUE(std::isnan(static_cast<float>(*weights->read_all("x", DType::bf16).data<bf16>())));
}

TEST_F(Safetensors, MissingFileIsNoInput) {
  EXPECT_THAT(error_of(ErrorKind::no_input,
                       [&] { SafetensorsWeights::open_file(dir_.file("absent.safetensors")); }),
              HasSubstr("absent.safetensors"));
  error_of(ErrorKind::no_input, [&] { SafetensorsWeights::open_file(dir_.path().string()); });
  error_of(ErrorKind::no_input, [&] { SafetensorsWeights::open_folder(dir_.path().string()); });
}

TEST_F(Safetensors, RefusesABrokenHeaderLength) {
  EXPECT_THAT(error_of_bytes(""), HasSubstr("too few"));
  EXPECT_THAT(error_of_bytes("1234567"), HasSubstr("too few"));
  EXPECT_THAT(error_of_bytes(bytes_of<uint64_t>(3) + "{}"), HasSubstr("truncated"));
  EXPECT_THAT(error_of_bytes(bytes_of<uint64_t>(UINT64_MAX) + "{}"), HasSubstr("claims"));
  EXPECT_THAT(error_of_bytes(bytes_of<uint64_t>(100'000'001) + "{}"), HasSubstr("100000000"));
  EXPECT_THAT(error_of_bytes(bytes_of<uint64_t>(0)), HasSubstr("does not start"));
}

TEST_F(Safetensors, RefusesAHeaderThatIsNotTheFormatsJson) {
  EXPECT_THAT(error(" {}", ""), HasSubstr("does not start with '{'"));
  EXPECT_THAT(error("{", ""), HasSubstr("JSON"));
  EXPECT_THAT(error("{} x", ""), HasSubstr("JSON"));
  EXPECT_THAT(error(R"({"a":1})", ""), HasSubstr("'a'"));
  EXPECT_THAT(error("{\"\xff\":{}}", ""), HasSubstr("JSON"));
  const std::string entry = R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  EXPECT_THAT(error(R"({"a":)" + entry + R"(,"a":)" + entry + "}", ""), HasSubstr("duplicate"));
  EXPECT_THAT(error(R"({"__metadata__":{"a":1}})", ""), HasSubstr("__metadata__"));
  EXPECT_THAT(error(R"({"__metadata__":"a"})", ""), HasSubstr("__metadata__"));
  EXPECT_THAT(error(R"({"a":{"dtype":"F32","shape":[[[[[[[[[[0]]]]]]]]]]}})", ""),
              HasSubstr("deeper"));
}

TEST_F(Safetensors, RefusesABrokenEntryNamingTheTensor) {
  const auto entry = [&](const std::string& entry) {
    const std::string what = error(R"({"w":{)" + entry + "}}", std::string(8, '\0'));
    EXPECT_THAT(what, HasSubstr("'w'"));
    return what;
  };
  EXPECT_THAT(entry(R"("shape":[2],"data_offsets":[0,8])"), HasSubstr("'dtype'"));
  EXPECT_THAT(entry(R"("dtype":"F32","data_offsets":[0,8])"), HasSubstr("'shape'"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[2])"), HasSubstr("'data_offsets'"));
  EXPECT_THAT(entry(R"("dtype":"Q4","shape":[2],"data_offsets":[0,8])"), HasSubstr("'Q4'"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), HasSubstr("shape"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[2.5],"data_offsets":[0,8])"), HasSubstr("2.5"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8])"),
              HasSubstr("shape"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8])"),
              HasSubstr("overflows"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[2305843009213693952],"data_offsets":[0,8])"),
              HasSubstr("overflows"));
  EXPECT_THAT(entry(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"), HasSubstr("whole bytes"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), HasSubstr("do not hold"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), HasSubstr("do not hold"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), HasSubstr("two numbers"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])"), HasSubstr("-8"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[2],"data_offsets":[4,12])"), HasSubstr("outside"));
  EXPECT_THAT(entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,12])"), HasSubstr("truncated"));
}

TEST_F(Safetensors, RefusesOverlapsAndHoles) {
  const auto two = [&](const char* a, const char* b, size_t size) {
    return error(fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                             R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                             a, b),
                 std::string(size, '\0'));
  };
  EXPECT_THAT(two("[0,4]", "[2,6]", 6), HasSubstr("'b'"));
  EXPECT_THAT(two("[0,4]", "[0,4]", 4), HasSubstr("overlap"));
  EXPECT_THAT(two("[0,4]", "[5,9]", 9), HasSubstr("holes"));
  EXPECT_THAT(two("[1,5]", "[5,9]", 9), HasSubstr("'a'"));
  EXPECT_THAT(two("[0,4]", "[4,8]", 9), HasSubstr("belong to none"));
}

TEST_F(Safetensors, RefusesAHeaderOfMillionsOfItems) {
  std::string header = R"({"a":[0)";
  for (int i = 0; i < 4'000'001; ++i) header += ",0";
  EXPECT_THAT(error(header + "]}", ""), HasSubstr("items"));
}

TEST_F(Safetensors, OtherTypesMayBeThereButAreNotRead) {
  const auto weights =
      open(R"({"ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", std::string(8, '\0'));
  EXPECT_THAT(error_of(ErrorKind::bad_data, [&] { weights->read_all("ids", DType::f32); }),
              HasSubstr("'ids' is I64"));
  EXPECT_THAT(error_of(ErrorKind::bad_data, [&] { weights->shape("w"); }), HasSubstr("'w'"));
}

class SafetensorsShards : public Safetensors {
 protected:
  void SetUp() override {
    shard("s1.safetensors", "a", 1);
    shard("s2.safetensors", "b", 2);
  }
  void shard(const std::string& file, const std::string& tensor, float value) {
    test::write_file(dir_.file(file),
                     safetensors_bytes(R"({")" + tensor +
                                           R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                                       bytes_of(value)));
  }
  std::unique_ptr<SafetensorsWeights> open_index(const std::string& index) {
    test::write_file(dir_.file("model.safetensors.index.json"), index);
    return SafetensorsWeights::open_folder(dir_.path().string());
  }
  std::string index_error(const std::string& index) {
    return error_of(ErrorKind::bad_data, [&] { open_index(index); });
  }
};

TEST_F(SafetensorsShards, AreOneSource) {
  const auto weights = open_index(
      R"({"metadata":{"total_size":8},"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})");
  EXPECT_EQ(*weights->read_all("a", DType::f32).data<float>(), 1);
  EXPECT_EQ(*weights->read_all("b", DType::f32).data<float>(), 2);
}

TEST_F(SafetensorsShards, RefuseAnIndexThatLies) {
  EXPECT_THAT(index_error("{}"), HasSubstr("weight_map"));
  EXPECT_THAT(index_error(R"({"weight_map":{"a":1}})"), HasSubstr("'a'"));
  EXPECT_THAT(index_error(R"({"weight_map":{"a":"../s1.safetensors"}})"), HasSubstr("plain"));
  EXPECT_THAT(index_error(R"({"weight_map":{"a":"/etc/passwd"}})"), HasSubstr("plain"));
  EXPECT_THAT(index_error(R"({"weight_map":{"a":".."}})"), HasSubstr("plain"));
  EXPECT_THAT(index_error(R"({"weight_map":{"a":"s1.safetensors\u0000"}})"), HasSubstr("plain"));
  EXPECT_THAT(index_error(R"({"weight_map":{"c":"s1.safetensors"}})"), HasSubstr("'c'"));
  EXPECT_THAT(index_error(R"({"weight_map":{"a":"s1.safetensors","c":"s2.safetensors"}})"),
              HasSubstr("'c'"));
  shard("s2.safetensors", "a", 2);
  EXPECT_THAT(index_error(R"({"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})"),
              HasSubstr("twice"));
  error_of(ErrorKind::no_input,
           [&] { open_index(R"({"weight_map":{"a":"absent.safetensors"}})"); });
}

TEST(SafetensorsShared, ReadsARealModel) {
  SKIP_WITHOUT_SHARED_DATA();
  const auto weights =
      SafetensorsWeights::open_folder(test::shared_data() + "/models/stories260K-hf");
  EXPECT_EQ(weights->shape("model.embed_tokens.weight"), (Shape{512, 64}));
  int64_t parameters = 0;
  for (const WeightInfo& info : weights->weights()) parameters += info.shape.numel();
  EXPECT_EQ(parameters, 260'032);
}

}  // namespace
}  // namespace weft::checkpoint
