// Records of JSONL, JSON-array and text files, in the few shapes that they can have.
#pragma once

#include <functional>
#include <string>

#include "core/base/json.h"
#include "core/data/data_config.h"

namespace weft::data {

// A record as it will be told to the model. `where` is "file:line" (or "file, record 17").
struct Record {
  enum class Kind {
    chat,    // messages
    answer,  // prompt and completion: only the completion is learnt
    text     // a document
  };
  Kind kind = Kind::text;
  Json messages;  // chat: [{"role": ..., "content": ...}]
  std::string prompt, completion;
  bool labelled = false;  // the completion is a label: its greedy accuracy is counted
  std::string text;
  std::string where;
  uint64_t content_hash =
      0;  // of the record's fields in the file: the held-out share is chosen by it
};

// Calls `take` with each record in order until it returns false. Throws no_input when the file is
// missing, bad_data naming file and line for what is not JSON, has not the fields of its format, or
// holds no records at all.
void read_records(const std::string& path, const RecordConfig& config,
                  const std::function<bool(Record)>& take);

// The prompt of a text with a label: `prompt_template` with {field} replaced by the record's
// fields.
std::string fill_template(const std::string& prompt_template, const Json& record,
                          const std::string& where);

}  // namespace weft::data
