#include "core/data/open_dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <functional>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/data/batch.h"
#include "core/data/hdf5_dataset.h"

namespace weft::data {
namespace {

// Where examples go, cut to data.seq_len.
class Collector {
 public:
  Collector(const DataConfig& config, const DatasetLimits& limits)
      : config_(config), limits_(limits) {}

  void add(const Example& example, double weight, const std::string& where) {
    for (int32_t id : example.ids)
      if (id < 0 || id >= limits_.vocab_size)
        fail(ErrorKind::bad_data,
             "{}: token id {} is outside the model's vocabulary of {}: the tokenizer is another "
             "model's",
             where, id, limits_.vocab_size);
    const int64_t length = static_cast<int64_t>(example.ids.size());
    if (length <= config_.seq_len) return keep(example, weight);
    switch (config_.too_long) {
      case TooLong::error:
        fail(ErrorKind::bad_data,
             "{}: the record has {} tokens, data.seq_len is {}: raise it, or set data.too_long to "
             "truncate, split or drop",
             where, length, config_.seq_len);
      case TooLong::drop:
        ++dropped_;
        return;
      case TooLong::truncate:
        ++truncated_;
        return keep(part(example, 0, config_.seq_len), weight);
      case TooLong::split:
        ++split_;
        for (int64_t begin = 0; begin < length; begin += config_.seq_len)
          keep(part(example, begin, std::min(length, begin + config_.seq_len)), weight);
    }
  }

  bool full() const { return limits_.max_records > 0 && dataset_->size() >= limits_.max_records; }

  std::shared_ptr<const Dataset> finish(const std::string& what) {
    if (truncated_ + split_ + dropped_ + untrained_ > 0)
      log::warn(
          "{}: {} records truncated, {} split, {} dropped as longer than {} tokens; {} left out "
          "because no token of them is learnt",
          what, truncated_, split_, dropped_, config_.seq_len, untrained_);
    if (dataset_->size() == 0) fail(ErrorKind::bad_data, "{}: no records are left to use", what);
    return dataset_;
  }

 private:
  void keep(const Example& example, double weight) {
    const ExampleView view{example.ids, example.trained};
    if (trained_tokens(view) == 0) {
      ++untrained_;
      return;
    }
    dataset_->add(example, weight);
  }

  static Example part(const Example& example, int64_t begin, int64_t end) {
    return {.ids = {example.ids.begin() + begin, example.ids.begin() + end},
            .trained = {example.trained.begin() + begin, example.trained.begin() + end},
            .record_hash = example.record_hash};
  }

  const DataConfig& config_;
  DatasetLimits limits_;
  std::shared_ptr<TokenizedDataset> dataset_ = std::make_shared<TokenizedDataset>();
  int64_t truncated_ = 0, split_ = 0, dropped_ = 0, untrained_ = 0;
};

bool held_out(uint64_t record_hash, double share) {
  const double draw = static_cast<double>(mix(record_hash, 0x5eed) >> 11) * 0x1p-53;
  return draw < share;
}

// One record of a file of either sort.
struct Source {
  std::function<Example(Purpose)> example;
  uint64_t record_hash = 0;
  std::string where;
};

void read_file(const std::string& path, const DataConfig& config, const RecordEncoder& encoder,
               const std::function<bool(const Source&)>& take) {
  if (is_hdf5_file(path)) {
    const auto document = [&](const Example& example, const std::string& where) {
      return take({[&](Purpose) { return example; }, example.record_hash, where});
    };
    return read_hdf5_dataset(path, encoder.tokenizer().hash(), document);
  }
  read_records(path, config.record, [&](const Record& record) {
    return take({[&](Purpose purpose) { return encoder.encode(record, purpose); },
                 record.content_hash, record.where});
  });
}

}  // namespace

void TokenizedDataset::add(const Example& example, double weight) {
  ids_.insert(ids_.end(), example.ids.begin(), example.ids.end());
  trained_.insert(trained_.end(), example.trained.begin(), example.trained.end());
  offsets_.push_back(static_cast<int64_t>(ids_.size()));
  answer_begins_.push_back(example.answer_begin);
  answer_ends_.push_back(example.answer_end);
  weights_.push_back(weight);
  record_hashes_.push_back(example.record_hash);
}

ExampleView TokenizedDataset::example(int64_t index) const {
  const size_t i = static_cast<size_t>(index);
  const size_t begin = static_cast<size_t>(offsets_[i]), end = static_cast<size_t>(offsets_[i + 1]);
  return {.ids = {ids_.data() + begin, end - begin},
          .trained = {trained_.data() + begin, end - begin},
          .answer_begin = answer_begins_[i],
          .answer_end = answer_ends_[i],
          .record_hash = record_hashes_[i]};
}

std::string TokenizedDataset::hash() const {
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                 &XXH3_freeState);
  XXH3_64bits_reset(state.get());
  const auto update = [&](const auto& v) {
    XXH3_64bits_update(state.get(), v.data(), v.size() * sizeof(v[0]));
  };
  update(ids_);
  update(trained_);
  update(offsets_);
  update(weights_);
  return fmt::format("{:016x}", XXH3_64bits_digest(state.get()));
}

Datasets open_datasets(const DataConfig& config, const text::Tokenizer& tokenizer,
                       const text::TokenizerConfig& tokenizer_config, const DatasetLimits& limits) {
  const RecordEncoder encoder(tokenizer, tokenizer_config, config.record);
  Collector train(config, limits), eval(config, limits);
  const double share = config.eval.empty() ? config.eval_share : 0;
  for (const DataFile& file : config.train) {
    if (train.full()) break;
    read_file(file.path, config, encoder, [&](const Source& source) {
      if (held_out(source.record_hash, share)) {
        eval.add(source.example(Purpose::evaluate), 1, source.where);
      } else {
        train.add(source.example(Purpose::train), file.weight, source.where);
      }
      return !train.full();
    });
  }
  Datasets datasets;
  datasets.train = train.finish("training data");
  if (share > 0) datasets.eval = eval.finish("held-out share of the data");
  std::vector<std::string> files;
  for (const DataFile& file : config.eval) files.push_back(file.path);
  if (!files.empty())
    datasets.eval = open_evaluation(files, config, tokenizer, tokenizer_config, limits);
  return datasets;
}

std::shared_ptr<const Dataset> open_evaluation(const std::vector<std::string>& files,
                                               const DataConfig& config,
                                               const text::Tokenizer& tokenizer,
                                               const text::TokenizerConfig& tokenizer_config,
                                               const DatasetLimits& limits) {
  const RecordEncoder encoder(tokenizer, tokenizer_config, config.record);
  Collector eval(config, limits);
  for (const std::string& file : files) {
    if (eval.full()) break;
    read_file(file, config, encoder, [&](const Source& source) {
      eval.add(source.example(Purpose::evaluate), 1, source.where);
      return !eval.full();
    });
  }
  return eval.finish("held-out data");
}

}  // namespace weft::data
