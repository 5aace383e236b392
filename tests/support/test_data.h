// Where tests find data that is not part of the project.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace weft::test {

// A folder that a test may fill; removed when the object goes.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "weft-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// The folder of real data: WEFT_TEST_DATA, else ../shared/data beside the checkout. Empty if
// absent.
inline std::string shared_data() {
  const char* dir = std::getenv("WEFT_TEST_DATA");
  std::string path = dir ? dir : std::string(WEFT_SOURCE_DIR) + "/../shared/data";
  return std::filesystem::is_directory(path) ? path : "";
}

// Fixtures that a committed script made: tests/fixtures/NAME.
inline std::string fixture(const std::string& name) {
  return std::string(WEFT_SOURCE_DIR) + "/tests/fixtures/" + name;
}

}  // namespace weft::test

#define SKIP_WITHOUT_SHARED_DATA()         \
  if (::weft::test::shared_data().empty()) \
  GTEST_SKIP()                             \
      << "no data: set WEFT_TEST_DATA to a folder laid out as described in docs/development.md"
