// Regular expressions of tokenizer files. They are written for Oniguruma (Ruby syntax) and run here
// by PCRE2: what both understand alike passes, what differs is rewritten, what cannot be is an
// error.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weft::text {

struct Match {
  size_t begin = 0, end = 0;
};

// The same language in PCRE2's syntax (with UTF, UCP and MULTILINE). Throws bad_data naming `where`
// and the construct that has no counterpart.
std::string oniguruma_to_pcre2(std::string_view pattern, const std::string& where);

// Immutable; find_all may run in any number of threads at once.
class Regex {
 public:
  Regex(std::string_view pattern, const std::string& where);
  static Regex literal(std::string_view text);

  // Appends the matches in `text`, left to right, as Oniguruma's iterator gives them: an empty
  // match right behind the last match is not one. REQUIRES: text is valid UTF-8. Throws bad_data
  // when the search takes too many steps.
  void find_all(std::string_view text, std::vector<Match>& matches) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace weft::text
