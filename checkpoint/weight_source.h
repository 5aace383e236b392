// Weights under their Hugging Face names, wherever they are stored. A rank reads ranges of the
// row-major global tensor, converted to the dtype that it wants; nothing else is touched.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/tensor/tensor.h"

namespace weft::checkpoint {

struct WeightInfo {
  std::string name;          // Hugging Face name
  Shape shape;               // of the global tensor
  DType dtype = DType::f32;  // holds the stored values without loss (f32 for quantised ones)
  std::string stored_as;     // the file's own word: "BF16", "Q4_1"
};

// Reading is const and may be done from several threads at once.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  const std::string& where() const { return where_; }  // the file or folder, for messages
  const std::vector<WeightInfo>& weights() const { return weights_; }  // in the source's order
  bool contains(const std::string& name) const { return index_.count(name) > 0; }
  // Throws bad_data when the name is missing.
  const WeightInfo& info(const std::string& name) const { return weights_[position(name)]; }
  const Shape& shape(const std::string& name) const { return info(name).shape; }

  // Elements [begin, begin + out.numel()) of the row-major weight, converted to out's dtype (f32,
  // bf16 or f16; to nearest even). Throws bad_data when the name is missing or the stored type
  // cannot be read. REQUIRES: the range lies inside; out on the CPU.
  void read(const std::string& name, int64_t begin, const Tensor& out) const;
  Tensor read_all(const std::string& name, DType dtype) const;

 protected:
  explicit WeightSource(std::string where) : where_(std::move(where)) {}
  // Throws bad_data on a duplicate name.
  void add(WeightInfo info);

 private:
  virtual void read_range(size_t position, int64_t begin, const Tensor& out) const = 0;
  size_t position(const std::string& name) const;

  std::string where_;
  std::vector<WeightInfo> weights_;
  std::unordered_map<std::string, size_t> index_;
};

// Tensors in memory under names; they are shared, not copied.
class MemoryWeights : public WeightSource {
 public:
  explicit MemoryWeights(std::vector<std::pair<std::string, Tensor>> tensors);

 private:
  void read_range(size_t position, int64_t begin, const Tensor& out) const override;
  std::vector<Tensor> tensors_;
};

struct ExpectedWeight {
  std::string name;
  Shape shape;
};

// Throws one bad_data that lists what is missing, unexpected or of another shape. Known harmless
// extras (rotary tables, a tied lm_head's copy) are passed over.
void check_shapes(const WeightSource& source, const std::vector<ExpectedWeight>& expected);

}  // namespace weft::checkpoint
