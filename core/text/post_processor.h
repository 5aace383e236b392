// The "post_processor" of tokenizer.json: the special tokens around a text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace weft::text {

struct PostProcessor {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;

  // null, ByteLevel (no effect on ids), TemplateProcessing, Sequence. Anything else throws
  // bad_data.
  static PostProcessor from_json(const Json& definition, const std::string& where);
};

}  // namespace weft::text
