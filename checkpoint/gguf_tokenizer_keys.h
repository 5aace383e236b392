// The "tokenizer.*" keys of GGUF metadata.
#pragma once

#include "checkpoint/gguf.h"
#include "core/text/gguf_tokenizer.h"

namespace weft::checkpoint {

bool has_tokenizer(const GgufMetadata& metadata);
// Throws bad_data when a key is missing or of another type. What the values mean is checked by
// text::from_gguf.
text::GgufTokenizer tokenizer_keys_of(const GgufMetadata& metadata);
void add_tokenizer_keys(GgufMetadata& metadata, const text::GgufTokenizer& tokenizer);

}  // namespace weft::checkpoint
