// `weft tokenize MODEL`: texts to token ids and back, a line at a time.
#pragma once

#include <iosfwd>
#include <string>

namespace weft::recipes {

struct TokenizeOptions {
  std::string model;  // model folder, .gguf file, or tokenizer.json
  bool decode = false;
};

// Reads JSONL {"text": ...} and writes a JSON array of ids a line: no BOS added, special tokens in
// the text parsed. With `decode`, reads arrays of ids and writes {"text": ...}. Throws bad_data
// with the line's number.
void run_tokenize(const TokenizeOptions& options, std::istream& in, std::ostream& out);

}  // namespace weft::recipes
