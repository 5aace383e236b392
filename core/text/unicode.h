// UTF-8 and the few Unicode properties and normal forms that tokenizers need.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace weft::text {

inline constexpr uint32_t kReplacementCharacter = 0xFFFD;

// The code point at `at`, which moves past it. REQUIRES: valid UTF-8 and at < text.size().
uint32_t next_code_point(std::string_view text, size_t& at);
void append_utf8(uint32_t code_point, std::string& out);

bool is_valid_utf8(std::string_view text);
// Every maximal ill-formed part becomes one U+FFFD, as Python's errors="replace" does.
std::string repair_utf8(std::string_view text);

// Turns bytes that arrive in pieces into valid UTF-8 that never ends inside a character.
class Utf8Stream {
 public:
  // The text that the bytes complete; what may still become a character is held back.
  std::string push(std::string_view bytes);
  // What was held back, as U+FFFD. The stream is then as new.
  std::string finish();

 private:
  std::string held_;
};

bool is_whitespace(uint32_t code_point);  // property White_Space
bool is_numeric(uint32_t code_point);     // categories Nd, Nl, No
bool is_word(uint32_t code_point);  // \w of UTS 18: letters, marks, digits, connectors, joiners

enum class NormalForm { nfc, nfd, nfkc, nfkd };
// REQUIRES: valid UTF-8. Time is near-linear for any input.
std::string normalize(std::string_view text, NormalForm form);
// Character by character, full mappings without context (as Rust's char::to_lowercase).
std::string to_lower(std::string_view text);

}  // namespace weft::text
