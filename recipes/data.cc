#include "recipes/data.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "core/data/hdf5_dataset.h"
#include "core/data/open_dataset.h"
#include "recipes/data_report.h"
#include "recipes/open_tokenizer.h"

namespace weft::recipes {
namespace {

// Records are cut where they are written; counted and shown, they are whole: what is too long is to
// be seen.
data::DataConfig config_of(const DataOptions& options) {
  data::DataConfig config;
  config.record = options.record.resolve(nullptr);
  for (const std::string& file : options.files) config.train.push_back({.path = file});
  const bool cut = !options.output.empty();
  config.seq_len = cut ? options.seq_len : std::numeric_limits<int64_t>::max();
  config.too_long = options.too_long;
  return config;
}

Json shown(const data::Dataset& dataset, int64_t count, const text::Tokenizer& tokenizer) {
  Json::Array records;
  for (int64_t i = 0; i < std::min(count, dataset.size()); ++i)
    records.push_back(show_example_json(dataset.example(i), tokenizer));
  return records;
}

void print_shown(const data::Dataset& dataset, int64_t count, const text::Tokenizer& tokenizer) {
  const bool colour = isatty(STDOUT_FILENO);
  for (int64_t i = 0; i < std::min(count, dataset.size()); ++i) {
    const data::ExampleView example = dataset.example(i);
    fmt::print("--- record {}: {} tokens; ⟦trained on⟧\n{}\n", i + 1, example.ids.size(),
               show_example(example, tokenizer, colour));
  }
}

}  // namespace

void run_data(const DataOptions& options) {
  const TokenizerFiles files = open_tokenizer(options.tokenizer);
  const data::DataConfig config = config_of(options);
  const bool only_show = options.output.empty() && !options.stats;
  const auto dataset = data::open_datasets(config, files.tokenizer, files.config,
                                           {.vocab_size = files.tokenizer.vocab_size(),
                                            .max_records = only_show ? options.show : 0})
                           .train;
  Json json;
  if (options.show > 0 && options.json) {
    json.set("shown", shown(*dataset, options.show, files.tokenizer));
  } else if (options.show > 0) {
    print_shown(*dataset, options.show, files.tokenizer);
  }
  if (!only_show) {
    const DataStatistics statistics = measure(*dataset, options.seq_len);
    if (options.json) {
      json.set("statistics", to_json(statistics));
    } else if (options.stats) {
      fmt::print("{}", to_text(statistics, options.seq_len));
    }
  }
  if (!options.output.empty()) {
    data::write_hdf5_dataset(options.output, *dataset, files.tokenizer.hash(),
                             files.tokenizer.vocab_size());
    json.set("written", options.output);
    if (!options.json) fmt::print("wrote {}: {} records\n", options.output, dataset->size());
  }
  if (options.json) fmt::print("{}\n", json.dump());
}

}  // namespace weft::recipes
