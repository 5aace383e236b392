#include "recipes/product_algorithms.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/base/error.h"

namespace weft::recipes {
namespace {

namespace fs = std::filesystem;

class ProductFile : public testing::Test {
 protected:
  ProductFile()
      : folder_(fs::path(testing::TempDir()) /
                ("weft_products_" +
                 std::to_string(testing::UnitTest::GetInstance()->random_seed()) +
                 testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(folder_);
  }
  ~ProductFile() override { fs::remove_all(folder_); }

  std::string path() const { return (folder_ / "weft" / "products.txt").string(); }
  void overwrite(const std::string& text) const { std::ofstream(path(), std::ios::trunc) << text; }
  // What a person sees, and what is read.
  ops::ProductTable read(std::string* log = nullptr) const {
    testing::internal::CaptureStderr();
    ops::ProductTable table = read_product_file(path(), kLibrary);
    const std::string said = testing::internal::GetCapturedStderr();
    if (log) *log = said;
    return table;
  }

  const ops::ProductLibrary kLibrary{"NVIDIA H200", "cublaslt 130100"};
  const ops::ProductTable kTable{{{.m = 8, .n = 4, .k = 2}, {1, 2, 3}},
                                 {{.m = 16, .n = 4, .k = 2}, {4}}};
  fs::path folder_;
};

TEST_F(ProductFile, IsReadAsItWasWrittenAndItsFolderIsMade) {
  write_product_file(path(), kLibrary, kTable);
  EXPECT_EQ(read(), kTable);
  write_product_file(path(), kLibrary, {});
  EXPECT_EQ(read(), ops::ProductTable());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "weft"), fs::directory_iterator()), 1)
      << "nothing temporary is left";
}

TEST_F(ProductFile, ThatIsNotThereIsEmptyWithoutAWord) {
  std::string log;
  EXPECT_EQ(read(&log), ops::ProductTable());
  EXPECT_EQ(log, "");
}

TEST_F(ProductFile, ThatIsDamagedIsNamedInOneWarningAndCanBeMadeAnew) {
  for (const std::string& damaged :
       {std::string(), std::string("nonsense"), std::string("\0\xff\n", 3),
        to_text(kLibrary, kTable).substr(0, 100)}) {
    write_product_file(path(), kLibrary, kTable);
    overwrite(damaged);
    std::string log;
    EXPECT_EQ(read(&log), ops::ProductTable());
    EXPECT_NE(log.find(path()), std::string::npos) << log;
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  }
  write_product_file(path(), kLibrary, kTable);
  EXPECT_EQ(read(), kTable);
}

TEST_F(ProductFile, OfAnotherGpuOrLibraryIsNotUsed) {
  for (const ops::ProductLibrary& other : {ops::ProductLibrary{"NVIDIA H100", kLibrary.library},
                                           ops::ProductLibrary{kLibrary.gpu, "cublaslt 1"}}) {
    write_product_file(path(), other, kTable);
    std::string log;
    EXPECT_EQ(read(&log), ops::ProductTable());
    EXPECT_NE(log.find(path()), std::string::npos) << log;
  }
}

TEST_F(ProductFile, InAFolderThatCannotBeMadeIsAnIoError) {
  fs::create_directories(folder_);
  std::ofstream(folder_ / "weft") << "a file";
  EXPECT_THROW(write_product_file(path(), kLibrary, kTable), Error);
  EXPECT_EQ(read(), ops::ProductTable());
}

TEST_F(ProductFile, OfTheCacheHasTheNamesOfGpuAndLibrary) {
  EXPECT_EQ(product_cache_name(kLibrary), "products-NVIDIA-H200-cublaslt-130100.txt");
  EXPECT_EQ(product_cache_name({"a/../b", "c"}), "products-a----b-c.txt");
}

}  // namespace
}  // namespace weft::recipes
