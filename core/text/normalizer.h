// The "normalizer" of tokenizer.json: text to text, before pre-tokenization.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "core/base/json.h"
#include "core/text/regex.h"
#include "core/text/unicode.h"

namespace weft::text {

class Normalizer {
 public:
  Normalizer() = default;  // leaves text as it is
  // null, NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, Replace, Sequence. Anything else throws
  // bad_data.
  Normalizer(const Json& definition, const std::string& where);

  // REQUIRES: valid UTF-8.
  std::string apply(std::string text) const;
  bool is_identity() const { return steps_.empty(); }

 private:
  struct Form {
    NormalForm form;
  };
  struct Lowercase {};
  struct Strip {
    bool left, right;
  };
  struct Prepend {
    std::string prefix;
  };
  struct Replace {
    Regex pattern;
    std::string content;
  };
  using Step = std::variant<Form, Lowercase, Strip, Prepend, Replace>;

  void add(const Json& definition, const std::string& where);
  static std::string run(const Step& step, std::string text);

  std::vector<Step> steps_;
};

// {"String": "..."} or {"Regex": "..."} of Replace and Split.
Regex pattern_from_json(const Json& pattern, const std::string& where);
// Every match becomes `content`.
std::string replace_all(const Regex& pattern, std::string_view content, std::string_view text);

}  // namespace weft::text
