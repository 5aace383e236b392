// Sizes and times as people write them, and numbers read strictly from text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace weft {

// A number of bytes: "2GiB", "141GB", "512MB", "4096".
struct Bytes {
  int64_t count = 0;
  bool operator==(const Bytes&) const = default;
};

// A span of time: "45s", "30min", "2h", "1h30min", "500ms".
struct Duration {
  double seconds = 0;
  bool operator==(const Duration&) const = default;
};

// The whole text must be the value; nullopt otherwise. None of them depends on the locale.
// Integers may be written 1e3, 1_000 or 1000.0; leading zeros are refused (octal in YAML 1.1).
std::optional<int64_t> parse_integer(std::string_view text);
// Finite numbers only: nan and inf are refused.
std::optional<double> parse_number(std::string_view text);
// true/false, yes/no, on/off in any case.
std::optional<bool> parse_boolean(std::string_view text);
// KB, MB, GB, TB are powers of 1000; KiB, MiB, GiB, TiB powers of 1024; no unit means bytes.
std::optional<Bytes> parse_bytes(std::string_view text);
// Units ms, s, min, h, d (also sec, seconds, m, minutes, hours, days). A bare number counts in
// `bare_unit_seconds`.
std::optional<Duration> parse_duration(std::string_view text, double bare_unit_seconds = 1);

// Exact: parse(format(x)) == x.
std::string format_exact(double value);    // the shortest text that reads back as the same number
std::string format_exact(Bytes value);     // "2GiB", "141GB", "1234"
std::string format_exact(Duration value);  // "30min", "1.5h", "45s"

// For people, rounded: "1.23 GiB", "1 h 05 min", "12.3k", "0.000123".
std::string human_bytes(double bytes);
std::string human_duration(double seconds);
std::string human_count(double count);

}  // namespace weft
