#include "core/base/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

namespace weft {
namespace {

struct Unit {
  const char* name;
  double factor;
};

constexpr double kKi = 1024.0;
constexpr Unit kByteUnits[] = {
    {"", 1},
    {"b", 1},
    {"kb", 1e3},
    {"mb", 1e6},
    {"gb", 1e9},
    {"tb", 1e12},
    {"kib", kKi},
    {"mib", kKi* kKi},
    {"gib", kKi* kKi* kKi},
    {"tib", kKi* kKi* kKi* kKi},
};
constexpr Unit kTimeUnits[] = {
    {"ms", 1e-3},   {"s", 1},        {"sec", 1},     {"second", 1},   {"seconds", 1},
    {"m", 60},      {"min", 60},     {"minute", 60}, {"minutes", 60}, {"h", 3600},
    {"hour", 3600}, {"hours", 3600}, {"d", 86400},   {"day", 86400},  {"days", 86400},
};

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  return text;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// "1_000" -> "1000"; an underscore anywhere but between two digits makes the text no number.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

// "+1" -> "1"; "+-1" stays, and is no number.
std::string_view without_plus(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && (is_digit(text[1]) || text[1] == '.'))
    text.remove_prefix(1);
  return text;
}

// A decimal number without sign tricks: digits, point, exponent; no hex, no nan, no inf.
std::optional<double> parse_decimal(std::string_view text) {
  text = without_plus(text);
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return is_digit(c) || c == '.' || c == 'e' || c == 'E' || c == '-' || c == '+';
  });
  if (text.empty() || !plain) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

template <size_t N>
std::optional<double> factor_of(const Unit (&units)[N], const std::string& name) {
  for (const Unit& unit : units)
    if (name == unit.name) return unit.factor;
  return std::nullopt;
}

// The end of the number at the front of "2.5GiB" or "1e3s".
size_t number_length(std::string_view text) {
  size_t i = 0;
  while (i < text.size() && (is_digit(text[i]) || text[i] == '.' || text[i] == '_')) ++i;
  if (i + 1 < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    size_t j = i + 1 + (text[i + 1] == '-' || text[i + 1] == '+');
    if (j < text.size() && is_digit(text[j])) {
      while (j < text.size() && is_digit(text[j])) ++j;
      i = j;
    }
  }
  return i;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  const auto digits = without_underscores(trim(text));
  if (!digits || digits->empty()) return std::nullopt;
  const std::string_view number = without_plus(*digits);
  const std::string_view magnitude =
      !number.empty() && number.front() == '-' ? number.substr(1) : number;
  if (magnitude.size() > 1 && magnitude[0] == '0' && is_digit(magnitude[1])) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error == std::errc() && end == number.data() + number.size()) return value;
  const auto real = parse_decimal(number);
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (!real || *real != std::floor(*real) || std::abs(*real) > kExact) return std::nullopt;
  return static_cast<int64_t>(*real);
}

std::optional<double> parse_number(std::string_view text) {
  const auto digits = without_underscores(trim(text));
  return digits ? parse_decimal(*digits) : std::nullopt;
}

std::optional<bool> parse_boolean(std::string_view text) {
  const std::string word = lower(trim(text));
  if (word == "true" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "no" || word == "off") return false;
  return std::nullopt;
}

std::optional<Bytes> parse_bytes(std::string_view text) {
  text = trim(text);
  const size_t length = number_length(text);
  const auto number = parse_number(text.substr(0, length));
  const auto factor = factor_of(kByteUnits, lower(trim(text.substr(length))));
  if (!number || !factor) return std::nullopt;
  const double bytes = std::round(*number * *factor);
  if (!(bytes < 9.2e18)) return std::nullopt;
  return Bytes{static_cast<int64_t>(bytes)};
}

std::optional<Duration> parse_duration(std::string_view text, double bare_unit_seconds) {
  text = trim(text);
  if (const auto bare = parse_number(text)) {
    if (*bare < 0) return std::nullopt;
    return Duration{*bare * bare_unit_seconds};
  }
  double total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    const size_t length = number_length(text);
    const auto number = parse_number(text.substr(0, length));
    text = trim(text.substr(length));
    const auto is_letter = [](unsigned char c) { return std::isalpha(c) != 0; };
    const size_t unit_length = std::find_if_not(text.begin(), text.end(), is_letter) - text.begin();
    const auto factor = factor_of(kTimeUnits, lower(text.substr(0, unit_length)));
    if (!number || !factor) return std::nullopt;
    total += *number * *factor;
    text = trim(text.substr(unit_length));
  }
  if (!std::isfinite(total)) return std::nullopt;
  return Duration{total};
}

std::string format_exact(double value) {
  const double magnitude = std::abs(value);
  const bool fixed = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e15);
  std::array<char, 64> buffer;
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                    fixed ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer.data(), error == std::errc() ? end : buffer.data());
  const size_t exponent = text.find('e');  // "1e-08" -> "1e-8"
  if (exponent != std::string::npos && text[exponent + 2] == '0') text.erase(exponent + 2, 1);
  return text;
}

std::string format_exact(Bytes value) {
  constexpr std::pair<const char*, int64_t> kUnits[] = {{"TiB", int64_t{1} << 40},
                                                        {"GiB", int64_t{1} << 30},
                                                        {"MiB", int64_t{1} << 20},
                                                        {"TB", 1000000000000},
                                                        {"GB", 1000000000},
                                                        {"MB", 1000000},
                                                        {"KiB", 1024},
                                                        {"KB", 1000}};
  for (const auto& [name, factor] : kUnits)
    if (value.count != 0 && value.count % factor == 0)
      return fmt::format("{}{}", value.count / factor, name);
  return std::to_string(value.count);
}

std::string format_exact(Duration value) {
  constexpr std::pair<const char*, double> kUnits[] = {{"d", 86400}, {"h", 3600}, {"min", 60}};
  for (const auto& [name, factor] : kUnits) {
    const double count = value.seconds / factor;
    if (count >= 1 && count == std::floor(count)) return format_exact(count) + name;
  }
  return format_exact(value.seconds) + "s";
}

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (std::abs(bytes) >= 1000 && unit + 1 < std::size(units)) {
    bytes /= kKi;
    ++unit;
  }
  if (unit == 0) return fmt::format("{:.0f} B", bytes);
  const int decimals = std::abs(bytes) < 10 ? 2 : std::abs(bytes) < 100 ? 1 : 0;
  return fmt::format("{:.{}f} {}", bytes, decimals, units[unit]);
}

std::string human_duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 10) return fmt::format("{:.1f} s", seconds);
  const auto total = static_cast<int64_t>(std::min(seconds + 0.5, 1e15));
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {:02} s", total / 60, total % 60);
  if (total < 86400) return fmt::format("{} h {:02} min", total / 3600, total / 60 % 60);
  return fmt::format("{} d {:02} h", total / 86400, total / 3600 % 24);
}

std::string human_count(double count) {
  const double magnitude = std::abs(count);
  if (magnitude < 1000) return fmt::format("{:.4g}", count);
  const char* suffixes[] = {"k", "M", "G", "T"};
  size_t i = 0;
  count /= 1000;
  while (std::abs(count) >= 999.5 && i + 1 < std::size(suffixes)) {
    count /= 1000;
    ++i;
  }
  return fmt::format("{:.3g}{}", count, suffixes[i]);
}

}  // namespace weft
