// A driver for checkpoint_h5py_test.py: checkpoints of 1 and 3 ranks, and the bytes that must be in
// them.
//   write_checkpoints OUT
#include <fmt/core.h>

#include <fstream>

#include "core/base/error.h"
#include "tests/checkpoint/sample_run.h"

using namespace weft;
using namespace weft::checkpoint;

int main(int argc, char** argv) try {
  if (argc != 2) fail(ErrorKind::usage, "write_checkpoints OUT");
  const std::string folder = argv[1];
  for (int ranks : {1, 3}) {
    const std::string root = join(folder, "ranks_" + std::to_string(ranks));
    local_file_system().make_folder(root);
    checkpoint::test::save_sample(local_file_system(), root, 7, ranks,
                                  checkpoint::test::sample_tensors());
  }
  Json::Array expected;
  for (const checkpoint::test::SampleTensor& tensor : checkpoint::test::sample_tensors()) {
    const std::string file = std::to_string(expected.size()) + ".bin";
    std::ofstream(join(folder, file), std::ios::binary)
        << checkpoint::test::sample_bytes(tensor, 7);
    const std::vector<int64_t> dims = tensor.shape.to_vector();
    expected.push_back(Json(Json::Object{{"kind", tensor.kind},
                                         {"name", tensor.name},
                                         {"dtype", name_of(tensor.dtype)},
                                         {"shape", Json(Json::Array(dims.begin(), dims.end()))},
                                         {"file", file}}));
  }
  std::ofstream(join(folder, "expected.json")) << Json(std::move(expected)).dump();
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "write_checkpoints: {}\n", e.what());
  return 1;
}
