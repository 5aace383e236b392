// Real processes on a real disk: killed, out of space, and saving for a long time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "checkpoint/run_folder.h"
#include "parallel/thread_communicator.h"
#include "tests/checkpoint/sample_run.h"
#include "tests/support/test_data.h"

namespace weft::checkpoint {
namespace {

using test::save_sample;
using test::small_tensors;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The local disk, on which this process kills itself in the middle of a call that changes
// something.
class DyingFileSystem : public FileSystem {
 public:
  explicit DyingFileSystem(int64_t call) : left_(call) {}

  std::unique_ptr<File> create(const std::string& path) override {
    count();
    return std::make_unique<DyingFile>(*this, disk_.create(path));
  }
  std::unique_ptr<File> open(const std::string& path) override { return disk_.open(path); }
  bool exists(const std::string& path) override { return disk_.exists(path); }
  std::vector<std::string> list(const std::string& path) override { return disk_.list(path); }
  void make_folder(const std::string& path) override { count(), disk_.make_folder(path); }
  void rename(const std::string& from, const std::string& to) override {
    count(), disk_.rename(from, to);
  }
  void remove(const std::string& path) override { count(), disk_.remove(path); }
  void sync_folder(const std::string& path) override { count(), disk_.sync_folder(path); }
  int64_t free_bytes(const std::string& path) override { return disk_.free_bytes(path); }
  std::unique_ptr<FileLock> lock(const std::string& path, const std::string& owner,
                                 std::string* holder) override {
    return disk_.lock(path, owner, holder);
  }

 private:
  class DyingFile : public File {
   public:
    DyingFile(DyingFileSystem& files, std::unique_ptr<File> file)
        : files_(files), file_(std::move(file)) {}
    void write_at(const void* data, size_t bytes, int64_t offset) override {
      if (files_.left_ == 0) file_->write_at(data, bytes / 2, offset);
      files_.count();
      file_->write_at(data, bytes, offset);
    }
    void read_at(void* data, size_t bytes, int64_t offset) override {
      file_->read_at(data, bytes, offset);
    }
    void reserve(int64_t bytes) override { files_.count(), file_->reserve(bytes); }
    int64_t size() override { return file_->size(); }
    void sync() override { files_.count(), file_->sync(); }

   private:
    DyingFileSystem& files_;
    std::unique_ptr<File> file_;
  };

  void count() {
    if (left_-- == 0) ::raise(SIGKILL);
  }

  FileSystem& disk_ = local_file_system();
  std::atomic<int64_t> left_;
};

int64_t whole_step(const std::string& root) {
  const auto checkpoint = open_latest(local_file_system(), root);
  EXPECT_THAT(checkpoint->verify(), IsEmpty());
  test::expect_sample(*checkpoint, small_tensors(), 0, 1);
  return checkpoint->step();
}

// Runs `body` in a child process; returns its status.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

class KilledAtEveryCall : public ::testing::TestWithParam<int> {};

TEST_P(KilledAtEveryCall, ASaveLeavesTheOldOrTheNewCheckpoint) {
  const int keep = GetParam();
  const weft::test::TempDir temp;
  const std::string root = temp.path();
  save_sample(local_file_system(), root, 1, 2);
  int64_t last = 1, calls = 0, old_ones = 0, new_ones = 0;
  for (bool killed = true; killed; ++calls) {
    const int64_t step = last + 1;
    const int status = in_child([&] {
      DyingFileSystem files(calls);
      save_sample(files, root, step, 2);
      prune_checkpoints(files, root, step, {.keep = keep, .pinned = {}});
      return 0;
    });
    killed = WIFSIGNALED(status);
    const int64_t found = whole_step(root);
    ASSERT_TRUE(found == last || found == step) << "call " << calls << ": step " << found;
    (found == last ? old_ones : new_ones)++;
    last = found;
    remove_stale(local_file_system(), root);
  }
  EXPECT_GT(old_ones, 20);
  EXPECT_GT(new_ones, 2);
}

INSTANTIATE_TEST_SUITE_P(Keep, KilledAtEveryCall, ::testing::Values(1, 2));

// What a save in a child process says when it fails, through a file.
std::string message_of_failed_save(const std::string& root, const std::string& report,
                                   const std::function<void()>& prepare) {
  in_child([&] {
    prepare();
    try {
      save_sample(local_file_system(), root, 2, 2, test::sample_tensors());
    } catch (const Error& error) {
      std::ofstream(report) << error.exit_code() << " " << error.what();
    }
    return 0;
  });
  std::ifstream in(report);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(DiskFull, AFileSizeLimitIsReportedAndTheOldCheckpointStays) {
  const weft::test::TempDir temp;
  save_sample(local_file_system(), temp.path(), 1, 1);
  // Far below what a rank writes; and so little below that only the file's structure does not fit.
  for (const rlim_t bytes : {rlim_t{1} << 20, rlim_t{3'200'000}}) {
    const std::string message = message_of_failed_save(temp.path(), temp.file("report"), [&] {
      ::signal(SIGXFSZ, SIG_IGN);  // as launch/ does
      const rlimit limit{bytes, bytes};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    });
    EXPECT_THAT(message, HasSubstr("74 [checkpoint] step 2 was not saved: rank 0: "));
    EXPECT_THAT(message, HasSubstr("ulimit -f"));
    EXPECT_EQ(whole_step(temp.path()), 1);
    EXPECT_FALSE(std::filesystem::exists(temp.file("step_000002.tmp")));
  }
}

TEST(DiskFull, OnASmallRealDiskTheOldCheckpointStaysAndSpaceHelps) {
  const weft::test::TempDir temp;
  const std::string disk = temp.path();
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=6m") != 0)
    GTEST_SKIP() << "no permission to mount a small disk";
  save_sample(local_file_system(), disk, 1, 1);
  // Free space is there when the save begins; somebody else takes it meanwhile.
  std::string message;
  parallel::run_ranks(2, [&](parallel::Communicator& comm) {
    struct Optimist : DyingFileSystem {
      Optimist() : DyingFileSystem(-1) {}
      int64_t free_bytes(const std::string&) override { return int64_t{1} << 40; }
    } files;
    try {
      save_checkpoint(comm, files, disk,
                      test::sample_pieces(test::sample_tensors(), 2, comm.rank(), 2),
                      test::sample_info(2));
    } catch (const Error& error) {
      if (comm.rank() == 1) message = error.what();
    }
  });
  EXPECT_THAT(message, HasSubstr("No space left on device; free space on that disk"));
  EXPECT_EQ(whole_step(disk), 1);
  EXPECT_FALSE(std::filesystem::exists(disk + "/step_000002.tmp"));
  EXPECT_NO_THROW(save_sample(local_file_system(), disk, 2, 2));
  EXPECT_EQ(whole_step(disk), 2);
  ::umount(disk.c_str());
}

int64_t open_files() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return std::distance(begin(files), end(files));
}

int64_t resident_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmRSS:", 0) == 0) return std::stoll(line.substr(6));
  return 0;
}

TEST(ManySaves, LeakNothingAndAReaderAlwaysFindsAWholeCheckpoint) {
  const weft::test::TempDir temp;
  const std::string root = temp.path();
  FileSystem& files = local_file_system();
  save_sample(files, root, 1, 2);
  std::atomic<bool> stop = false;
  std::atomic<int64_t> reads = 0, latest_reads = 0;
  std::thread reader([&] {
    for (int64_t newest = 0; !stop; ++reads) {
      const int64_t step = whole_step(root);
      EXPECT_GE(step, newest);
      newest = step;
      const std::string latest = read_text(files, join(root, "LATEST"), 100);
      // The folder that LATEST names is whole, unless it was pruned since.
      const int64_t named = step_of_folder_name(latest.substr(0, latest.size() - 1));
      EXPECT_GE(named, 1) << latest;
      ++latest_reads;
    }
  });
  int64_t files_before = 0, kib_before = 0;
  for (int64_t step = 2; step <= 201; ++step) {
    save_sample(files, root, step, 2);
    prune_checkpoints(files, root, step, {.keep = 2, .pinned = {}});
    EXPECT_THAT(checkpoint_steps(files, root), ::testing::ElementsAre(step, step - 1));
    if (step == 30) files_before = open_files(), kib_before = resident_kib();
  }
  stop = true;
  reader.join();
  EXPECT_LE(open_files(), files_before + 8);  // the reader's, which come and go
#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory for a while, and finds leaks by itself
  EXPECT_LT(resident_kib(), kib_before + 8 * 1024);
#endif
  EXPECT_GT(reads, 10);
}

}  // namespace
}  // namespace weft::checkpoint
