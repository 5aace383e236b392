#include "core/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "core/text/unicode_tables.h"

namespace weft::text {
namespace {

struct Utf8Unit {
  int length = 0;  // bytes of a character, or of the maximal ill-formed part
  bool valid = false;
  bool truncated = false;  // ill-formed only because the text ends
};

// What stands at `at`, by the table of well-formed sequences (Unicode, table 3-7).
Utf8Unit unit_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return {1, true, false};
  int length = 0;
  unsigned char low = 0x80, high = 0xBF;  // bounds of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, false, false};
  }
  for (int i = 1; i < length; ++i) {
    if (at + i >= text.size()) return {i, false, true};
    if (byte(at + i) < low || byte(at + i) > high) return {i, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true, false};
}

// The first position at or after `at` whose byte is not ASCII, or the end.
size_t skip_ascii(std::string_view text, size_t at) {
  constexpr uint64_t kHighBits = 0x8080808080808080u;
  while (at + 8 <= text.size()) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    if (word & kHighBits) break;
    at += 8;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

const utf8proc_property_t* property(uint32_t code_point) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(code_point));
}

bool is_inert(utf8proc_int32_t c) {
  static const auto inert = inert_in_normal_forms();
  return c >= static_cast<utf8proc_int32_t>(inert.front().first) &&
         contains(inert, static_cast<uint32_t>(c));
}

int mark_class(utf8proc_int32_t c) {
  return c < 0x300 || is_inert(c) ? 0 : property(c)->combining_class;
}

void decompose(utf8proc_int32_t c, bool compatibly, std::vector<utf8proc_int32_t>& points) {
  if (c < 0x80 || is_inert(c)) return points.push_back(c);
  const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatibly ? UTF8PROC_COMPAT : 0);
  utf8proc_int32_t parts[32];  // the longest decomposition has 18
  const auto count =
      utf8proc_decompose_char(c, parts, 32, static_cast<utf8proc_option_t>(options), nullptr);
  CHECK(count > 0 && count <= 32, "decomposition of U+{:04X}: {}", c, count);
  points.insert(points.end(), parts, parts + count);
}

// Canonical ordering: marks between two starters are sorted by class, stably. (utf8proc's own sort
// is quadratic in the length of such a run.)
void order_marks(std::vector<utf8proc_int32_t>& points) {
  for (size_t i = 0; i < points.size(); ++i) {
    if (mark_class(points[i]) == 0) continue;
    size_t end = i + 1;
    while (end < points.size() && mark_class(points[end]) != 0) ++end;
    std::stable_sort(points.begin() + i, points.begin() + end,
                     [](auto a, auto b) { return mark_class(a) < mark_class(b); });
    i = end;
  }
}

// Composes what stands between inert characters, which compose with nothing.
void compose(std::vector<utf8proc_int32_t>& points) {
  size_t kept = 0;
  for (size_t begin = 0; begin < points.size();) {
    size_t end = begin;
    while (end < points.size() && !is_inert(points[end])) ++end;
    const auto size = utf8proc_normalize_utf32(
        points.data() + begin, static_cast<utf8proc_ssize_t>(end - begin),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    CHECK(size >= 0, "{}", utf8proc_errmsg(size));
    std::copy_n(points.begin() + begin, size, points.begin() + kept);
    kept += static_cast<size_t>(size);
    if (end < points.size()) points[kept++] = points[end];
    begin = end + 1;
  }
  points.resize(kept);
}

// Nothing below U+0300 changes under NFC, nothing of ASCII under any form.
bool is_surely_normal(std::string_view text, NormalForm form) {
  const size_t at = skip_ascii(text, 0);
  if (at == text.size()) return true;
  if (form != NormalForm::nfc) return false;
  return std::all_of(text.begin() + at, text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}

}  // namespace

uint32_t next_code_point(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return uint32_t{static_cast<unsigned char>(text[i])}; };
  const uint32_t lead = byte(at++);
  if (lead < 0x80) return lead;
  if (lead < 0xE0) return (lead & 0x1F) << 6 | (byte(at++) & 0x3F);
  uint32_t c = lead < 0xF0 ? lead & 0x0F : lead & 0x07;
  for (int rest = lead < 0xF0 ? 2 : 3; rest > 0; --rest) c = c << 6 | (byte(at++) & 0x3F);
  return c;
}

void append_utf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

bool is_valid_utf8(std::string_view text) {
  for (size_t at = skip_ascii(text, 0); at < text.size(); at = skip_ascii(text, at)) {
    const Utf8Unit unit = unit_at(text, at);
    if (!unit.valid) return false;
    at += unit.length;
  }
  return true;
}

std::string repair_utf8(std::string_view text) {
  Utf8Stream stream;
  std::string out = stream.push(text);
  return out + stream.finish();
}

std::string Utf8Stream::push(std::string_view bytes) {
  if (held_.empty() && is_valid_utf8(bytes)) return std::string(bytes);
  const std::string text = std::move(held_) + std::string(bytes);
  held_.clear();
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Unit unit = unit_at(text, at);
    if (unit.truncated) {
      held_ = text.substr(at);
      break;
    }
    if (unit.valid)
      out.append(text, at, unit.length);
    else
      append_utf8(kReplacementCharacter, out);
    at += unit.length;
  }
  return out;
}

std::string Utf8Stream::finish() {
  std::string out;
  if (!held_.empty())
    append_utf8(kReplacementCharacter, out);  // a truncated part is one maximal part
  held_.clear();
  return out;
}

bool is_whitespace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_numeric(uint32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const auto category = property(c)->category;
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO || contains(newer_numeric(), c);
}

bool is_word(uint32_t c) {
  switch (property(c)->category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // the joiners, and the symbols that are Other_Alphabetic
      return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
             (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
             (c >= 0x1F170 && c <= 0x1F189);
  }
}

std::string normalize(std::string_view text, NormalForm form) {
  if (is_surely_normal(text, form)) return std::string(text);
  const bool compatibly = form == NormalForm::nfkc || form == NormalForm::nfkd;
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();)
    decompose(static_cast<utf8proc_int32_t>(next_code_point(text, at)), compatibly, points);
  order_marks(points);
  if (form == NormalForm::nfc || form == NormalForm::nfkc) compose(points);
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t c : points) append_utf8(static_cast<uint32_t>(c), out);
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const uint32_t c = next_code_point(text, at);
    if (c == 0x130) {  // the one character whose lower case has two
      out += "i\xCC\x87";
    } else {
      append_utf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
    }
  }
  return out;
}

}  // namespace weft::text
