// Loss, perplexity and accuracy of a model on held-out records.
#pragma once

#include <cstdint>

#include "core/base/json.h"
#include "core/data/dataset.h"
#include "parallel/communicator.h"
#include "recipes/model.h"

namespace weft::recipes {

struct Evaluation {
  double loss = 0;     // mean of -log p over the scored tokens
  int64_t tokens = 0;  // scored
  int64_t records = 0;
  int64_t labelled = 0;  // records with an answer to check
  int64_t correct =
      0;  // of them, those whose greedy answer is the expected one, end of turn included
  double perplexity() const;
  double accuracy() const { return labelled ? static_cast<double>(correct) / labelled : 0; }
  // 95 % Wilson interval of the accuracy.
  double accuracy_low() const { return wilson(-1); }
  double accuracy_high() const { return wilson(1); }
  Json to_json() const;

 private:
  double wilson(double sign) const;
};

struct EvaluatorOptions {
  int64_t max_records = 0;    // from the first; 0: all
  int64_t max_tokens = 4096;  // in one forward pass
};

// Collective over `ranks`: each takes a part of the records, all return the sums of all. A greedy
// answer is right exactly when every token of it is the most likely one given those before it, so
// one forward pass scores loss and accuracy together.
Evaluation evaluate(const Model& model, const data::Dataset& dataset,
                    const EvaluatorOptions& options, parallel::Communicator& ranks);

}  // namespace weft::recipes
