#include "core/text/byte_level.h"

#include "core/text/unicode.h"

namespace weft::text {
namespace {

bool stands_for_itself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

}  // namespace

const std::array<std::string, 256>& byte_level_alphabet() {
  static const auto alphabet = [] {
    std::array<std::string, 256> characters;
    uint32_t next = 256;
    for (int byte = 0; byte < 256; ++byte)
      append_utf8(stands_for_itself(byte) ? byte : next++, characters[byte]);
    return characters;
  }();
  return alphabet;
}

int byte_level_byte(uint32_t code_point) {
  static const auto bytes = [] {
    std::array<int, 512> table;
    table.fill(-1);
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) table[stands_for_itself(byte) ? byte : next++] = byte;
    return table;
  }();
  return code_point < bytes.size() ? bytes[code_point] : -1;
}

}  // namespace weft::text
