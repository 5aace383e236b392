#include "checkpoint/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "parallel/thread_communicator.h"
#include "tests/checkpoint/lying_file_system.h"
#include "tests/checkpoint/sample_run.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::checkpoint {
namespace {

using test::LyingFileSystem;
using test::sample_info;
using test::sample_pieces;
using test::save_sample;
using test::small_tensors;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using weft::test::error_of;

TEST(RunFolder, IsMadeAndResumesFromNothing) {
  const weft::test::TempDir temp;
  parallel::run_ranks(3, [&](parallel::Communicator& comm) {
    RunFolder folder(comm, local_file_system(), temp.file("a/b/run"));
    EXPECT_EQ(folder.resume([](const NativeCheckpoint&) { FAIL(); }), std::nullopt);
    EXPECT_THAT(local_file_system().list(folder.path()), ElementsAre("run.lock"));
  });
}

TEST(RunFolder, SavesPrunesAndResumesOnAnotherNumberOfRanks) {
  const weft::test::TempDir temp;
  const std::string path = temp.file("run");
  for (int ranks : {2, 3, 1}) {
    parallel::run_ranks(ranks, [&](parallel::Communicator& comm) {
      RunFolder folder(comm, local_file_system(), path);
      const int64_t from =
          folder
              .resume([&](const NativeCheckpoint& checkpoint) {
                test::expect_sample(checkpoint, small_tensors(), comm.rank(), ranks);
              })
              .value_or(0);
      for (int64_t step = from + 1; step <= from + 3; ++step)
        folder.save(sample_pieces(small_tensors(), step, comm.rank(), ranks), sample_info(step),
                    {.keep = 2, .pinned = {2}});
    });
  }
  EXPECT_THAT(checkpoint_steps(local_file_system(), path), ElementsAre(9, 8, 2));
}

TEST(RunFolder, ASecondRunIsRefusedAndToldWhoHoldsIt) {
  const weft::test::TempDir temp;
  parallel::run_ranks(2, [&](parallel::Communicator& comm) {
    RunFolder folder(comm, local_file_system(), temp.path());
    const std::string error = error_of(
        ErrorKind::unavailable, [&] { RunFolder second(comm, local_file_system(), temp.path()); });
    EXPECT_THAT(error, HasSubstr("process " + std::to_string(::getpid()) + " on "));
    comm.barrier();
  });
}

TEST(RunFolder, ARunThatWasKilledHoldsNothing) {
  const weft::test::TempDir temp;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::string holder;
    const auto lock = local_file_system().lock(temp.file("run.lock"), "a child", &holder);
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  parallel::run_ranks(1, [&](parallel::Communicator& comm) {
    EXPECT_NO_THROW(RunFolder(comm, local_file_system(), temp.path()));
  });
}

TEST(RunFolder, WhatAnInterruptedSaveLeftIsRemoved) {
  const weft::test::TempDir temp;
  FileSystem& files = local_file_system();
  files.make_folder(temp.file("step_000007.tmp"));
  files.create(temp.file("step_000007.tmp/rank_00000.h5"));
  files.create(temp.file("LATEST.tmp"));
  files.create(temp.file("notes.tmp"));
  files.make_folder(temp.file("step_000006.bad"));
  parallel::run_ranks(1,
                      [&](parallel::Communicator& comm) { RunFolder(comm, files, temp.path()); });
  EXPECT_THAT(files.list(temp.path()), ElementsAre("notes.tmp", "run.lock", "step_000006.bad"));
}

TEST(SlowRunFolder, RanksThatSeeAnotherFolderAreNamed) {
  LyingFileSystem shared, other;
  other.make_folder("/run");
  parallel::run_ranks(4, [&](parallel::Communicator& comm) {
    FileSystem& mine = comm.rank() == 1 || comm.rank() == 3 ? other : shared;
    const std::string error =
        error_of(ErrorKind::unavailable, [&] { RunFolder folder(comm, mine, "/run"); });
    EXPECT_THAT(error, HasSubstr("/run must be one folder that all ranks see"));
    EXPECT_THAT(error, HasSubstr("rank 1: host "));
    EXPECT_THAT(error, HasSubstr("rank 3: host "));
    EXPECT_THAT(error, ::testing::Not(HasSubstr("rank 2: ")));
  });
}

TEST(RunFolder, AFolderThatCannotBeMadeIsReportedOnAllRanks) {
  LyingFileSystem files;
  files.arm({.call = 0, .error_number = EROFS, .path_part = "/run"});
  std::atomic<int> reports = 0;
  parallel::run_ranks(3, [&](parallel::Communicator& comm) {
    const std::string error =
        error_of(ErrorKind::io, [&] { RunFolder folder(comm, files, "/run"); });
    EXPECT_THAT(error, HasSubstr("read-only"));
    ++reports;
  });
  EXPECT_EQ(reports, 3);
}

TEST(RunFolder, TooSmallADiskIsRefusedAtTheStart) {
  LyingFileSystem files;
  files.set_free_bytes(5'000'000);
  parallel::run_ranks(2, [&](parallel::Communicator& comm) {
    RunFolder folder(comm, files, "/run");
    EXPECT_NO_THROW(folder.require_free_space(4'000'000));
    const std::string error =
        error_of(ErrorKind::io, [&] { folder.require_free_space(6'000'000); });
    EXPECT_THAT(error, HasSubstr("has 5.0 MB free and the run's checkpoints need 6.0 MB"));
  });
}

TEST(RunFolder, AChangedConfigStopsTheResumeWithBothValuesOnEveryRank) {
  LyingFileSystem files;
  files.make_folder("/run");
  save_sample(files, "/run", 1, 1);
  save_sample(files, "/run", 2, 1);
  const ConfigDiff diff = [](const Json& saved, const Json& now) {
    std::vector<std::string> lines;
    if (!(saved == now)) lines.push_back("train.lr: " + now.dump() + " was " + saved.dump());
    return lines;
  };
  parallel::run_ranks(2, [&](parallel::Communicator& comm) {
    RunFolder folder(comm, files, "/run");
    const Json now(Json::Object{{"train.lr", 1e-3}});
    const std::string error = error_of(ErrorKind::usage, [&] {
      folder.resume([&](const NativeCheckpoint& saved) { require_same_config(saved, now, diff); });
    });
    EXPECT_THAT(error, HasSubstr("train.lr: {\"train.lr\": 0.001} was"));
    EXPECT_EQ(folder.resume([&](const NativeCheckpoint& saved) {
      require_same_config(saved, sample_info(2).config, diff);
    }),
              2);
  });
}

TEST(OpenLatest, TakesARunOrACheckpointAndSaysWhenThereIsNone) {
  LyingFileSystem files;
  files.make_folder("/run");
  error_of(ErrorKind::no_input, [&] { open_latest(files, "/run"); });
  error_of(ErrorKind::no_input, [&] { open_latest(files, "/nowhere"); });
  save_sample(files, "/run", 1, 1);
  save_sample(files, "/run", 2, 1);
  EXPECT_EQ(open_latest(files, "/run")->step(), 2);
  EXPECT_EQ(open_latest(files, "/run/step_000001")->step(), 1);
}

TEST(StepFolders, HaveNamesThatAreReadBack) {
  for (int64_t step : {int64_t{0}, int64_t{500}, int64_t{999999}, int64_t{12345678}})
    EXPECT_EQ(step_of_folder_name(folder_name_of_step(step)), step);
  for (const char* name : {"step_500", "step_", "step_-00001", "step_000500.tmp", "step_000500.bad",
                           "step_0000500", "xstep_000500", "step_00050x"})
    EXPECT_EQ(step_of_folder_name(name), -1) << name;
}

}  // namespace
}  // namespace weft::checkpoint
