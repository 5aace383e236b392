#include "checkpoint/native_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "checkpoint/native_hdf5.h"
#include "parallel/thread_communicator.h"
#include "tests/checkpoint/lying_file_system.h"
#include "tests/checkpoint/sample_run.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::checkpoint {
namespace {

using test::expect_sample;
using test::LyingFileSystem;
using test::sample_info;
using test::sample_tensors;
using test::save_sample;
using ::testing::HasSubstr;
using weft::test::error_of;

// A checkpoint of `size` ranks in memory.
std::unique_ptr<LyingFileSystem> saved(int size) {
  auto files = std::make_unique<LyingFileSystem>();
  files->make_folder("/run");
  save_sample(*files, "/run", 7, size, sample_tensors());
  return files;
}

TEST(NativeCheckpoint, EveryDtypeAndShapeComesBackBitEqual) {
  const auto files = saved(1);
  const NativeCheckpoint checkpoint(*files, "/run/step_000007");
  EXPECT_EQ(checkpoint.step(), 7);
  EXPECT_EQ(checkpoint.tensors().size(), sample_tensors().size());
  expect_sample(checkpoint, sample_tensors(), 0, 1);
  for (const auto& tensor : sample_tensors()) {
    const Tensor all = checkpoint.read(tensor.kind, tensor.name);
    const std::string bytes = sample_bytes(tensor, 7);
    ASSERT_EQ(all.bytes(), bytes.size());
    EXPECT_EQ(std::memcmp(all.raw(), bytes.data(), bytes.size()), 0) << tensor.name;
  }
}

class Resharding : public ::testing::TestWithParam<int> {};

TEST_P(Resharding, AnyNumberOfRanksReadsWhatTheseWrote) {
  const auto files = saved(GetParam());
  for (int size : {1, 2, 3, 4, 7})
    parallel::run_ranks(size, [&](parallel::Communicator& comm) {
      const NativeCheckpoint checkpoint(*files, "/run/step_000007");
      expect_sample(checkpoint, sample_tensors(), comm.rank(), size);
    });
  EXPECT_THAT(NativeCheckpoint(*files, "/run/step_000007").verify(), ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Ranks, Resharding, ::testing::Values(1, 2, 3, 4, 6));

TEST(NativeCheckpoint, RandomRangesAcrossChunksAndFilesAreRight) {
  const auto files = saved(3);
  const NativeCheckpoint checkpoint(*files, "/run/step_000007");
  const auto& tensor = sample_tensors()[4];
  ASSERT_GT(tensor.shape.numel() * 4, kChunkBytes);
  const std::string bytes = sample_bytes(tensor, 7);
  std::mt19937_64 draw(1);
  for (int i = 0; i < 50; ++i) {
    const int64_t begin = static_cast<int64_t>(draw() % tensor.shape.numel());
    const int64_t most = tensor.shape.numel() - begin;
    const int64_t count =
        static_cast<int64_t>(draw() % (i % 2 ? most : std::min<int64_t>(most, 9)));
    const Tensor part = Tensor::empty({count}, tensor.dtype);
    checkpoint.read_range(tensor.kind, tensor.name, tensor.shape, begin, part);
    ASSERT_TRUE(count == 0 || !std::memcmp(part.raw(), bytes.data() + 4 * begin, part.bytes()));
  }
}

TEST(NativeCheckpoint, ColumnShardsOfTwoRanksAreReadAsRowsByOthers) {
  const auto files = std::make_unique<LyingFileSystem>();
  files->make_folder("/run");
  const Shape shape{37, 20};
  parallel::run_ranks(2, [&](parallel::Communicator& comm) {
    const Box box{{0, 10 * comm.rank()}, {37, 10 * comm.rank() + 10}};
    const Tensor part = Tensor::empty({37, 10}, DType::i32);
    for (int i = 0; i < 370; ++i)
      part.data<int32_t>()[i] = (i / 10) * 20 + 10 * comm.rank() + i % 10;
    save_checkpoint(comm, *files, "/run", {{"value", "w", shape, box, part}}, sample_info(1));
  });
  const NativeCheckpoint checkpoint(*files, "/run/step_000001");
  const Tensor rows = Tensor::empty({101}, DType::i32);
  checkpoint.read_range("value", "w", shape, 333, rows);
  for (int i = 0; i < 101; ++i) ASSERT_EQ(rows.data<int32_t>()[i], 333 + i);
  const Tensor inner = Tensor::empty({5, 4}, DType::i32);
  checkpoint.read_box("value", "w", shape, {{30, 8}, {35, 12}}, inner);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(inner.data<int32_t>()[i], (30 + i / 4) * 20 + 8 + i % 4);
}

TEST(NativeCheckpoint, SameStateGivesTheSameBytes) {
  const auto first = saved(2), second = saved(2);
  for (const char* name : {"rank_00000.h5", "rank_00001.h5", "manifest.json"}) {
    const std::string path = std::string("/run/step_000007/") + name;
    EXPECT_TRUE(first->bytes_of(path) == second->bytes_of(path)) << name;
  }
}

TEST(NativeCheckpoint, StockHdf5FindsWhatTheManifestSays) {
  const weft::test::TempDir folder;
  save_sample(local_file_system(), folder.path(), 7, 3, sample_tensors());
  const NativeCheckpoint checkpoint(local_file_system(), folder.file("step_000007"));
  for (const FileRecord& file : checkpoint.manifest().files) {
    std::vector<PieceRecord> seen = read_hdf5_structure(join(checkpoint.folder(), file.name));
    ASSERT_EQ(seen.size(), file.pieces.size());
    for (const PieceRecord& said : file.pieces) {
      const auto found = std::find_if(seen.begin(), seen.end(), [&](const PieceRecord& piece) {
        return piece.dataset() == said.dataset();
      });
      ASSERT_NE(found, seen.end()) << said.dataset();
      EXPECT_EQ(found->offset, said.offset);
      EXPECT_EQ(found->dtype, said.dtype);
      EXPECT_EQ(found->shape, said.shape);
      EXPECT_EQ(found->box, said.box);
    }
  }
}

TEST(NativeCheckpoint, ForeignHdf5ThatReachesOutOfTheFileIsRefused) {
  for (const char* name : {"external_link", "soft_link", "external_storage", "chunked", "gzip"}) {
    const std::string path = weft::test::fixture(std::string("checkpoint/") + name + ".h5");
    EXPECT_THROW(read_hdf5_structure(path), Error) << name;
  }
}

TEST(NativeCheckpoint, AskingForAnotherModelNamesWhatDiffers) {
  const auto files = saved(1);
  const NativeCheckpoint checkpoint(*files, "/run/step_000007");
  const Tensor out = Tensor::empty({67}, DType::f32);
  EXPECT_THAT(error_of(ErrorKind::bad_data,
                       [&] { checkpoint.read_range("value", "lost", Shape{67}, 0, out); }),
              HasSubstr("has no value of 'lost'"));
  EXPECT_THAT(
      error_of(ErrorKind::bad_data,
               [&] { checkpoint.read_range("value", "model.norm.weight", Shape{68}, 0, out); }),
      HasSubstr("is f32 [67], but this run needs f32 [68]"));
  EXPECT_THAT(error_of(ErrorKind::bad_data,
                       [&] { checkpoint.read_range("m", "model.norm.weight", Shape{67}, 0, out); }),
              HasSubstr("is f64 [67], but this run needs f32 [67]"));
}

TEST(NativeCheckpoint, DescriptionListsTensorsLayoutAndConfig) {
  const auto files = saved(2);
  const Json json = NativeCheckpoint(*files, "/run/step_000007").describe();
  EXPECT_EQ(json.at("step").as_int(), 7);
  EXPECT_EQ(json.at("files").as_array().size(), 2u);
  EXPECT_EQ(json.at("tensors").as_array().size(), sample_tensors().size());
  EXPECT_EQ(json.at("parameters").as_int(), 1021 * 1031 + 67 + 105 + 1);
  EXPECT_EQ(json.at("config").at("train.lr").as_double(), 1e-4);
}

TEST(NativeCheckpoint, HolesAndOverlapsAreNeverCommitted) {
  LyingFileSystem files;
  files.make_folder("/run");
  const auto save = [&](int64_t begin) {
    parallel::run_ranks(2, [&](parallel::Communicator& comm) {
      std::vector<Piece> pieces;
      append(pieces, {"value", "w", Shape{10}, comm.rank() == 0 ? 0 : begin,
                      Tensor::zeros({5}, DType::f32)});
      save_checkpoint(comm, files, "/run", pieces, sample_info(1));
    });
  };
  EXPECT_THAT(error_of(ErrorKind::bad_data, [&] { save(4); }),
              HasSubstr("two pieces of value/w overlap"));
  EXPECT_THAT(
      error_of(ErrorKind::bad_data,
               [&] {
                 parallel::run_ranks(1, [&](parallel::Communicator& comm) {
                   std::vector<Piece> pieces;
                   append(pieces, {"value", "w", Shape{10}, 0, Tensor::zeros({5}, DType::f32)});
                   save_checkpoint(comm, files, "/run", pieces, sample_info(1));
                 });
               }),
      HasSubstr("5 elements of value/w are there, of 10"));
  EXPECT_THAT(files.list("/run"), ::testing::IsEmpty());
  EXPECT_NO_THROW(save(5));
}

TEST(NativeCheckpoint, NamesThatHdf5CannotHoldAreRefused) {
  for (const char* name : {"", ".", "a/b"}) {
    const std::vector<Piece> pieces = {
        {"value", name, Shape{2}, {{0}, {2}}, Tensor::zeros({2}, DType::f32)}};
    EXPECT_THROW(lay_out_hdf5(pieces, {}), Error) << name;
  }
}

TEST(NativeCheckpoint, ManyPiecesAreLaidOutInLittleSpace) {
  std::vector<Piece> pieces;
  for (int i = 0; i < 3000; ++i)
    append(pieces,
           {i % 2 ? "m" : "v", "model.layers." + std::to_string(i) + ".q_proj.lora_A.weight",
            Shape{16, 64}, 0, Tensor::zeros({1024}, DType::f32)});
  const Hdf5Layout layout = lay_out_hdf5(pieces, {});
  EXPECT_LT(layout.structure_bytes.size(), 3000u * 1024u);
}

}  // namespace
}  // namespace weft::checkpoint
