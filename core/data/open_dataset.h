// The training and the held-out set that a config names.
#pragma once

#include <memory>
#include <string>

#include "core/data/data_config.h"
#include "core/data/dataset.h"
#include "core/data/encode_record.h"

namespace weft::data {

// Tokens in memory, one example after the other.
class TokenizedDataset : public Dataset {
 public:
  void add(const Example& example, double weight);

  int64_t size() const override { return static_cast<int64_t>(offsets_.size()) - 1; }
  ExampleView example(int64_t index) const override;
  double weight(int64_t index) const override { return weights_[static_cast<size_t>(index)]; }
  std::string hash() const override;

 private:
  std::vector<int32_t> ids_;
  std::vector<uint8_t> trained_;
  std::vector<int64_t> offsets_ = {0};
  std::vector<int64_t> answer_begins_, answer_ends_;
  std::vector<double> weights_;
  std::vector<uint64_t> record_hashes_;
};

struct DatasetLimits {
  int64_t vocab_size = 0;   // ids must be below it
  int64_t max_records = 0;  // the first ones are read; 0: all
};

struct Datasets {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> eval;  // null: the config names none
};

// Reads, encodes and cuts what is too long (DataConfig::too_long; what was cut is counted in the
// log). Files made by `weft data` are told by their content; their records stay as they were
// tokenised for training, in evaluation too.
Datasets open_datasets(const DataConfig& config, const text::Tokenizer& tokenizer,
                       const text::TokenizerConfig& tokenizer_config, const DatasetLimits& limits);

// Files for evaluation alone, in order.
std::shared_ptr<const Dataset> open_evaluation(const std::vector<std::string>& files,
                                               const DataConfig& config,
                                               const text::Tokenizer& tokenizer,
                                               const text::TokenizerConfig& tokenizer_config,
                                               const DatasetLimits& limits);

}  // namespace weft::data
