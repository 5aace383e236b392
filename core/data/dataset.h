// Tokenised records: what training, evaluation and `weft data` read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace weft::data {

// One record as tokens. Token i is a target of the loss (given the tokens before it) where
// trained[i] is 1; trained[0] is never used, since nothing comes before it.
struct ExampleView {
  std::span<const int32_t> ids;
  std::span<const uint8_t> trained;  // as long as ids
  int64_t answer_begin = -1;  // labelled sets: ids before it are the prompt; -1: no answer to check
  int64_t answer_end = -1;    // past the answer's last token, the end-of-turn token left out
  uint64_t record_hash = 0;   // Record::content_hash; the parts of a split record share it
};

// Examples in the order of their files. Read-only and safe to share between threads.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual ExampleView example(int64_t index) const = 0;
  // Weight of the file that the example came from (data.train[].weight).
  virtual double weight(int64_t index) const = 0;
  // Of tokens, masks and tokenizer, for the checkpoint: a resumed run must see the same data.
  virtual std::string hash() const = 0;
};

}  // namespace weft::data
