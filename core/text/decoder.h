// The "decoder" of tokenizer.json: token strings to text, as they come.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/base/json.h"
#include "core/text/normalizer.h"
#include "core/text/regex.h"
#include "core/text/unicode.h"

namespace weft::text {

class Decoder {
 public:
  Decoder() : Decoder(Json(), "decoder") {}
  // null (tokens with spaces between), ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip,
  // Sequence. Anything else throws bad_data.
  Decoder(const Json& definition, const std::string& where);

 private:
  friend class Decoding;
  struct Spaces {};
  struct ByteLevel {};
  struct Metaspace {
    std::string replacement;
    bool drop_first;
  };
  struct Replace {
    Regex pattern;
    std::string content;
  };
  struct ByteFallback {};
  struct Fuse {};
  struct Strip {
    std::string content;  // one character
    int64_t start, stop;
  };
  using Step = std::variant<Spaces, ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip>;

  void add(const Json& definition, const std::string& where);

  std::vector<Step> steps_;
};

// One run of a decoder. The decoder must outlive it.
class Decoding {
 public:
  // Byte tokens whose run is not UTF-8 as a whole are all U+FFFD in Hugging Face's decoder. With
  // `early`, characters are given as soon as they are complete, and only the ill-formed part is
  // U+FFFD.
  Decoding(const Decoder& decoder, bool early);

  // The text that is certain after this token. It ends at the end of a character.
  std::string push(std::string token);
  // The rest. Nothing may be pushed afterwards.
  std::string finish();

 private:
  struct State {
    bool inside = false;  // its input is the parts of one token, not tokens
    bool waits = false;   // for all parts, because it needs the whole token
    int64_t count = 0;    // tokens seen, or characters stripped
    std::string held;
    Utf8Stream characters;
  };

  void feed(size_t step, std::string token);
  void end(size_t step);
  std::string whole(size_t step, std::string token);
  void feed_bytes(size_t step, uint8_t byte);
  void end_bytes(size_t step);
  std::string strip_stream(size_t step, std::string part);

  const Decoder& decoder_;
  bool early_;
  std::vector<State> states_;
  std::string out_;
};

}  // namespace weft::text
