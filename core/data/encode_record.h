// From a record to tokens, and which of them the loss counts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/data/records.h"
#include "core/text/chat_template.h"
#include "core/text/tokenizer_config.h"

namespace weft::data {

struct Example {
  std::vector<int32_t> ids;
  std::vector<uint8_t> trained;  // as long as ids
  int64_t answer_begin = -1;     // labelled: see ExampleView
  int64_t answer_end = -1;
  uint64_t record_hash = 0;  // Record::content_hash
};

enum class Purpose {
  train,    // a text stands between BOS and EOS as the tokenizer's config says
  evaluate  // a text is scored behind the BOS that the tokenizer or the config names, without EOS
};

// Text is encoded a span at a time, prompt and answer apart, so that a trained span begins and ends
// at a token and the prompt's tokens are those of generation.
class RecordEncoder {
 public:
  // chat_template: config.chat_template, else the model's; models without one get plain prompts and
  // completions.
  RecordEncoder(text::Tokenizer tokenizer, const text::TokenizerConfig& tokenizer_config,
                const RecordConfig& config);

  // Throws bad_data naming record.where.
  Example encode(const Record& record, Purpose purpose) const;

  const text::Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  // An example in the making: `text` is what ids from `special` on stand for.
  struct Spans {
    Example example;
    std::string text;
    size_t special = 0;
    void push(int32_t id, bool is_trained);
  };
  void append(Spans& spans, std::string_view text, bool trained) const;
  Example encode_chat(const Json& messages) const;
  Example encode_answer(const Record& record) const;
  Example encode_text(const Record& record, Purpose purpose) const;

  text::Tokenizer tokenizer_;
  text::SpecialIds special_;
  bool adds_space_;
  std::unique_ptr<text::ChatTemplate> chat_template_;
  RecordConfig config_;
};

}  // namespace weft::data
