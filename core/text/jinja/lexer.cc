#include "core/text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/unicode.h"

namespace weft::text::jinja {
namespace {

constexpr size_t kMaxSource = size_t{1} << 20;
constexpr size_t npos = std::string_view::npos;

std::string normal_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();  // as keep_trailing_newline=False
  return out;
}

class Lexer {
 public:
  Lexer(std::string source, const std::string& where) : source_(std::move(source)), where_(where) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) read_text();
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(position_); }
  bool starts(std::string_view text) const { return rest().substr(0, text.size()) == text; }
  [[noreturn]] void error(const std::string& what) const { syntax_error(where_, line_, what); }

  void add(TokenKind kind, std::string text, Value value = {}) {
    tokens_.push_back({kind, line_, std::move(text), std::move(value)});
  }

  void advance(size_t count) {
    const auto begin = source_.begin() + static_cast<std::ptrdiff_t>(position_);
    line_ += static_cast<int>(std::count(begin, begin + static_cast<std::ptrdiff_t>(count), '\n'));
    position_ += count;
  }

  void skip_space() {
    const size_t left = strip(rest(), Side::left, std::nullopt).size();
    advance(source_.size() - position_ - left);
  }

  // The next "{{", "{%" or "{#" from `from` on.
  size_t find_tag(size_t from) const {
    for (size_t at = source_.find('{', from); at + 1 < source_.size();
         at = source_.find('{', at + 1)) {
      if (at == npos) break;
      const char next = source_[at + 1];
      if (next == '{' || next == '%' || next == '#') return at;
    }
    return npos;
  }

  // Text before a tag whose sign is at `sign_at`: `-` takes all white space, otherwise a block or
  // comment that stands alone at the start of its line takes the line's indentation.
  std::string_view trimmed(std::string_view text, size_t sign_at, bool variable) const {
    const char sign = sign_at < source_.size() ? source_[sign_at] : '\0';
    if (sign == '-') return strip(text, Side::right, std::nullopt);
    if (sign == '+' || variable) return text;
    const size_t newline = text.rfind('\n');
    if (newline == npos && !line_starts_) return text;
    const size_t begin = newline == npos ? 0 : newline + 1;
    const bool blank = strip(text.substr(begin), Side::left, std::nullopt).empty();
    return blank ? text.substr(0, begin) : text;
  }

  void read_text() {
    const size_t tag = find_tag(position_);
    if (tag == npos) {
      add(TokenKind::text, std::string(rest()));
      return advance(source_.size() - position_);
    }
    const char opener = source_[tag + 1];
    const std::string_view text = std::string_view(source_).substr(position_, tag - position_);
    const std::string_view kept = trimmed(text, tag + 2, opener == '{');
    if (!kept.empty()) add(TokenKind::text, std::string(kept));
    advance(tag - position_);
    if (opener == '#') return read_comment();
    if (opener == '%' && read_raw()) return;
    add(opener == '{' ? TokenKind::variable_begin : TokenKind::block_begin, "");
    advance(2);
    if (starts("-") || starts("+")) advance(1);
    opener == '{' ? read_tag("}}", TokenKind::variable_end) : read_tag("%}", TokenKind::block_end);
  }

  // Moves behind a closing tag ("%}" or "#}", with its sign before it).
  void close(std::string_view tag, bool trims) {
    const char sign = source_[position_];
    const size_t begin = position_;
    advance(tag.size() + (sign == '-' || sign == '+' ? 1 : 0));
    if (sign == '-')
      skip_space();
    else if (sign != '+' && trims && starts("\n"))
      advance(1);
    line_starts_ = position_ > begin && source_[position_ - 1] == '\n';
  }

  bool at_close(std::string_view tag, bool plus) const {
    return starts(tag) || ((starts("-") || (plus && starts("+"))) && rest().substr(1, 2) == tag);
  }

  void read_comment() {
    advance(2);
    if (starts("-") || starts("+")) advance(1);
    const size_t end = source_.find("#}", position_);
    if (end == npos) error("the comment has no end, '#}'");
    const bool has_sign = end > position_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
    advance(end - position_ - (has_sign ? 1 : 0));
    close("#}", true);
  }

  // {% raw %} ... {% endraw %}; false when the block at hand is another.
  bool read_raw() {
    auto word_at = [&](size_t at, std::string_view word) -> size_t {
      std::string_view tail = std::string_view(source_).substr(at);
      if (!tail.empty() && (tail[0] == '-' || tail[0] == '+')) tail.remove_prefix(1);
      tail = strip(tail, Side::left, std::nullopt);
      if (tail.substr(0, word.size()) != word) return npos;
      tail = strip(tail.substr(word.size()), Side::left, std::nullopt);
      const bool sign = !tail.empty() && (tail[0] == '-' || tail[0] == '+');
      return tail.substr(sign ? 1 : 0, 2) == "%}" ? source_.size() - tail.size() : npos;
    };
    const size_t opened = word_at(position_ + 2, "raw");
    if (opened == npos || source_[opened] == '+') return false;
    advance(opened - position_);
    close("%}", false);
    size_t end = source_.find("{%", position_);
    while (end != npos && word_at(end + 2, "endraw") == npos) end = source_.find("{%", end + 2);
    if (end == npos) error("the raw block has no end, '{% endraw %}'");
    const std::string_view text = std::string_view(source_).substr(position_, end - position_);
    const std::string_view kept = trimmed(text, end + 2, false);
    if (!kept.empty()) add(TokenKind::text, std::string(kept));
    advance(word_at(end + 2, "endraw") - position_);
    close("%}", true);
    return true;
  }

  void read_tag(std::string_view end, TokenKind end_kind) {
    std::string open;  // brackets, the last is the innermost
    for (;;) {
      skip_space();
      if (position_ >= source_.size()) error("the tag has no end, '" + std::string(end) + "'");
      if (open.empty() && at_close(end, end_kind == TokenKind::block_end)) {
        add(end_kind, "");
        return close(end, end_kind == TokenKind::block_end);
      }
      read_token(open);
    }
  }

  void read_token(std::string& open) {
    const char c = source_[position_];
    if (c >= '0' && c <= '9') return read_number();
    if (c == '\'' || c == '"') return read_string();
    size_t end = position_;
    for (size_t i = position_; i < source_.size() && is_name_part(next_code_point(source_, i));)
      end = i;
    if (end > position_) {
      add(TokenKind::name, source_.substr(position_, end - position_));
      return advance(end - position_);
    }
    static constexpr std::array<std::string_view, 6> kLong = {"//", "**", "==", "!=", ">=", "<="};
    std::string symbol(1, c);
    for (std::string_view candidate : kLong)
      if (starts(candidate)) symbol = candidate;
    if (symbol.size() == 1 && std::string_view("+-/*%~[](){}<>=.:|,;").find(c) == npos)
      error("unexpected character " + quoted(split_code_points(rest().substr(0, 4))[0]));
    balance(c, open);
    add(TokenKind::symbol, symbol);
    advance(symbol.size());
  }

  void balance(char c, std::string& open) const {
    if (c == '(') open += ')';
    if (c == '[') open += ']';
    if (c == '{') open += '}';
    if (c != ')' && c != ']' && c != '}') return;
    if (open.empty() || open.back() != c) error(std::string("unexpected '") + c + "'");
    open.pop_back();
  }

  // Digits from `at` on, with single underscores between them.
  size_t digits_end(size_t at, std::string_view allowed) const {
    auto is_digit_at = [&](size_t i) {
      return i < source_.size() && allowed.find(source_[i]) != npos;
    };
    while (is_digit_at(at) || (at < source_.size() && source_[at] == '_' && is_digit_at(at + 1)))
      ++at;
    return at;
  }

  void read_number() {
    constexpr std::string_view kDigits = "0123456789";
    const size_t begin = position_;
    const char base_mark =
        begin + 1 < source_.size() ? static_cast<char>(source_[begin + 1] | 0x20) : '\0';
    const int base = source_[begin] != '0' ? 10
                     : base_mark == 'x'    ? 16
                     : base_mark == 'o'    ? 8
                     : base_mark == 'b'    ? 2
                                           : 10;
    if (base != 10) {
      const size_t end =
          digits_end(begin + 2, base == 16 ? "0123456789abcdefABCDEF"
                                           : kDigits.substr(0, static_cast<size_t>(base)));
      return add_integer(end, base);
    }
    const size_t whole = digits_end(begin, kDigits);
    size_t end = whole;
    const bool after_dot = begin > 0 && source_[begin - 1] == '.';
    if (!after_dot && end < source_.size() && source_[end] == '.' &&
        digits_end(end + 1, kDigits) > end + 1)
      end = digits_end(end + 1, kDigits);
    if (!after_dot && end < source_.size() && (source_[end] | 0x20) == 'e') {
      size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-'))
        ++exponent;
      if (digits_end(exponent, kDigits) > exponent) end = digits_end(exponent, kDigits);
    }
    if (end == whole) return add_integer(end, 10);
    const auto value = parse_float(std::string_view(source_).substr(begin, end - begin));
    if (!value) error("not a number: " + source_.substr(begin, end - begin));
    add(TokenKind::real, "", *value);
    advance(end - begin);
  }

  void add_integer(size_t end, int base) {
    const std::string text = source_.substr(position_, end - position_);
    const auto value = parse_integer(text, base);
    if (!value) error("not an integer of 64 bits: " + text);
    if (base == 10 && text[0] == '0' && *value != 0) error("integers do not start with 0: " + text);
    add(TokenKind::integer, text, *value);
    advance(text.size());
  }

  void read_string() {
    const char quote = source_[position_];
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) error("the string has no end");
    const std::string_view body =
        std::string_view(source_).substr(position_ + 1, end - position_ - 1);
    add(TokenKind::string, unescaped(body));
    advance(end + 1 - position_);
  }

  std::string unescaped(std::string_view body) const {
    std::string out;
    for (size_t i = 0; i < body.size();) {
      if (body[i] != '\\') {
        out += body[i++];
        continue;
      }
      const char c = body[i + 1];
      const bool octal = c >= '0' && c <= '7';
      i += octal ? 1 : 2;
      constexpr std::string_view kNames = "abfnrtv\\'\"", kBytes = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t at = kNames.find(c); at != npos)
        out += kBytes[at];
      else if (c == 'x' || c == 'u' || c == 'U')
        append_escape(out, body, i, c == 'x' ? 2 : c == 'u' ? 4 : 8, 16);
      else if (octal)
        append_escape(out, body, i, octal_digits(body.substr(i)), 8);
      else if (c == 'N')
        error("\\N{...} is not supported in strings");
      else if (c != '\n')
        out += '\\', out += c;
    }
    return out;
  }

  static size_t octal_digits(std::string_view text) {
    size_t count = 0;
    while (count < 3 && count < text.size() && text[count] >= '0' && text[count] <= '7') ++count;
    return count;
  }

  void append_escape(std::string& out, std::string_view body, size_t& i, size_t digits,
                     int base) const {
    constexpr std::string_view kHex = "0123456789abcdefABCDEF";
    const std::string_view text = body.substr(i, digits);
    if (text.size() < digits || text.find_first_not_of(kHex) != npos)
      error("a string has an incomplete escape");
    const auto code_point = parse_integer(text, base);
    if (!code_point || *code_point > 0x10FFFF || (*code_point >= 0xD800 && *code_point < 0xE000))
      error("a string has an escape that is not a character: " + std::string(text));
    append_code_point(out, static_cast<char32_t>(*code_point));
    i += digits;
  }

  std::string source_;
  const std::string& where_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // the text at hand begins a line
  std::vector<Token> tokens_;
};

}  // namespace

void syntax_error(const std::string& where, int line, const std::string& what) {
  fail(ErrorKind::bad_data, "{}: chat template, line {}: {}", where, line, what);
}

std::vector<Token> tokenize(std::string_view source, const std::string& where) {
  if (source.size() > kMaxSource)
    fail(ErrorKind::bad_data, "{}: a template of {} bytes is larger than the limit of {}", where,
         source.size(), kMaxSource);
  if (!is_valid_utf8(source))
    fail(ErrorKind::bad_data, "{}: the template is not valid UTF-8", where);
  return Lexer(normal_newlines(source), where).run();
}

}  // namespace weft::text::jinja
