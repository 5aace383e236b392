// What Python's str methods do, on UTF-8. Searching is linear whatever the texts are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::text::jinja {

enum class Side { left, right, both };

// The start, stop and step of Python's slice, resolved for a length.
struct Slice {
  int64_t start, stop, step;
  int64_t size() const;
  static Slice resolve(std::optional<int64_t> start, std::optional<int64_t> stop, int64_t step,
                       int64_t length);
};

std::string_view strip(std::string_view text, Side side,
                       std::optional<std::string_view> characters);

// Byte position of the first or last `part`; npos when there is none.
size_t find_first(std::string_view text, std::string_view part, size_t from = 0);
size_t find_last(std::string_view text, std::string_view part);
size_t count_of(std::string_view text, std::string_view part);  // without overlaps

// limit < 0: all. No separator: runs of white space. REQUIRES a separator that is not empty.
std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t limit);
std::vector<std::string_view> split_right(std::string_view text,
                                          std::optional<std::string_view> separator, int64_t limit);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends = false);

// How long replace() would make the text; ask before.
size_t replaced_size(std::string_view text, std::string_view from, std::string_view to,
                     int64_t limit);
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t limit);

std::string slice_text(std::string_view text, const Slice& slice);  // slice in code points
std::string reversed(std::string_view text);

std::string quoted(std::string_view text);                          // repr()
std::string json_quoted(std::string_view text, bool ensure_ascii);  // json.dumps()
std::string html_escaped(std::string_view text);                    // markupsafe.escape()
std::string float_text(double value);                               // repr() of a float

// int(text) and float(text) in base 10 or another; empty when Python would raise ValueError or the
// number does not fit.
std::optional<int64_t> parse_integer(std::string_view text, int base = 10);
std::optional<double> parse_float(std::string_view text);

}  // namespace weft::text::jinja
