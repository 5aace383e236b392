#include "tests/checkpoint/sample_run.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "core/base/rng.h"
#include "parallel/thread_communicator.h"

namespace weft::checkpoint::test {

const std::vector<SampleTensor>& sample_tensors() {
  static const std::vector<SampleTensor> tensors = {
      {"value", "model.embed_tokens.weight", Shape{1021, 1031}, DType::bf16},
      {"value", "model.norm.weight", Shape{67}, DType::f32},
      {"value", "model.layers.0.mlp.experts.weight", Shape{3, 5, 7}, DType::f16},
      {"value", "scalar", Shape{}, DType::f64},
      {"master", "model.embed_tokens.weight", Shape{1021, 1031}, DType::f32},
      {"m", "model.norm.weight", Shape{67}, DType::f64},
      {"count", "model.norm.weight", Shape{13}, DType::i64},
      {"count", "rows", Shape{2, 9}, DType::i32},
      {"mask", "rows", Shape{31, 33}, DType::u8},
      {"deep", "five", Shape{2, 3, 4, 5, 6}, DType::f32},
  };
  return tensors;
}

const std::vector<SampleTensor>& small_tensors() {
  static const std::vector<SampleTensor> tensors = {
      {"value", "a.weight", Shape{11, 13}, DType::bf16},
      {"master", "a.weight", Shape{11, 13}, DType::f32},
      {"value", "b.weight", Shape{70, 71}, DType::f32},
  };
  return tensors;
}

std::string sample_bytes(const SampleTensor& tensor, int64_t step) {
  std::string bytes(static_cast<size_t>(tensor.shape.numel()) * size_of(tensor.dtype), '\0');
  const uint64_t key = mix(hash_name(tensor.kind + "/" + tensor.name), static_cast<uint64_t>(step));
  for (size_t i = 0; i < bytes.size(); i += 16) {
    const PhiloxCounter draw = philox({static_cast<uint32_t>(i)}, philox_key(key));
    std::memcpy(bytes.data() + i, draw.data(), std::min<size_t>(16, bytes.size() - i));
  }
  return bytes;
}

std::pair<int64_t, int64_t> sample_range(const SampleTensor& tensor, int rank, int size) {
  const int64_t count = tensor.shape.numel();
  const auto border = [&](int r) {
    if (r <= 0) return int64_t{0};
    if (r >= size) return count;
    const uint64_t draw = mix(hash_name(tensor.name), static_cast<uint64_t>(size));
    const int64_t even = count * r / size, shift = static_cast<int64_t>(draw % 7) - 3;
    return std::clamp(even + shift, int64_t{0}, count);
  };
  return {border(rank), border(rank + 1)};
}

std::vector<Piece> sample_pieces(const std::vector<SampleTensor>& tensors, int64_t step, int rank,
                                 int size) {
  std::vector<Piece> pieces;
  for (const SampleTensor& tensor : tensors) {
    const auto [begin, end] = sample_range(tensor, rank, size);
    const Tensor part = Tensor::empty({end - begin}, tensor.dtype);
    const std::string bytes = sample_bytes(tensor, step);
    if (part.numel() > 0)
      std::memcpy(part.raw(), bytes.data() + static_cast<size_t>(begin) * size_of(tensor.dtype),
                  part.bytes());
    append(pieces, {tensor.kind, tensor.name, tensor.shape, begin, part});
  }
  return pieces;
}

SaveInfo sample_info(int64_t step) {
  SaveInfo info;
  info.step = step;
  info.layout = Json(Json::Object{{"data", 1}});
  info.trainer = Json(Json::Object{{"step", step}, {"loss", 0.1 * static_cast<double>(step)}});
  info.config = Json(Json::Object{{"train.lr", 1e-4}});
  return info;
}

void expect_sample(const NativeCheckpoint& checkpoint, const std::vector<SampleTensor>& tensors,
                   int rank, int size) {
  EXPECT_EQ(checkpoint.manifest().trainer, sample_info(checkpoint.step()).trainer);
  for (const SampleTensor& tensor : tensors) {
    const auto [begin, end] = sample_range(tensor, rank, size);
    const Tensor part = Tensor::empty({end - begin}, tensor.dtype);
    checkpoint.read_range(tensor.kind, tensor.name, tensor.shape, begin, part);
    const std::string bytes = sample_bytes(tensor, checkpoint.step());
    const size_t offset = static_cast<size_t>(begin) * size_of(tensor.dtype);
    EXPECT_TRUE(part.bytes() == 0 ||
                std::memcmp(part.raw(), bytes.data() + offset, part.bytes()) == 0)
        << tensor.kind << "/" << tensor.name << " of step " << checkpoint.step() << ", rank "
        << rank << " of " << size;
  }
}

void save_sample(FileSystem& files, const std::string& root, int64_t step, int size,
                 const std::vector<SampleTensor>& tensors) {
  parallel::run_ranks(size, [&](parallel::Communicator& comm) {
    save_checkpoint(comm, files, root, sample_pieces(tensors, step, comm.rank(), comm.size()),
                    sample_info(step));
  });
}

std::string resealed(std::string manifest_text) {
  const size_t body = manifest_text.rfind("  \"manifest_xxh3\"");
  const uint64_t seal = XXH3_64bits(manifest_text.data(), body);
  const size_t digits = manifest_text.find("\": \"", body) + 4;
  return manifest_text.replace(digits, 16, fmt::format("{:016x}", seal));
}

}  // namespace weft::checkpoint::test
