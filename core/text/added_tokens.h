// The "added_tokens" of tokenizer.json: strings that are found in the text before BPE sees it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace weft::text {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool single_word = false;  // only between characters that are not of a word
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // ... and behind it
  bool normalized = true;    // looked for in the normalized text
  bool special = false;      // a control token; left out by decode(skip_special)

  static AddedToken from_json(const Json& definition, const std::string& where);
  Json to_json() const;
};

// Finds a set of strings in a text: leftmost, and of those the longest.
class TokenFinder {
 public:
  struct Found {
    size_t begin = 0, end = 0;
    const AddedToken* token = nullptr;  // nullptr: text between tokens
  };

  TokenFinder();
  // `spelling` is what is looked for; `token` must outlive this. Empty spellings are never found.
  void add(std::string_view spelling, const AddedToken* token);

  // Cuts a text into tokens and what lies between them (never empty), by the tokens' flags.
  // Without `parse_special`, special tokens are text.
  std::vector<Found> split(std::string_view text, bool parse_special) const;

 private:
  struct Node {
    const AddedToken* token = nullptr;
    std::vector<std::pair<unsigned char, int>> next;
  };

  Found find(std::string_view text, size_t from) const;

  std::vector<Node> nodes_;
  std::array<bool, 256> starts_{};  // bytes that some token begins with
};

}  // namespace weft::text
