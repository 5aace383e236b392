// GPT-2's spelling of bytes: each byte is one printable character.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace weft::text {

// The character of each byte.
const std::array<std::string, 256>& byte_level_alphabet();
// The byte that a character stands for; -1 for a character outside the alphabet.
int byte_level_byte(uint32_t code_point);

// GPT-2's own splitting pattern.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace weft::text
