// `weft eval MODEL DATA...`: loss, perplexity and, for labelled sets, accuracy of the greedy
// answer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/data/data_config.h"
#include "parallel/communicator.h"
#include "recipes/record_options.h"
#include "recipes/train_config.h"

namespace weft::recipes {

struct EvalOptions {
  std::string model;    // Hugging Face folder, .gguf file, run folder, or checkpoint
  std::string adapter;  // PEFT adapter on top; empty: none
  std::vector<std::string> files;
  RecordOptions record;
  data::TooLong too_long = data::TooLong::error;
  int64_t seq_len = 0;        // 0: the model's longest
  int64_t limit = 0;          // records, from the first; 0: all
  int64_t batch = 8;          // records at once
  int64_t answer_tokens = 0;  // longest greedy answer; 0: as long as the longest label
  bool accuracy = false;      // greedy answers also where records have no labels
  Precision dtype = Precision::automatic;
  DeviceChoice device = DeviceChoice::automatic;
  int local_rank = 0;  // of this rank among those of its host
  bool json = false;
};

// Every rank calls it; rank 0 prints to standard output.
void run_eval(const EvalOptions& options, const std::shared_ptr<parallel::Communicator>& world);

}  // namespace weft::recipes
