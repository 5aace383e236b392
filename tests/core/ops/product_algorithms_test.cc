#include "core/ops/product_algorithms.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace weft::ops {
namespace {

const ProductLibrary kLibrary{"NVIDIA H200", "cublaslt 130100"};

ProductTable some_table() {
  return {
      {{.m = 16384,
        .n = 8192,
        .k = 2048,
        .in = DType::bf16,
        .out = DType::bf16,
        .b_transposed = true},
       {1, 2, 3, 4, 5, 6, 7, ~uint64_t{0}}},
      {{.m = 2048,
        .n = 8192,
        .k = 16384,
        .in = DType::bf16,
        .a_transposed = true,
        .sum = ProductSum::accumulate,
        .alignment = 2,
        .row_alignment = 4},
       {}},
      {{.m = 8,
        .n = 8,
        .k = 8,
        .in = DType::f16,
        .out = DType::f16,
        .sum = ProductSum::addend,
        .bias = true},
       {42}},
      {{.m = 8, .n = 8, .k = 8, .a_transposed = true, .b_transposed = true, .tf32 = true}, {7}}};
}

void expect_refused(const std::string& text, const std::string& what) {
  try {
    parse_product_text(text, "a/file.txt");
    ADD_FAILURE() << what << " was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data) << what;
    EXPECT_NE(std::string(error.what()).find("a/file.txt"), std::string::npos) << error.what();
  }
}

TEST(ProductAlgorithms, TextIsReadBackAsItWas) {
  for (const ProductTable& table : {some_table(), ProductTable()}) {
    const ProductText read = parse_product_text(to_text(kLibrary, table), "text");
    EXPECT_EQ(read.library, kLibrary);
    EXPECT_EQ(read.table, table);
  }
}

TEST(ProductAlgorithms, TheFirstLinesSayFormatGpuAndLibrary) {
  EXPECT_TRUE(
      to_text(kLibrary, {})
          .starts_with(
              "weft product algorithms 1\ngpu NVIDIA H200\nlibrary cublaslt 130100\nchecksum "));
}

TEST(ProductAlgorithms, EveryDamageIsNoticed) {
  const std::string text = to_text(kLibrary, some_table());
  for (size_t length = 0; length < text.size(); ++length)
    expect_refused(text.substr(0, length), fmt::format("the first {} bytes", length));
  for (size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] ^= 1;
    expect_refused(changed, fmt::format("byte {} changed", i));
  }
  expect_refused(text + "x", "more text");
  expect_refused(text + text, "twice the text");
  expect_refused(std::string(1000, '\0'), "zeros");
}

TEST(ProductAlgorithms, LinesOfAnotherFormatAreRefusedThoughTheirChecksumIsRight) {
  const auto sealed = [](const std::string& lines) {
    return lines + fmt::format("checksum {:016x}\n", hash_name(lines));
  };
  const std::string head = "weft product algorithms 1\ngpu G\nlibrary L\n";
  const std::string words = " 0 1 2 3 4 5 6 ff\n";
  EXPECT_EQ(
      parse_product_text(sealed(head + "1 2 3 f32 bf16 nt none - - 16 8" + words), "x").table,
      (ProductTable{
          {{.m = 1, .n = 2, .k = 3, .out = DType::bf16, .b_transposed = true, .row_alignment = 8},
           {0, 1, 2, 3, 4, 5, 6, 255}}}));
  for (const std::string& lines :
       {std::string(), std::string("weft product algorithms 2\ngpu G\nlibrary L\n"),
        std::string("weft product algorithms 1\ngpu G\n"),
        std::string("weft product algorithms 1\ngpu\nlibrary L\n"), head + "\n", head + "1 2 3\n",
        head + "1 2 3 f32 bf16 nt none - - 16 8\n",
        head + "1 2 x f32 bf16 nt none - - 16 8" + words,
        head + "1 2 99999999999999999999 f32 bf16 nt none - - 16 8" + words,
        head + "1 2 3 f64 bf16 nt none - - 16 8" + words,
        head + "1 2 3 f32 bf16 xy none - - 16 8" + words,
        head + "1 2 3 f32 bf16 nt twice - - 16 8" + words,
        head + "1 2 3 f32 bf16 nt none + - 16 8" + words,
        head + "1  2 3 f32 bf16 nt none - - 16 8" + words,
        head + "1 2 3 f32 bf16 nt none - - 16 8 0" + words})
    expect_refused(sealed(lines), lines);
}

TEST(ProductAlgorithms, SizesAreRoundedUpToFourStepsBetweenPowersOfTwo) {
  for (int64_t size : {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 640, 2048, 14336, 16384})
    EXPECT_EQ(rounded_size(size), size);
  EXPECT_EQ(rounded_size(9), 10);
  EXPECT_EQ(rounded_size(15), 16);
  EXPECT_EQ(rounded_size(15900), 16384);
  EXPECT_EQ(rounded_size(128256), 131072);
  for (int64_t size = 1; size < 5000; ++size) {
    EXPECT_GE(rounded_size(size), size);
    EXPECT_LE(rounded_size(size), size + size / 4);
    EXPECT_EQ(rounded_size(rounded_size(size)), rounded_size(size));
  }
}

TEST(ProductAlgorithms, ATableIsFrozenOnceItIsUsed) {
  const ProductTable table = some_table();
  const auto& [kind, algorithm] = *table.begin();
  use_product_table(table);
  EXPECT_FALSE(times_products());
  EXPECT_EQ(find_product_algorithm(kind), algorithm);
  EXPECT_EQ(find_product_algorithm({.m = 1, .n = 1, .k = 1}), std::nullopt);
  const uint64_t version = product_table_version();
  use_product_table({});
  EXPECT_NE(product_table_version(), version);
  EXPECT_EQ(find_product_algorithm(kind), std::nullopt);
}

TEST(ProductAlgorithms, AfterTimingTheTableIsWhatWasMet) {
  const ProductTable known = some_table();
  const ProductKind met = known.begin()->first, added{.m = 96, .n = 1, .k = 1};
  {
    TimeProducts timing(known);
    EXPECT_TRUE(times_products());
    EXPECT_EQ(find_product_algorithm(met), known.begin()->second);
    EXPECT_EQ(find_product_algorithm(added), std::nullopt);
    keep_product_algorithm(added, {9});
    EXPECT_EQ(timing.timed(), 1);
    EXPECT_EQ(timing.met().size(), 2u);
    EXPECT_THROW(TimeProducts({}), Error);
  }
  EXPECT_FALSE(times_products());
  EXPECT_EQ(find_product_algorithm(added), ProductAlgorithm{9});
  EXPECT_EQ(find_product_algorithm(met), known.begin()->second);
  EXPECT_EQ(find_product_algorithm(std::next(known.begin())->first), std::nullopt);
  use_product_table({});
}

TEST(ProductAlgorithms, AProcessorHasNone) {
  EXPECT_THROW(product_library({}), Error);
}

}  // namespace
}  // namespace weft::ops
