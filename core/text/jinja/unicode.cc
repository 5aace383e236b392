#include "core/text/jinja/unicode.h"

#include <utf8proc.h>

#include <array>

namespace weft::text::jinja {
namespace {

bool is_letter(utf8proc_category_t category) {
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

// Upper case of the characters that become several (the common part of SpecialCasing.txt).
const char* upper_expansion(char32_t c) {
  switch (c) {
    case U'\u00DF':
      return "SS";
    case U'\u0149':
      return "ʼN";
    case U'\u01F0':
      return "J̌";
    case U'\u0390':
      return "Ϊ́";
    case U'\u03B0':
      return "Ϋ́";
    case U'\u0587':
      return "ԵՒ";
    case U'\uFB00':
      return "FF";
    case U'\uFB01':
      return "FI";
    case U'\uFB02':
      return "FL";
    case U'\uFB03':
      return "FFI";
    case U'\uFB04':
      return "FFL";
    case U'\uFB05':
      return "ST";
    case U'\uFB06':
      return "ST";
    default:
      return nullptr;
  }
}

bool is_cased(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT;
}

void append_upper(std::string& out, char32_t c) {
  if (const char* expansion = upper_expansion(c))
    out += expansion;
  else
    append_code_point(out, utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}

void append_title(std::string& out, char32_t c) {
  if (const char* expansion = upper_expansion(c)) {
    const std::string_view text = expansion;
    size_t first = 0;
    next_code_point(text, first);
    out += text.substr(0, first);
    out += to_lower(text.substr(first));
  } else {
    append_code_point(out, utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
  }
}

// The character at [begin, end) in lower case. Greek's sigma has another form at the end of a word.
void append_lower(std::string& out, std::string_view text, size_t begin, size_t end, bool in_word) {
  size_t position = begin;
  const char32_t c = next_code_point(text, position);
  if (c == U'\u03A3') {
    const bool last = in_word && (end >= text.size() || !is_cased(next_code_point(text, end)));
    append_code_point(out, last ? U'\u03C2' : U'\u03C3');
  } else if (c == U'\u0130') {
    out += "i̇";
  } else {
    append_code_point(out, utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
  }
}

}  // namespace

char32_t next_code_point(std::string_view text, size_t& position) {
  const auto lead = static_cast<unsigned char>(text[position]);
  if (lead < 0x80) return ++position, lead;
  utf8proc_int32_t c = -1;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data() + position);
  const auto taken =
      utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size() - position), &c);
  if (taken <= 0) return ++position, U'\uFFFD';
  position += static_cast<size_t>(taken);
  return static_cast<char32_t>(c);
}

void append_code_point(std::string& text, char32_t code_point) {
  std::array<utf8proc_uint8_t, 4> bytes;
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes.data());
  text.append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(size));
}

bool is_valid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    if (next_code_point(text, i) == U'\uFFFD' && i == begin + 1) return false;
  }
  return true;
}

size_t count_code_points(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++count) next_code_point(text, i);
  return count;
}

std::vector<std::string_view> split_code_points(std::string_view text) {
  std::vector<std::string_view> parts;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    next_code_point(text, i);
    parts.push_back(text.substr(begin, i - begin));
  }
  return parts;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_name_part(char32_t c) {
  if (c < 0x80) return c == '_' || is_alpha(c) || is_digit(c);
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return is_letter(category) ||
         (category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_NL);
}

bool is_upper(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_LU;
}
bool is_lower(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_LL;
}
bool is_alpha(char32_t c) {
  return is_letter(utf8proc_category(static_cast<utf8proc_int32_t>(c)));
}
bool is_digit(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND;
}
bool is_printable(char32_t c) {
  if (c == ' ') return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category != UTF8PROC_CATEGORY_CN && category < UTF8PROC_CATEGORY_ZS;
}

std::string to_upper(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) append_upper(out, next_code_point(text, i));
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = next_code_point(text, i);
    append_lower(out, text, begin, i, in_word);
    in_word = is_cased(c);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return "";
  std::string out;
  size_t i = 0;
  append_title(out, next_code_point(text, i));
  return out + to_lower(text.substr(i));
}

std::string title(std::string_view text) {
  std::string out;
  bool inside_word = false;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = next_code_point(text, i);
    if (inside_word)
      append_lower(out, text, begin, i, inside_word);
    else
      append_title(out, c);
    inside_word = is_cased(c);
  }
  return out;
}

std::string title_filter(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto separates = [](char32_t c) {
      return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    };
    const size_t begin = i;
    const char32_t first = next_code_point(text, i);
    if (separates(first)) {
      out += text.substr(begin, i - begin);
      continue;
    }
    const size_t rest = i;
    for (size_t after = i; after < text.size() && !separates(next_code_point(text, after));)
      i = after;
    append_upper(out, first);
    out += to_lower(text.substr(rest, i - rest));
  }
  return out;
}

bool all_upper(std::string_view text) {
  bool cased = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (is_cased(c) && !is_upper(c)) return false;
    cased = cased || is_upper(c);
  }
  return cased;
}

bool all_lower(std::string_view text) {
  bool cased = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (is_cased(c) && !is_lower(c)) return false;
    cased = cased || is_lower(c);
  }
  return cased;
}

bool all_of(std::string_view text, bool (*property)(char32_t)) {
  for (size_t i = 0; i < text.size();)
    if (!property(next_code_point(text, i))) return false;
  return !text.empty();
}

}  // namespace weft::text::jinja
