// Whatever happens to the bytes of a checkpoint is noticed, named, and the checkpoint before is
// used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/run_folder.h"
#include "parallel/thread_communicator.h"
#include "tests/checkpoint/lying_file_system.h"
#include "tests/checkpoint/sample_run.h"
#include "tests/support/errors.h"

namespace weft::checkpoint {
namespace {

using test::LyingFileSystem;
using test::save_sample;
using test::small_tensors;
using ::testing::HasSubstr;
using weft::test::error_of;

const std::string kNewest = "/run/step_000002/";

class Damage : public ::testing::Test {
 protected:
  Damage() {
    files_.make_folder("/run");
    save_sample(files_, "/run", 1, 2);
    save_sample(files_, "/run", 2, 2);
  }

  std::string& bytes(const std::string& name) { return files_.bytes_of(kNewest + name); }

  // Resumes on `ranks` ranks and expects that step 1 is what all of them have loaded.
  void expect_fallback(int ranks = 2) {
    parallel::run_ranks(ranks, [&](parallel::Communicator& comm) {
      RunFolder folder(comm, files_, "/run");
      int64_t loaded = 0;
      const auto step = folder.resume([&](const NativeCheckpoint& checkpoint) {
        loaded = checkpoint.step();
        test::expect_sample(checkpoint, small_tensors(), comm.rank(), ranks);
      });
      EXPECT_EQ(step, 1);
      EXPECT_EQ(loaded, 1);
    });
  }

  // The words with which opening and verifying the newest checkpoint complains.
  std::string complaint() {
    try {
      const NativeCheckpoint checkpoint(files_, "/run/step_000002");
      const std::vector<std::string> faults = checkpoint.verify();
      return faults.empty() ? "whole" : faults.front();
    } catch (const DamagedCheckpoint& damage) {
      return damage.what();
    }
  }

  LyingFileSystem files_;
};

TEST_F(Damage, NothingIsFoundInAWholeCheckpoint) {
  EXPECT_EQ(complaint(), "whole");
}

TEST_F(Damage, AFlippedBitInEveryByteOfAFileIsFound) {
  for (const char* name : {"rank_00000.h5", "rank_00001.h5", "manifest.json"}) {
    const size_t size = bytes(name).size();
    const size_t stride =
        std::max<size_t>(1, size / 700);  // every byte of the headers, samples of the rest
    for (size_t at = 0; at < size; at += at < 3000 ? 1 : stride) {
      bytes(name)[at] ^= static_cast<char>(1 << (at % 8));
      ASSERT_THAT(complaint(), HasSubstr(kNewest + name)) << "byte " << at;
      bytes(name)[at] ^= static_cast<char>(1 << (at % 8));
    }
  }
  EXPECT_EQ(complaint(), "whole");
}

TEST_F(Damage, AFlippedByteInADatasetIsNamedWithFileDatasetAndChunk) {
  const NativeCheckpoint checkpoint(files_, "/run/step_000002");
  const PieceRecord& piece = checkpoint.manifest().files[1].pieces.back();
  bytes("rank_00001.h5")[static_cast<size_t>(piece.offset) + 5] ^= 0x40;
  EXPECT_THAT(complaint(), HasSubstr("rank_00001.h5: dataset " + piece.dataset() + ", chunk 0 of"));
  expect_fallback();
}

TEST_F(Damage, InTheSuperblockFallsBack) {
  bytes("rank_00000.h5")[3] ^= 1;
  EXPECT_THAT(complaint(), HasSubstr("rank_00000.h5: the HDF5 structure"));
  expect_fallback();
}

TEST_F(Damage, InAnAttributeFallsBack) {
  const size_t at = bytes("rank_00001.h5").find("global_shape");
  ASSERT_NE(at, std::string::npos);
  bytes("rank_00001.h5")[at + 3] ^= 1;
  expect_fallback(4);
}

TEST_F(Damage, InTheManifestFallsBack) {
  bytes("manifest.json")[bytes("manifest.json").find("0.2")] = '1';
  EXPECT_THAT(complaint(), HasSubstr("manifest.json is damaged"));
  expect_fallback(1);
}

TEST_F(Damage, InLatestIsSurvivedWithTheNewest) {
  files_.bytes_of("/run/LATEST")[6] = 'x';
  ::testing::internal::CaptureStderr();
  parallel::run_ranks(1, [&](parallel::Communicator& comm) {
    RunFolder folder(comm, files_, "/run");
    EXPECT_EQ(folder.resume([](const NativeCheckpoint&) {}), 2);
  });
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("/run/LATEST is damaged"));
}

TEST_F(Damage, TruncationByAByteABlockOrHalfIsFound) {
  for (const char* name : {"rank_00000.h5", "rank_00001.h5", "manifest.json"}) {
    const std::string good = bytes(name);
    for (size_t less : {size_t{1}, size_t{4096}, good.size() / 2, good.size()}) {
      if (less > good.size()) continue;
      bytes(name).resize(good.size() - less);
      EXPECT_THAT(complaint(), HasSubstr(kNewest + name)) << less;
      expect_fallback();
      bytes(name) = good;
    }
  }
}

TEST_F(Damage, FilesOfTwoRanksSwappedAreFound) {
  std::swap(bytes("rank_00000.h5"), bytes("rank_00001.h5"));
  EXPECT_THAT(complaint(), HasSubstr("rank_00000.h5"));
  expect_fallback();
}

TEST_F(Damage, ADeletedShardIsFound) {
  files_.remove(kNewest + "rank_00001.h5");
  EXPECT_THAT(complaint(), HasSubstr("rank_00001.h5: No such file"));
  expect_fallback();
}

TEST_F(Damage, ADeletedManifestIsFound) {
  files_.remove(kNewest + "manifest.json");
  expect_fallback();
}

TEST_F(Damage, AnUnreadableDiskBlockFallsBack) {
  files_.fail_reads_of("step_000002/rank_00001.h5");
  EXPECT_THAT(complaint(), HasSubstr("the disk reports a fault"));
  expect_fallback();
}

TEST_F(Damage, OfAllCheckpointsStopsTheRunInsteadOfStartingAgain) {
  for (const char* step : {"/run/step_000001/", "/run/step_000002/"})
    files_.bytes_of(std::string(step) + "rank_00000.h5")[0] ^= 1;
  parallel::run_ranks(2, [&](parallel::Communicator& comm) {
    RunFolder folder(comm, files_, "/run");
    const auto resume = [&] {
      folder.resume([&](const NativeCheckpoint& checkpoint) {
        test::expect_sample(checkpoint, small_tensors(), comm.rank(), 2);
      });
    };
    EXPECT_THAT(error_of(ErrorKind::bad_data, resume), HasSubstr("none of them is whole"));
  });
}

TEST_F(Damage, AfterAFallbackTheSameStepIsReachedAgain) {
  bytes("rank_00000.h5")[1] ^= 1;
  expect_fallback();
  save_sample(files_, "/run", 2, 3);
  EXPECT_EQ(complaint(), "whole");
  EXPECT_TRUE(files_.exists("/run/step_000002.bad/manifest.json"));
  EXPECT_EQ(open_latest(files_, "/run")->manifest().files.size(), 3u);
}

TEST_F(Damage, SeenByOneRankOnlySendsAllRanksBack) {
  // Rank 0 of 2 never reads the last piece of rank 1's file.
  const NativeCheckpoint checkpoint(files_, "/run/step_000002");
  const PieceRecord& piece = checkpoint.manifest().files[1].pieces.back();
  bytes("rank_00001.h5")[static_cast<size_t>(piece.offset + piece.bytes()) - 1] ^= 1;
  expect_fallback(2);
}

TEST(Manifest, FromAnotherVersionIsRefusedAndNotTakenForDamage) {
  LyingFileSystem files;
  files.make_folder("/run");
  save_sample(files, "/run", 1, 1);
  const Manifest manifest = NativeCheckpoint(files, "/run/step_000001").manifest();
  std::string text = manifest.to_text();
  text.replace(text.find("\"version\": 1"), 12, "\"version\": 2");
  files.bytes_of("/run/step_000001/manifest.json") = test::resealed(text);
  EXPECT_THAT(
      error_of(ErrorKind::unavailable, [&] { NativeCheckpoint(files, "/run/step_000001"); }),
      HasSubstr("format version 2"));
}

TEST(Manifest, ThatIsSealedButInconsistentIsRefused) {
  LyingFileSystem files;
  files.make_folder("/run");
  save_sample(files, "/run", 1, 1);
  const std::string good = NativeCheckpoint(files, "/run/step_000001").manifest().to_text();
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"\"offset\": ", "\"offset\": 9"},
      {"\"name\": \"rank_", "\"name\": \"../rank_"},
      {"\"shape\": [11, ", "\"shape\": [1100000000000, "},
      {"\"end\": [11, ", "\"end\": [12, "},
      {"\"begin\": [0, ", "\"begin\": [-1, "},
      {"\"dtype\": \"bf16\"", "\"dtype\": \"f64\""},
      {"\"chunk_bytes\": 4", "\"chunk_bytes\": 0"},
      {"\"files\": [{", "\"files\": [{\"x\": [], "},
      {"\"bytes\": ", "\"bytes\": -"},
      {"\"xxh3\": \"", "\"xxh3\": \"zz"}};
  for (const auto& [from, to] : changes) {
    std::string text = good;
    ASSERT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
    if (from.find("files") != std::string::npos) {
      EXPECT_NO_THROW(Manifest::from_text(test::resealed(text), "m"));  // unknown keys are fine
    } else {
      EXPECT_THROW(Manifest::from_text(test::resealed(text), "m"), Error) << to;
    }
  }
}

}  // namespace
}  // namespace weft::checkpoint
