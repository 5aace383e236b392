// A run in miniature: tensors of every dtype whose values follow from the step, cut among ranks as
// ZeRO cuts them.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/commit.h"
#include "checkpoint/native_checkpoint.h"
#include "parallel/communicator.h"

namespace weft::checkpoint::test {

struct SampleTensor {
  std::string kind;
  std::string name;
  Shape shape;
  DType dtype = DType::f32;
};

// Shapes that no number of ranks divides, a scalar, and one of more than two chunks.
const std::vector<SampleTensor>& sample_tensors();
const std::vector<SampleTensor>& small_tensors();  // for tests that save a hundred times

// The bytes of the whole tensor at a step.
std::string sample_bytes(const SampleTensor& tensor, int64_t step);

// [begin, end) of rank's flat share; shares are uneven, and some are empty.
std::pair<int64_t, int64_t> sample_range(const SampleTensor& tensor, int rank, int size);

std::vector<Piece> sample_pieces(const std::vector<SampleTensor>& tensors, int64_t step, int rank,
                                 int size);
SaveInfo sample_info(int64_t step);

// What a rank of `size` loads; compares every byte with the step that the checkpoint says it is of.
void expect_sample(const NativeCheckpoint& checkpoint, const std::vector<SampleTensor>& tensors,
                   int rank, int size);

// Saves `step` on `size` thread ranks into the folder `root`, which exists.
void save_sample(FileSystem& files, const std::string& root, int64_t step, int size,
                 const std::vector<SampleTensor>& tensors = small_tensors());

// A manifest's text after a change, with the checksum that goes with it: as a forger would.
std::string resealed(std::string manifest_text);

}  // namespace weft::checkpoint::test
