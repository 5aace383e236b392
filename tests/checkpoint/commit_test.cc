#include "checkpoint/commit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "checkpoint/run_folder.h"
#include "parallel/thread_communicator.h"
#include "tests/checkpoint/lying_file_system.h"
#include "tests/checkpoint/sample_run.h"

namespace weft::checkpoint {
namespace {

using test::Crash;
using test::LyingFileSystem;
using test::sample_info;
using test::sample_pieces;
using test::save_sample;
using test::small_tensors;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Survives = LyingFileSystem::Survives;

constexpr int kRanks = 2;

// Saves and prunes as a run does, on two ranks. True: no rank saw an error.
bool save_step(FileSystem& files, int64_t step, int keep, std::string* message = nullptr) {
  try {
    parallel::run_ranks(kRanks, [&](parallel::Communicator& comm) {
      save_checkpoint(comm, files, "/run",
                      sample_pieces(small_tensors(), step, comm.rank(), kRanks), sample_info(step));
      if (comm.rank() == 0) prune_checkpoints(files, "/run", step, {.keep = keep, .pinned = {}});
    });
  } catch (const Error& error) {
    if (message) *message = error.what();
    return false;
  } catch (const Crash&) {
    return false;
  }
  return true;
}

std::unique_ptr<LyingFileSystem> run_with_step(int64_t step, int keep) {
  auto files = std::make_unique<LyingFileSystem>();
  files->make_folder("/run");
  files->sync_folder("/");
  EXPECT_TRUE(save_step(*files, step, keep));
  return files;
}

// The step of the newest whole checkpoint; every byte of it is that step's.
int64_t whole_step(LyingFileSystem& files) {
  const auto checkpoint = open_latest(files, "/run");
  EXPECT_THAT(checkpoint->verify(), IsEmpty());
  test::expect_sample(*checkpoint, small_tensors(), 0, 1);
  return checkpoint->step();
}

struct CrashCase {
  const char* name;
  Survives survives;
  int keep;
};

class CrashAtEveryCall : public ::testing::TestWithParam<CrashCase> {};

TEST_P(CrashAtEveryCall, LeavesTheOldOrTheNewCheckpointWhole) {
  const auto [name, survives, keep] = GetParam();
  int64_t call = 0, old_ones = 0, new_ones = 0;
  for (bool fired = true; fired; ++call) {
    for (uint32_t seed = 0; seed < (survives == Survives::synced_and_luck ? 3u : 1u); ++seed) {
      const auto files = run_with_step(1, keep);
      files->arm({.call = call, .error_number = 0, .path_part = ""});
      save_step(*files, 2, keep);
      fired = files->fired();
      if (!fired) break;
      files->restart(survives, seed);
      const int64_t step = whole_step(*files);
      ASSERT_TRUE(step == 1 || step == 2) << "call " << call;
      (step == 1 ? old_ones : new_ones)++;
      remove_stale(*files, "/run");
      ASSERT_TRUE(save_step(*files, 2, keep)) << "call " << call;
      ASSERT_EQ(whole_step(*files), 2) << "call " << call;
      ASSERT_EQ(read_text(*files, "/run/LATEST", 100), "step_000002\n");
    }
  }
  EXPECT_GT(call, 25);
  EXPECT_GT(old_ones, 20);
  EXPECT_GT(new_ones, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Disk, CrashAtEveryCall,
    ::testing::Values(CrashCase{"Killed", Survives::everything, 2},
                      CrashCase{"PowerLost", Survives::synced_only, 2},
                      CrashCase{"PowerLostWithLuck", Survives::synced_and_luck, 2},
                      CrashCase{"KilledKeepingOne", Survives::everything, 1},
                      CrashCase{"PowerLostKeepingOne", Survives::synced_only, 1},
                      CrashCase{"PowerLostWithLuckKeepingOne", Survives::synced_and_luck, 1}),
    [](const auto& info) { return std::string(info.param.name); });

class FailureAtEveryCall : public ::testing::TestWithParam<int> {};

TEST_P(FailureAtEveryCall, IsReportedOnAllRanksAndTheNextSaveWorks) {
  const int error_number = GetParam();
  int64_t call = 0, reported = 0;
  for (bool fired = true; fired; ++call) {
    const auto files = run_with_step(1, 2);
    files->arm({.call = call, .error_number = error_number, .path_part = ""});
    std::string message;
    const bool good = save_step(*files, 2, 2, &message);
    fired = files->fired();
    if (!fired) break;
    files->disarm();
    if (!good) {
      ++reported;
      EXPECT_THAT(message, HasSubstr(advice_for(error_number))) << "call " << call;
    }
    const int64_t step = whole_step(*files);
    ASSERT_TRUE(step == 1 || step == 2);
    if (good) ASSERT_EQ(step, 2);
    for (const std::string& left : files->list("/run"))
      EXPECT_NE(left, "step_000002.tmp") << "call " << call;
    ASSERT_TRUE(save_step(*files, 3, 2));
    ASSERT_EQ(whole_step(*files), 3);
  }
  EXPECT_GT(reported, 20);
}

INSTANTIATE_TEST_SUITE_P(Errno, FailureAtEveryCall, ::testing::Values(ENOSPC, EIO, EDQUOT, EROFS));

TEST(Commit, OneRankOutOfDiskIsNamedOnEveryRankAndTheOldCheckpointStays) {
  const auto files = run_with_step(1, 2);
  for (int64_t call = 0; call < 6; ++call) {
    files->arm({.call = call, .error_number = ENOSPC, .path_part = "rank_00001.h5"});
    std::array<std::string, 4> messages;
    parallel::run_ranks(4, [&](parallel::Communicator& comm) {
      try {
        save_checkpoint(comm, *files, "/run", sample_pieces(small_tensors(), 2, comm.rank(), 4),
                        sample_info(2));
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::io);
        messages[static_cast<size_t>(comm.rank())] = error.what();
      }
      // The ranks are still together: they can go on training, and save again later.
      comm.barrier();
    });
    for (const std::string& message : messages) {
      EXPECT_THAT(message, HasSubstr("step 2 was not saved: rank 1: "));
      EXPECT_THAT(message, HasSubstr("No space left on device; free space on that disk"));
    }
    EXPECT_THAT(files->list("/run"), ElementsAre("LATEST", "step_000001"));
    EXPECT_EQ(whole_step(*files), 1);
  }
}

TEST(Commit, TooLittleFreeSpaceIsRefusedBeforeAnythingIsWritten) {
  const auto files = run_with_step(1, 2);
  files->set_free_bytes(1000);
  std::string message;
  EXPECT_FALSE(save_step(*files, 2, 2, &message));
  EXPECT_THAT(message, HasSubstr("step 2 was not saved: it needs 0.3 MB and the disk of /run has"));
  EXPECT_THAT(files->list("/run"), ElementsAre("LATEST", "step_000001"));
}

TEST(Commit, KeepsTheNewestAndThePinnedOnes) {
  LyingFileSystem files;
  files.make_folder("/run");
  for (int64_t step : {10, 20, 30, 40, 50}) {
    save_sample(files, "/run", step, 1);
    prune_checkpoints(files, "/run", step, {.keep = 2, .pinned = {20}});
  }
  EXPECT_THAT(checkpoint_steps(files, "/run"), ElementsAre(50, 40, 20));
  prune_checkpoints(files, "/run", 50, {.keep = 0, .pinned = {}});  // the newest always stays
  EXPECT_THAT(checkpoint_steps(files, "/run"), ElementsAre(50));
  prune_checkpoints(files, "/run", 40, {.keep = 1, .pinned = {}});  // newer ones are not its matter
  EXPECT_THAT(checkpoint_steps(files, "/run"), ElementsAre(50));
}

TEST(Commit, PruningThatFailsLosesNothingElse) {
  LyingFileSystem files;
  files.make_folder("/run");
  for (int64_t step : {1, 2, 3}) save_sample(files, "/run", step, 1);
  files.arm({.call = 0, .error_number = EIO, .path_part = "step_000001"});
  EXPECT_NO_THROW(prune_checkpoints(files, "/run", 3, {.keep = 1, .pinned = {}}));
  files.disarm();
  prune_checkpoints(files, "/run", 3, {.keep = 1, .pinned = {}});
  EXPECT_THAT(checkpoint_steps(files, "/run"), ElementsAre(3));
}

TEST(Commit, AStepThatIsThereAndWholeIsLeftAlone) {
  const auto files = run_with_step(1, 2);
  parallel::run_ranks(kRanks, [&](parallel::Communicator& comm) {
    EXPECT_EQ(
        save_checkpoint(comm, *files, "/run",
                        sample_pieces(small_tensors(), 1, comm.rank(), kRanks), sample_info(1)),
        SaveOutcome::already_there);
  });
  EXPECT_THAT(files->list("/run"), ElementsAre("LATEST", "step_000001"));
}

TEST(Commit, AStepThatIsThereAndDamagedIsMovedAside) {
  const auto files = run_with_step(1, 2);
  for (const char* aside : {"step_000001.bad", "step_000001.bad2"}) {
    files->bytes_of("/run/step_000001/rank_00001.h5").back() ^= 1;
    EXPECT_TRUE(save_step(*files, 1, 2));
    EXPECT_EQ(whole_step(*files), 1);
    EXPECT_TRUE(files->exists(std::string("/run/") + aside));
  }
}

TEST(Commit, AStepOfAnotherConfigIsMovedAsideAndNotTakenForThis) {
  const auto files = run_with_step(1, 2);
  parallel::run_ranks(1, [&](parallel::Communicator& comm) {
    SaveInfo info = sample_info(1);
    info.config = Json(Json::Object{{"train.lr", 2e-4}});
    EXPECT_EQ(save_checkpoint(comm, *files, "/run", sample_pieces(small_tensors(), 1, 0, 1), info),
              SaveOutcome::committed);
  });
  EXPECT_THAT(files->list("/run"), ElementsAre("LATEST", "step_000001", "step_000001.bad"));
  EXPECT_EQ(whole_step(*files), 1);
}

}  // namespace
}  // namespace weft::checkpoint
