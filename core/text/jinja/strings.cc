#include "core/text/jinja/strings.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/text/jinja/unicode.h"

namespace weft::text::jinja {
namespace {

constexpr size_t npos = std::string_view::npos;

// The start of the code point that ends at `end`.
size_t step_back(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80)
    --begin;
  size_t after = begin;
  next_code_point(text, after);
  return after == end ? begin : end - 1;
}

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

std::vector<std::string_view> split_on_space(std::string_view text, int64_t limit) {
  std::vector<std::string_view> parts;
  text = strip(text, Side::left, std::nullopt);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.push_back(text);
      break;
    }
    size_t end = 0;
    for (size_t i = 0; i < text.size() && !is_space(next_code_point(text, i));) end = i;
    parts.push_back(text.substr(0, end));
    text = strip(text.substr(end), Side::left, std::nullopt);
  }
  return parts;
}

std::vector<std::string_view> split_right_on_space(std::string_view text, int64_t limit) {
  std::vector<std::string_view> parts;
  text = strip(text, Side::right, std::nullopt);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.push_back(text);
      break;
    }
    size_t begin = text.size();
    while (begin > 0) {
      const size_t before = step_back(text, begin);
      size_t i = before;
      if (is_space(next_code_point(text, i))) break;
      begin = before;
    }
    parts.push_back(text.substr(begin));
    text = strip(text.substr(0, begin), Side::right, std::nullopt);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

}  // namespace

int64_t Slice::size() const {
  if (step > 0) return start < stop ? (stop - start - 1) / step + 1 : 0;
  return start > stop ? (start - stop - 1) / -step + 1 : 0;
}

Slice Slice::resolve(std::optional<int64_t> start, std::optional<int64_t> stop, int64_t step,
                     int64_t length) {
  step = std::clamp(step, -INT64_MAX, INT64_MAX);
  const int64_t lowest = step < 0 ? -1 : 0;
  const int64_t highest = step < 0 ? length - 1 : length;
  auto place = [&](std::optional<int64_t> index, int64_t otherwise) {
    if (!index) return otherwise;
    if (*index < 0) return std::max(*index + length, lowest);
    return std::min(*index, highest);
  };
  return {place(start, step < 0 ? highest : lowest), place(stop, step < 0 ? lowest : highest),
          step};
}

std::string_view strip(std::string_view text, Side side,
                       std::optional<std::string_view> characters) {
  std::u32string set;
  if (characters)
    for (size_t i = 0; i < characters->size();) set += next_code_point(*characters, i);
  std::sort(set.begin(), set.end());
  auto goes = [&](char32_t c) {
    return characters ? std::binary_search(set.begin(), set.end(), c) : is_space(c);
  };
  size_t begin = 0;
  if (side != Side::right)
    for (size_t i = 0; i < text.size() && goes(next_code_point(text, i));) begin = i;
  text.remove_prefix(begin);
  while (side != Side::left && !text.empty()) {
    const size_t last = step_back(text, text.size());
    size_t i = last;
    if (!goes(next_code_point(text, i))) break;
    text = text.substr(0, last);
  }
  return text;
}

size_t find_first(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return npos;
  // memmem is linear; string_view::find is quadratic for hostile texts.
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data()) : npos;
}

size_t find_last(std::string_view text, std::string_view part) {
  const std::string backward(text.rbegin(), text.rend());
  const std::string part_backward(part.rbegin(), part.rend());
  const size_t found = find_first(backward, part_backward);
  return found == npos ? npos : text.size() - found - part.size();
}

size_t count_of(std::string_view text, std::string_view part) {
  if (part.empty()) return count_code_points(text) + 1;
  size_t count = 0;
  for (size_t at = find_first(text, part); at != npos; ++count)
    at = find_first(text, part, at + part.size());
  return count;
}

std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t limit) {
  if (!separator) return split_on_space(text, limit);
  std::vector<std::string_view> parts;
  size_t begin = 0;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t end = find_first(text, *separator, begin);
    if (end == npos) break;
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator->size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<std::string_view> split_right(std::string_view text,
                                          std::optional<std::string_view> separator,
                                          int64_t limit) {
  if (!separator) return split_right_on_space(text, limit);
  const std::string backward(text.rbegin(), text.rend());
  const std::string separator_backward(separator->rbegin(), separator->rend());
  std::vector<std::string_view> parts;
  for (std::string_view part : split(backward, separator_backward, limit)) {
    const size_t begin_backward = static_cast<size_t>(part.data() - backward.data());
    parts.push_back(text.substr(text.size() - begin_backward - part.size(), part.size()));
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t end = i;
    const char32_t c = next_code_point(text, i);
    if (!is_line_end(c)) continue;
    if (c == '\r' && i < text.size() && text[i] == '\n') ++i;
    lines.push_back(text.substr(begin, (keep_ends ? i : end) - begin));
    begin = i;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

size_t replaced_size(std::string_view text, std::string_view from, std::string_view to,
                     int64_t limit) {
  if (to.size() <= from.size()) return text.size();
  size_t count = count_of(text, from);
  if (limit >= 0) count = std::min(count, static_cast<size_t>(limit));
  return text.size() + count * (to.size() - from.size());
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t limit) {
  std::string out;
  if (from.empty()) {
    if (limit == 0) return std::string(text);
    out = to;
    int64_t done = 1;
    for (std::string_view character : split_code_points(text)) {
      out += character;
      if (limit < 0 || done < limit) out += to;
      ++done;
    }
    return out;
  }
  bool first = true;
  for (std::string_view part : split(text, from, limit)) {
    if (!first) out += to;
    first = false;
    out += part;
  }
  return out;
}

std::string slice_text(std::string_view text, const Slice& slice) {
  if (slice.step == 1) {
    size_t position = 0;
    int64_t index = 0;
    for (; index < slice.start && position < text.size(); ++index) next_code_point(text, position);
    const size_t begin = position;
    for (; index < slice.stop && position < text.size(); ++index) next_code_point(text, position);
    return std::string(text.substr(begin, position - begin));
  }
  const auto characters = split_code_points(text);
  std::string out;
  const int64_t count = slice.size();
  for (int64_t i = 0; i < count; ++i)
    out += characters[static_cast<size_t>(slice.start + i * slice.step)];
  return out;
}

std::string reversed(std::string_view text) {
  const auto characters = split_code_points(text);
  std::string out;
  out.reserve(text.size());
  for (auto it = characters.rbegin(); it != characters.rend(); ++it) out += *it;
  return out;
}

std::string quoted(std::string_view text) {
  const bool double_quotes = text.find('\'') != npos && text.find('"') == npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string out(1, quote);
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = next_code_point(text, i);
    if (c == static_cast<unsigned char>(quote) || c == '\\')
      out += '\\', out += static_cast<char>(c);
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (is_printable(c))
      out += text.substr(begin, i - begin);
    else
      out += c < 0x100     ? fmt::format("\\x{:02x}", uint32_t{c})
             : c < 0x10000 ? fmt::format("\\u{:04x}", uint32_t{c})
                           : fmt::format("\\U{:08x}", uint32_t{c});
  }
  return out + quote;
}

std::string json_quoted(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = next_code_point(text, i);
    switch (c) {
      case '"':
        out += "\\\"";
        continue;
      case '\\':
        out += "\\\\";
        continue;
      case '\n':
        out += "\\n";
        continue;
      case '\r':
        out += "\\r";
        continue;
      case '\t':
        out += "\\t";
        continue;
      case '\b':
        out += "\\b";
        continue;
      case '\f':
        out += "\\f";
        continue;
      default:
        break;
    }
    if (c >= 0x20 && (!ensure_ascii || c < 0x7F))
      out += text.substr(begin, i - begin);
    else if (c < 0x10000)
      out += fmt::format("\\u{:04x}", uint32_t{c});
    else
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((uint32_t{c} - 0x10000) >> 10),
                         0xDC00 + ((uint32_t{c} - 0x10000) & 0x3FF));
  }
  return out + '"';
}

std::string html_escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);  // the shortest that reads back, as Python's
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::optional<int64_t> parse_integer(std::string_view text, int base) {
  text = strip(text, Side::both, std::nullopt);
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  const char marker = base == 16 ? 'x' : base == 8 ? 'o' : base == 2 ? 'b' : '\0';
  if (marker && text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == marker)
    text.remove_prefix(2);
  if (text.empty() || text.front() == '_' || text.back() == '_') return std::nullopt;
  int64_t value = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_' && text[i - 1] != '_') continue;
    const int digit = digit_value(text[i]);
    if (digit >= base || __builtin_mul_overflow(value, int64_t{base}, &value) ||
        __builtin_add_overflow(value, int64_t{digit}, &value))
      return std::nullopt;
  }
  return negative ? -value : value;
}

std::optional<double> parse_float(std::string_view text) {
  text = strip(text, Side::both, std::nullopt);
  std::string lower = to_lower(text);
  const bool negative = !lower.empty() && lower[0] == '-';
  if (!lower.empty() && (lower[0] == '-' || lower[0] == '+')) lower.erase(0, 1);
  if (lower == "inf" || lower == "infinity") return negative ? -INFINITY : INFINITY;
  if (lower == "nan") return NAN;
  if (lower.empty() || lower.find_first_not_of("0123456789.e+-_") != std::string::npos)
    return std::nullopt;
  if (lower[0] == '+' || lower[0] == '-') return std::nullopt;
  for (size_t i = lower.find('_'); i != std::string::npos; i = lower.find('_', i)) {
    const auto is_number = [&](size_t at) { return at < lower.size() && std::isdigit(lower[at]); };
    if (i == 0 || !is_number(i - 1) || !is_number(i + 1)) return std::nullopt;
    lower.erase(i, 1);
  }
  double value = 0;
  const auto [end, error] = std::from_chars(lower.data(), lower.data() + lower.size(), value);
  if (end != lower.data() + lower.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range)  // too large or too small: what strtod makes of it
    value = std::strtod(lower.c_str(), nullptr);
  return negative ? -value : value;
}

}  // namespace weft::text::jinja
