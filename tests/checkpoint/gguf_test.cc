#include "checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_weights.h"
#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/model_bytes.h"
#include "tests/support/test_data.h"

namespace weft::checkpoint {
namespace {

using test::bytes_of;
using test::error_of;
using test::GgufBytes;
using test::TempDir;
using testing::HasSubstr;

class Gguf : public testing::Test {
 protected:
  std::shared_ptr<GgufFile> open(const std::string& bytes) {
    test::write_file(path_, bytes);
    return std::make_shared<GgufFile>(path_);
  }
  std::string error(const GgufBytes& gguf) { return error_of_bytes(gguf.bytes()); }
  std::string error_of_bytes(const std::string& bytes) {
    const std::string what = error_of(ErrorKind::bad_data, [&] { open(bytes); });
    EXPECT_THAT(what, HasSubstr(path_));
    return what;
  }
  // One F32 tensor of 8 elements and one of 4, each padded to 32 bytes.
  static GgufBytes two_tensors() {
    GgufBytes gguf;
    gguf.keys = {GgufBytes::string("general.architecture", "qwen2")};
    gguf.tensors = {GgufBytes::tensor("a", {4, 2}, 0, 0), GgufBytes::tensor("b", {4}, 0, 32)};
    gguf.data = bytes_of(std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    return gguf;
  }

  TempDir dir_;
  const std::string path_ = dir_.file("model.gguf");
};

TEST_F(Gguf, ReadsValuesOfEveryType) {
  GgufBytes gguf;
  gguf.keys = {
      GgufBytes::key("u8", 0, bytes_of<uint8_t>(200)),
      GgufBytes::key("i8", 1, bytes_of<int8_t>(-3)),
      GgufBytes::key("u16", 2, bytes_of<uint16_t>(60000)),
      GgufBytes::key("i16", 3, bytes_of<int16_t>(-300)),
      GgufBytes::u32("u32", 4000000000u),
      GgufBytes::key("i32", 5, bytes_of<int32_t>(-5)),
      GgufBytes::f32("f32", 0.5f),
      GgufBytes::key("bool", 7, bytes_of<uint8_t>(1)),
      GgufBytes::string("text", "hello"),
      GgufBytes::key("u64", 10, bytes_of<uint64_t>(1)),
      GgufBytes::key("i64", 11, bytes_of<int64_t>(-1)),
      GgufBytes::key("f64", 12, bytes_of(0.25)),
      GgufBytes::key("texts", 9,
                     bytes_of<uint32_t>(8) + bytes_of<uint64_t>(2) + GgufBytes::text("a") +
                         GgufBytes::text("")),
      GgufBytes::key("ints", 9,
                     bytes_of<uint32_t>(1) + bytes_of<uint64_t>(2) + bytes_of<int8_t>(-1) +
                         bytes_of<int8_t>(7)),
      GgufBytes::key("floats", 9, bytes_of<uint32_t>(6) + bytes_of<uint64_t>(1) + bytes_of(1.5f)),
  };
  const auto file = open(gguf.bytes());
  const GgufMetadata& metadata = file->metadata();
  EXPECT_EQ(metadata.integer("u8"), 200);
  EXPECT_EQ(metadata.integer("i8"), -3);
  EXPECT_EQ(metadata.integer("u16"), 60000);
  EXPECT_EQ(metadata.integer("i16"), -300);
  EXPECT_EQ(metadata.integer("u32"), 4000000000);
  EXPECT_EQ(metadata.integer("i32"), -5);
  EXPECT_EQ(metadata.number("f32"), 0.5);
  EXPECT_TRUE(metadata.boolean_or("bool", false));
  EXPECT_EQ(metadata.text("text"), "hello");
  EXPECT_EQ(metadata.integer("i64"), -1);
  EXPECT_EQ(metadata.number("f64"), 0.25);
  EXPECT_EQ(std::get<GgufValue::Strings>(metadata.find("texts")->value),
            (GgufValue::Strings{"a", ""}));
  EXPECT_EQ(std::get<GgufValue::Integers>(metadata.find("ints")->value),
            (GgufValue::Integers{-1, 7}));
  EXPECT_EQ(std::get<GgufValue::Floats>(metadata.find("floats")->value), GgufValue::Floats{1.5});
  EXPECT_EQ(metadata.find("absent"), nullptr);
  EXPECT_THAT(error_of(ErrorKind::bad_data, [&] { metadata.integer("text"); }),
              HasSubstr("'text' is not an integer"));
  EXPECT_THAT(error_of(ErrorKind::bad_data, [&] { metadata.text("absent"); }),
              HasSubstr("'absent' is missing"));
}

TEST_F(Gguf, GivesTensorsInTheShapeOfHuggingFace) {
  const auto file = open(two_tensors().bytes());
  EXPECT_EQ(file->find("a")->shape, (Shape{2, 4}));
  EXPECT_EQ(file->find("b")->shape, (Shape{4}));
  const GgufWeights weights(file);
  EXPECT_EQ(weights.read_all("b", DType::f32).data<float>()[3], 11);
}

TEST_F(Gguf, RefusesABrokenPreamble) {
  EXPECT_THAT(error_of_bytes(""), HasSubstr("too few"));
  EXPECT_THAT(error_of_bytes("GGUF"), HasSubstr("too few"));
  GgufBytes gguf = two_tensors();
  gguf.magic = "GGML";
  EXPECT_THAT(error(gguf), HasSubstr("'GGUF'"));
  gguf = two_tensors(), gguf.version = 1;
  EXPECT_THAT(error(gguf), HasSubstr("version 1"));
  gguf.version = 4;
  EXPECT_THAT(error(gguf), HasSubstr("version 4"));
  gguf.version = 0x03000000;
  EXPECT_THAT(error(gguf), HasSubstr("big-endian"));
  gguf = two_tensors(), gguf.claim_keys = INT64_MAX;
  EXPECT_THAT(error(gguf), HasSubstr("keys"));
  gguf = two_tensors(), gguf.claim_tensors = INT64_MAX;
  EXPECT_THAT(error(gguf), HasSubstr("tensors"));
  gguf = two_tensors(), gguf.claim_tensors = 100'000;
  EXPECT_THAT(error(gguf), HasSubstr("tensor"));
}

TEST_F(Gguf, RefusesABrokenKeyNamingIt) {
  const auto key = [&](const std::string& bytes) {
    GgufBytes gguf = two_tensors();
    gguf.keys.push_back(bytes);
    return error(gguf);
  };
  EXPECT_THAT(key(GgufBytes::key("k", 13, "")), HasSubstr("'k': unknown value type 13"));
  EXPECT_THAT(key(GgufBytes::key("k", 7, bytes_of<uint8_t>(2))), HasSubstr("boolean"));
  EXPECT_THAT(key(GgufBytes::key("k", 8, bytes_of<uint64_t>(UINT64_MAX))), HasSubstr("claims"));
  EXPECT_THAT(key(GgufBytes::key("k", 8, bytes_of(uint64_t{1} << 40))), HasSubstr("claims"));
  EXPECT_THAT(key(GgufBytes::key("k", 10, bytes_of<uint64_t>(UINT64_MAX))), HasSubstr("too large"));
  const auto array = [&](uint32_t type, uint64_t count) {
    return key(GgufBytes::key("k", 9, bytes_of(type) + bytes_of(count)));
  };
  EXPECT_THAT(array(4, UINT64_MAX), HasSubstr("'k': claims an array"));
  EXPECT_THAT(array(4, uint64_t{1} << 62), HasSubstr("claims an array"));  // times 4 wraps to 0
  EXPECT_THAT(array(8, uint64_t{1} << 61), HasSubstr("claims an array"));
  EXPECT_THAT(array(0, uint64_t{1} << 30), HasSubstr("claims an array"));
  EXPECT_THAT(array(9, 1), HasSubstr("array of arrays"));
  EXPECT_THAT(key(bytes_of<uint64_t>(UINT64_MAX)), HasSubstr("claims a text"));
  EXPECT_THAT(key(GgufBytes::string("general.architecture", "llama")), HasSubstr("twice"));
  EXPECT_THAT(key(GgufBytes::u32("split.count", 2)), HasSubstr("split"));
}

TEST_F(Gguf, RefusesABrokenAlignment) {
  for (uint32_t alignment : {0u, 3u, 48u, 0x80000000u, 0xffffffffu}) {
    GgufBytes gguf = two_tensors();
    gguf.keys.push_back(GgufBytes::u32("general.alignment", alignment));
    EXPECT_THAT(error(gguf), HasSubstr("general.alignment"));
  }
}

TEST_F(Gguf, RefusesABrokenTensorNamingIt) {
  const auto tensor = [&](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    GgufBytes gguf = two_tensors();
    gguf.tensors[1] = GgufBytes::tensor("b", dims, type, offset);
    const std::string what = error(gguf);
    EXPECT_THAT(what, HasSubstr("'b'"));
    return what;
  };
  EXPECT_THAT(tensor({}, 0, 32), HasSubstr("0 dims"));
  EXPECT_THAT(tensor({1, 1, 1, 1, 1}, 0, 32), HasSubstr("5 dims"));
  EXPECT_THAT(tensor({4, 0}, 0, 32), HasSubstr("a dim of 0"));
  EXPECT_THAT(tensor({UINT64_MAX}, 0, 32), HasSubstr("a dim of"));
  EXPECT_THAT(tensor({uint64_t{1} << 62, 4}, 0, 32), HasSubstr("overflows"));
  EXPECT_THAT(tensor({uint64_t{1} << 62}, 0, 32), HasSubstr("overflows"));  // bytes wrap to 0
  EXPECT_THAT(tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 2, 32), HasSubstr("overflows"));
  EXPECT_THAT(tensor({4}, 4, 32), HasSubstr("unknown tensor type 4"));
  EXPECT_THAT(tensor({16}, 8, 32), HasSubstr("whole blocks"));
  EXPECT_THAT(tensor({4}, 0, 0), HasSubstr("overlap"));
  EXPECT_THAT(tensor({4}, 0, 64), HasSubstr("holes"));
  EXPECT_THAT(tensor({4}, 0, UINT64_MAX - 15), HasSubstr("holes"));
  EXPECT_THAT(tensor({5}, 0, 32), HasSubstr("truncated"));
  GgufBytes gguf = two_tensors();
  gguf.tensors[1] = GgufBytes::tensor("a", {4}, 0, 32);
  EXPECT_THAT(error(gguf), HasSubstr("twice"));
  gguf.tensors[1] = GgufBytes::tensor(std::string(65, 'n'), {4}, 0, 32);
  EXPECT_THAT(error(gguf), HasSubstr("65 bytes"));
  gguf = two_tensors(), gguf.data.clear();
  EXPECT_THAT(error(gguf), HasSubstr("truncated"));
}

TEST_F(Gguf, UnreadableTypesAreNamed) {
  GgufBytes gguf;
  gguf.keys = {GgufBytes::string("general.architecture", "llama")};
  gguf.tensors = {GgufBytes::tensor("output.weight", {256}, 14, 0)};
  gguf.data = std::string(210, '\0');
  const auto file = open(gguf.bytes());
  EXPECT_THAT(error_of(ErrorKind::bad_data, [&] { GgufWeights weights(file); }),
              HasSubstr("'output.weight' is Q6_K"));
}

TEST(GgufNames, TranslateBothWays) {
  EXPECT_EQ(hf_name_of("blk.12.attn_q.weight"), "model.layers.12.self_attn.q_proj.weight");
  EXPECT_EQ(hf_name_of("blk.0.attn_output.weight"), "model.layers.0.self_attn.o_proj.weight");
  EXPECT_EQ(hf_name_of("blk.3.ffn_norm.weight"), "model.layers.3.post_attention_layernorm.weight");
  EXPECT_EQ(hf_name_of("blk.3.attn_v.bias"), "model.layers.3.self_attn.v_proj.bias");
  EXPECT_EQ(hf_name_of("output.weight"), "lm_head.weight");
  EXPECT_EQ(gguf_name_of("model.layers.7.mlp.gate_proj.weight"), "blk.7.ffn_gate.weight");
  EXPECT_EQ(gguf_name_of("model.layers.7.self_attn.k_norm.weight"), "blk.7.attn_k_norm.weight");
  EXPECT_EQ(gguf_name_of("model.norm.weight"), "output_norm.weight");
  EXPECT_EQ(gguf_name_of("model.layers.7.mlp.experts.0.weight"), "");
  for (const char* name :
       {"blk.weight", "blk.1.weight", "blk.01.attn_q.weight", "blk.x.attn_q.weight",
        "blk.1.attn_q.scale", "blk.99999999999.attn_q.weight", "blk..", ""})
    EXPECT_EQ(hf_name_of(name), name);
}

TEST(GgufNames, RowOrdersAreInverse) {
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < 16; ++row) {
    EXPECT_EQ(hf_row_of(gguf_row_of(row, 8), 8), row);
    rows.push_back(hf_row_of(row, 8));
  }
  // numpy: arange(16).reshape(2, 2, 4).swapaxes(1, 2).ravel()
  EXPECT_EQ(rows, (std::vector<int64_t>{0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15}));
}

TEST_F(Gguf, RowsOfArchLlamaComeInTheOrderOfHuggingFace) {
  GgufBytes gguf;
  gguf.keys = {GgufBytes::string("general.architecture", "llama"),
               GgufBytes::u32("llama.attention.head_count", 2)};
  gguf.tensors = {GgufBytes::tensor("blk.0.attn_q.weight", {2, 8}, 0, 0),
                  GgufBytes::tensor("blk.0.attn_q.bias", {8}, 0, 64)};
  // Row i of the file holds the Hugging Face row numpy's swapaxes puts there.
  std::vector<float> data;
  for (float row : {0, 2, 1, 3, 4, 6, 5, 7}) data.insert(data.end(), {row, row + 0.5f});
  for (float row : {0, 2, 1, 3, 4, 6, 5, 7}) data.push_back(row);
  gguf.data = bytes_of(data);
  const GgufWeights weights(open(gguf.bytes()));
  const Tensor all = weights.read_all("model.layers.0.self_attn.q_proj.weight", DType::f32);
  const Tensor bias = weights.read_all("model.layers.0.self_attn.q_proj.bias", DType::f32);
  for (int row = 0; row < 8; ++row) {
    EXPECT_EQ(all.data<float>()[2 * row], row);
    EXPECT_EQ(all.data<float>()[2 * row + 1], row + 0.5f);
    EXPECT_EQ(bias.data<float>()[row], row);
  }
  const Tensor part = Tensor::empty({5}, DType::bf16);
  weights.read("model.layers.0.self_attn.q_proj.weight", 3, part);
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(static_cast<float>(part.data<bf16>()[i]), all.data<float>()[3 + i]);
}

TEST_F(Gguf, HeadsThatDoNotDivideTheRowsAreRefused) {
  for (uint32_t heads : {0u, 3u, 8u}) {
    GgufBytes gguf;
    gguf.keys = {GgufBytes::string("general.architecture", "llama"),
                 GgufBytes::u32("llama.attention.head_count", heads)};
    gguf.tensors = {GgufBytes::tensor("blk.0.attn_q.weight", {2, 8}, 0, 0)};
    gguf.data = std::string(64, '\0');
    const auto file = open(gguf.bytes());
    EXPECT_THAT(error_of(ErrorKind::bad_data, [&] { GgufWeights weights(file); }),
                HasSubstr("blk.0.attn_q.weight"));
  }
}

}  // namespace
}  // namespace weft::checkpoint
