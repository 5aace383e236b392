// A fingerprint of a JSON value that does not depend on how it was written.
#pragma once

#include <string>

#include "core/base/json.h"

namespace weft::text {

// Hash (XXH3, 128 bits, 32 hex digits) of a tokenizer.json: keys in sorted order, merges as pairs,
// null and absent the same, "truncation" and "padding" left out. Recorded in datasets: it never
// changes.
std::string fingerprint(const Json& tokenizer);

}  // namespace weft::text
