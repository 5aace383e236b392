// Oniguruma's Ruby syntax rewritten in PCRE2's. The two disagree on \s, \w, \h, \b, \v, \p{Script},
// {n,m}+ and (?m); everything else that is let through means the same in both.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "core/base/error.h"
#include "core/text/regex.h"
#include "core/text/unicode.h"
#include "core/text/unicode_tables.h"

namespace weft::text {
namespace {

// Members of a bracket, without the bracket.
constexpr const char* kSpace =
    R"(\x09-\x0D\x20\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr const char* kNotSpace =
    R"(\x00-\x08\x0E-\x1F!-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
constexpr const char* kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})";
constexpr const char* kHex = "0-9A-Fa-f";

constexpr std::array kCategories = {"Any", "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm",
                                    "Lo",  "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl",
                                    "No",  "P",  "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S",
                                    "Sc",  "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};

bool pcre2_has_script_prefix() {
  char version[64] = {};
  if (pcre2_config(PCRE2_CONFIG_VERSION, nullptr) <= static_cast<int>(sizeof version))
    pcre2_config(PCRE2_CONFIG_VERSION, version);
  char* minor = nullptr;
  const long major = std::strtol(version, &minor, 10);
  return major > 10 || (major == 10 && *minor == '.' && std::strtol(minor + 1, nullptr, 10) >= 40);
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool is_alnum(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '{') {
        interval();
      } else if (c == '(') {
        groups_.push_back(out_.size());
        group();
      } else if (c == ')') {
        atom_ = groups_.empty() ? 0 : groups_.back();
        if (!groups_.empty()) groups_.pop_back();
        copy();
      } else if (c == '?' || c == '*' || c == '+') {
        copy();
      } else {
        atom_ = out_.size();
        if (c == '\\')
          escape(/*in_class=*/false);
        else if (c == '[')
          bracket();
        else
          copy();
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void unsupported(std::string_view what) const {
    fail(ErrorKind::bad_data,
         "{}: the regular expression '{}' uses '{}' (at byte {}), which is not supported", where_,
         in_, what, at_);
  }

  bool ahead(std::string_view text) const { return in_.substr(at_, text.size()) == text; }

  void copy() {  // one character
    size_t end = at_;
    next_code_point(in_, end);
    out_ += in_.substr(at_, end - at_);
    at_ = end;
  }

  void set(const char* members, bool in_class, bool negated = false) {
    out_ += in_class ? members : std::string(negated ? "[^" : "[") + members + "]";
    at_ += 2;
  }

  void escape(bool in_class) {
    if (at_ + 1 >= in_.size()) unsupported("\\ at the end");
    const char c = in_[at_ + 1];
    const std::string_view two = in_.substr(at_, 2);
    switch (c) {
      case 's':
        return set(kSpace, in_class);
      case 'S':
        return set(kNotSpace, in_class);
      case 'w':
        return set(kWord, in_class);
      case 'h':
        return set(kHex, in_class);
      case 'W':
      case 'H':
        if (in_class) unsupported(two);
        return set(c == 'W' ? kWord : kHex, in_class, /*negated=*/true);
      case 'v':
        out_ += "\\x0B";
        at_ += 2;
        return;
      case 'p':
      case 'P':
        return property(in_class);
      case 'u':
      case 'x':
        return code_point();
      case 'b':
      case 'B':
        if (in_class) break;
        return word_boundary(c == 'B');
      default:
        break;
    }
    if (!is_alnum(c)) {  // a literal: letters of other scripts must not keep the backslash
      ++at_;
      if (static_cast<unsigned char>(c) < 0x80) out_ += '\\';
      return copy();
    }
    const std::string_view allowed = in_class ? "dDntrfaeb" : "dDntrfaeAzZGRX123456789";
    if (allowed.find(c) == allowed.npos) unsupported(two);
    out_ += two;
    at_ += 2;
  }

  void word_boundary(bool negated) {
    const std::string word = std::string("[") + kWord + "]";
    out_ += negated ? "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))"
                    : "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))";
    at_ += 2;
  }

  void property(bool in_class) {
    const size_t end = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || end == in_.npos)
      unsupported(in_.substr(at_, 2));
    std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    bool negated = in_[at_ + 1] == 'P';
    if (!name.empty() && name[0] == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    const bool category =
        std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
    if (!category && !is_script(name)) unsupported(in_.substr(at_, end + 1 - at_));
    at_ = end + 1;
    if (name.size() == 1 &&
        !(negated && in_class)) {  // a category of which PCRE2 may know too little
      const std::string members = "\\p{" + std::string(name) + "}" + newer(name[0]);
      out_ += in_class ? members : (negated ? "[^" : "[") + members + "]";
      return;
    }
    out_ += negated ? "\\P{" : "\\p{";
    // Since 10.40 a bare script name means its extensions too; Oniguruma means the script alone.
    if (!category && pcre2_has_script_prefix()) out_ += "sc:";
    out_ += std::string(name) + "}";
  }

  static std::string newer(char category) {
    std::string members;
    for (const auto& [first, last] : newer_members(category))
      members += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", first, last);
    return members;
  }

  static bool is_script(std::string_view name) {
    static constexpr std::array kScripts = {
        "Arabic",  "Armenian", "Bengali",  "Common", "Cyrillic", "Devanagari", "Georgian",
        "Greek",   "Gujarati", "Gurmukhi", "Han",    "Hangul",   "Hebrew",     "Hiragana",
        "Kannada", "Katakana", "Khmer",    "Lao",    "Latin",    "Malayalam",  "Myanmar",
        "Sinhala", "Tamil",    "Telugu",   "Thai",   "Tibetan"};
    return std::find(kScripts.begin(), kScripts.end(), name) != kScripts.end();
  }
  void code_point() {  // \uHHHH, \xHH, \x{H...}
    const bool braces = in_[at_ + 1] == 'x' && at_ + 2 < in_.size() && in_[at_ + 2] == '{';
    size_t begin = at_ + (braces ? 3 : 2), end = begin;
    const size_t most = braces ? 6 : in_[at_ + 1] == 'u' ? 4 : 2;
    while (end < in_.size() && end - begin < most && is_hex(in_[end])) ++end;
    const bool closed = !braces || (end < in_.size() && in_[end] == '}');
    if (end == begin || !closed || (!braces && end - begin < most)) unsupported(in_.substr(at_, 2));
    // Two digits are one byte in Oniguruma: beyond ASCII that is not a character.
    if (in_[at_ + 1] == 'x' && !braces && in_[begin] > '7') unsupported(in_.substr(at_, 4));
    out_ += "\\x{" + std::string(in_.substr(begin, end - begin)) + "}";
    at_ = end + (braces ? 1 : 0);
  }

  void bracket() {
    out_ += '[';
    ++at_;
    if (ahead("^")) copy();
    if (ahead("]")) {  // first: itself
      out_ += "\\]";
      ++at_;
    }
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '[') unsupported(ahead("[:") ? "[: :]" : "[ inside [ ]");
      if (ahead("&&")) unsupported("&&");
      if (in_[at_] == '\\')
        escape(/*in_class=*/true);
      else
        copy();
    }
    if (at_ >= in_.size()) unsupported("[ without ]");
    out_ += ']';
    ++at_;
  }

  void group() {
    if (ahead("(*")) unsupported("(*");
    if (!ahead("(?")) return copy();
    for (const std::string_view opening : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
      if (!ahead(opening)) continue;
      out_ += opening;
      at_ += opening.size();
      return;
    }
    options();
  }

  void options() {  // (?i-m:...) or (?i); Ruby's m is PCRE2's s
    size_t end = at_ + 2;
    std::string flags;
    for (; end < in_.size() && in_[end] != ':' && in_[end] != ')'; ++end) {
      const char flag = in_[end];
      if (flag != 'i' && flag != 'm' && flag != '-') unsupported(in_.substr(at_, end + 1 - at_));
      flags += flag == 'm' ? 's' : flag;
    }
    if (end >= in_.size()) unsupported(in_.substr(at_));
    out_ += "(?" + flags + in_[end];
    if (in_[end] == ')') groups_.pop_back();
    at_ = end + 1;
  }

  void interval() {
    size_t end = at_ + 1;
    const auto digits = [&] {
      const size_t begin = end;
      while (end < in_.size() && is_digit(in_[end])) ++end;
      return in_.substr(begin, end - begin);
    };
    const std::string_view low = digits();
    const bool range = end < in_.size() && in_[end] == ',';
    if (range) ++end;
    const std::string_view high = range ? digits() : low;
    if (end >= in_.size() || in_[end] != '}' || (low.empty() && high.empty())) {  // a literal brace
      out_ += "\\{";
      ++at_;
      return;
    }
    out_ +=
        "{" + std::string(low.empty() ? "0" : low) + (range ? "," + std::string(high) : "") + "}";
    at_ = end + 1;
    if (ahead("?") && !range) unsupported("{n}?");
    if (ahead("+")) {  // not possessive in Ruby's syntax: repeats the repetition
      out_.insert(atom_, "(?:");
      out_ += ")+";
      ++at_;
    }
  }

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where, in out_, begins what a quantifier would repeat
  std::vector<size_t> groups_;  // where the open groups begin
};

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace weft::text
