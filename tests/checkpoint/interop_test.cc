// Writes what tests/interop/checkpoint_h5py.py compares with: checkpoints and the bytes that must
// be in them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "tests/checkpoint/sample_run.h"

namespace weft::checkpoint {
namespace {

TEST(Interop, WritesCheckpointsForOtherReaders) {
  const char* out = std::getenv("WEFT_INTEROP_OUT");
  if (!out) GTEST_SKIP() << "run by tests/interop/checkpoint_h5py.py";
  const std::string folder = out;
  for (int ranks : {1, 3}) {
    const std::string root = join(folder, "ranks_" + std::to_string(ranks));
    local_file_system().make_folder(root);
    test::save_sample(local_file_system(), root, 7, ranks, test::sample_tensors());
  }
  Json::Array expected;
  for (const test::SampleTensor& tensor : test::sample_tensors()) {
    const std::string file = std::to_string(expected.size()) + ".bin";
    std::ofstream(join(folder, file), std::ios::binary) << test::sample_bytes(tensor, 7);
    const std::vector<int64_t> dims = tensor.shape.to_vector();
    expected.push_back(Json(Json::Object{{"kind", tensor.kind},
                                         {"name", tensor.name},
                                         {"dtype", name_of(tensor.dtype)},
                                         {"shape", Json(Json::Array(dims.begin(), dims.end()))},
                                         {"file", file}}));
  }
  std::ofstream(join(folder, "expected.json")) << Json(std::move(expected)).dump();
}

}  // namespace
}  // namespace weft::checkpoint
