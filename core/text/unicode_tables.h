// Where the libraries that tokenizers are made with and those of our systems know different
// versions of Unicode. With these tables the ids do not depend on the system's PCRE2 and utf8proc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace weft::text {

struct CodePointRange {
  uint32_t first, last;
};

// Characters of general category L, M, N, P or S that are newer than the oldest PCRE2 supported.
std::span<const CodePointRange> newer_members(char category);
// Characters that are numeric and newer than the oldest utf8proc supported.
std::span<const CodePointRange> newer_numeric();
// Characters that are newer than the normal forms of Hugging Face's tokenizers (Unicode 9): they
// have neither class nor decomposition there, and compose with nothing.
std::span<const CodePointRange> inert_in_normal_forms();

// REQUIRES: sorted ranges.
inline bool contains(std::span<const CodePointRange> ranges, uint32_t c) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), c,
                       [](uint32_t v, const CodePointRange& r) { return v < r.first; });
  return after != ranges.begin() && c <= (after - 1)->last;
}

}  // namespace weft::text
