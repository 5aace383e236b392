// Python's strings: text is UTF-8, positions and lengths count code points. Invalid bytes count as
// one code point each; nothing here fails on them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::text::jinja {

// The code point that starts at `position`, which moves behind it. REQUIRES position < text.size().
char32_t next_code_point(std::string_view text, size_t& position);
void append_code_point(std::string& text, char32_t code_point);
bool is_valid_utf8(std::string_view text);
size_t count_code_points(std::string_view text);
std::vector<std::string_view> split_code_points(std::string_view text);

bool is_space(char32_t c);      // str.isspace
bool is_name_part(char32_t c);  // letters, digits, marks, underscore
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_alpha(char32_t c);
bool is_digit(char32_t c);
bool is_printable(char32_t c);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);         // str.title
std::string title_filter(std::string_view text);  // Jinja's filter, which splits words differently

// str.isupper and str.islower; the others demand every code point and at least one.
bool all_upper(std::string_view text);
bool all_lower(std::string_view text);
bool all_of(std::string_view text, bool (*property)(char32_t));

}  // namespace weft::text::jinja
