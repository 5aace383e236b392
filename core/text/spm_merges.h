// SentencePiece's BPE has scores in place of merges: two neighbours become one token when their
// text is a token, the highest score first.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace weft::text {

// Pairs of ids, strongest first: by score, then by the length of the left and of the right part in
// characters, as transformers' converter orders them. Only tokens of type normal and user_defined
// merge or are merged (`types` as in a GGUF; empty: all normal). REQUIRES: valid UTF-8.
std::vector<std::pair<int32_t, int32_t>> merges_from_scores(const std::vector<std::string>& tokens,
                                                            const std::vector<float>& scores,
                                                            const std::vector<int32_t>& types);

}  // namespace weft::text
