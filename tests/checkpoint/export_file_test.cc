#include "checkpoint/export_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>

#include "checkpoint/export_gguf.h"
#include "checkpoint/export_hf.h"
#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/model_bytes.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::read_file;
using test::TempDir;
using testing::HasSubstr;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// Files of this process cannot grow beyond `bytes`: a stand-in for a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_;
};

TEST(ExportFile, AppearsOnlyWhenCommitted) {
  const TempDir dir;
  {
    ExportFile file(dir.file("a"));
    file.write("half");
    EXPECT_FALSE(fs::exists(dir.file("a")));
  }
  EXPECT_TRUE(names_in(dir.path()).empty());
  ExportFile file(dir.file("sub/a"));
  file.write("whole");
  file.pad_to(8);
  file.commit();
  EXPECT_EQ(read_file(dir.file("sub/a")), std::string("whole\0\0\0", 8));
  EXPECT_EQ(names_in(dir.file("sub")), std::vector<std::string>{"a"});
}

TEST(ExportFile, AFullDiskLeavesTheOldFileAndNothingElse) {
  const TempDir dir;
  write_text_file(dir.file("a"), "old");
  const std::string large(10'000'000, 'x');
  const FullDisk full(1'000'000);
  EXPECT_THAT(error_of(ErrorKind::io, [&] { write_text_file(dir.file("a"), large); }),
              HasSubstr(dir.file("a")));
  EXPECT_EQ(read_file(dir.file("a")), "old");
  EXPECT_EQ(names_in(dir.path()), std::vector<std::string>{"a"});
}

TEST(ExportFile, ExportsOnAFullDiskLeaveNothing) {
  const TempDir dir;
  const test::TinyFiles model = test::tiny_files("llama");
  {
    const FullDisk full(30'000);
    error_of(ErrorKind::io, [&] { export_hf(dir.file("hf"), model.description, model.weights()); });
    error_of(ErrorKind::io,
             [&] { export_gguf(dir.file("m.gguf"), model.description, model.weights()); });
  }
  EXPECT_TRUE(names_in(dir.path()).empty());
}

TEST(ExportFile, AnUnwritablePlaceIsAnIoError) {
  const TempDir dir;
  write_text_file(dir.file("file"), "x");
  error_of(ErrorKind::io, [&] { write_text_file(dir.file("file/below"), "x"); });
  error_of(ErrorKind::io, [&] { ExportFolder folder(dir.file("file")); });
}

TEST(ExportFolder, ReplacesAnOlderExportAtOnce) {
  const TempDir dir;
  const test::TinyFiles model = test::tiny_files("llama");
  const HfExportOptions in_shards{DType::f32, 50'000};
  export_hf(dir.file("hf"), model.description, model.weights(), in_shards);
  export_hf(dir.file("hf/"), model.description, model.weights());
  EXPECT_EQ(names_in(dir.file("hf")),
            (std::vector<std::string>{"config.json", "model.safetensors"}));
  EXPECT_EQ(names_in(dir.path()), std::vector<std::string>{"hf"});
}

TEST(ExportFolder, NeverReplacesWhatNoExportWrote) {
  const TempDir dir;
  fs::create_directories(dir.file("home/photos"));
  EXPECT_THAT(error_of(ErrorKind::io, [&] { ExportFolder folder(dir.file("home")); }),
              HasSubstr("'photos'"));
  EXPECT_TRUE(fs::exists(dir.file("home/photos")));
  fs::create_directories(dir.file("empty"));
  ExportFolder folder(dir.file("empty"));
  write_text_file(folder.file("config.json"), "{}");
  folder.commit();
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"empty", "home"}));
}

}  // namespace
}  // namespace weft::checkpoint
