// What `weft data` tells about a tokenised dataset.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/data/dataset.h"
#include "core/text/tokenizer.h"

namespace weft::recipes {

struct LengthBin {
  int64_t begin = 0, end = 0;  // lengths in [begin, end)
  int64_t records = 0;
};

// What an epoch would be with rows of seq_len tokens.
struct PackingCost {
  int64_t seq_len = 0;
  int64_t rows = 0;
  double useful = 0;        // share of rows x seq_len that holds tokens
  int64_t longer = 0;       // records that do not fit into a row; here they are split
  int64_t tokens_lost = 0;  // were they truncated instead
};

struct DataStatistics {
  int64_t records = 0, tokens = 0, trained_tokens = 0, labelled = 0;
  int64_t shortest = 0, median = 0, longest = 0;
  std::vector<LengthBin> lengths;
  std::vector<PackingCost> packing;  // by seq_len; the one asked for is among them
};

DataStatistics measure(const data::Dataset& dataset, int64_t seq_len);
std::string to_text(const DataStatistics& statistics, int64_t seq_len);
Json to_json(const DataStatistics& statistics);

// The tokens of an example, those that are trained on in brackets (and in colour).
std::string show_example(const data::ExampleView& example, const text::Tokenizer& tokenizer,
                         bool colour);
Json show_example_json(const data::ExampleView& example, const text::Tokenizer& tokenizer);

}  // namespace weft::recipes
