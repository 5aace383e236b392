// The "pre_tokenizer" of tokenizer.json: cuts a text into the pieces that BPE works on, one by one.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "core/base/json.h"
#include "core/text/regex.h"

namespace weft::text {

// A text and its pieces, in order; text outside all pieces is dropped.
struct Pieces {
  std::string text;
  std::vector<Match> spans;
  bool starts_input = false;  // the first piece is the start of what the user gave

  std::string_view piece(size_t i) const {
    return std::string_view(text).substr(spans[i].begin, spans[i].end - spans[i].begin);
  }
};

class PreTokenizer {
 public:
  PreTokenizer() = default;  // one piece
  // null, ByteLevel, Digits, Split, Metaspace, Sequence. Anything else throws bad_data.
  PreTokenizer(const Json& definition, const std::string& where);

  // REQUIRES: valid UTF-8. No piece of the result is empty.
  void apply(Pieces& pieces) const;

 private:
  enum class Behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };
  enum class Scheme { always, never, first };
  struct ByteLevel {
    bool add_prefix_space;
    bool use_regex;
  };
  struct Digits {
    bool individual;
  };
  struct Split {
    Regex pattern;
    Behavior behavior;
    bool invert;
  };
  struct Metaspace {
    std::string replacement;
    Regex pattern;  // the replacement
    Scheme scheme;
    bool split;
  };
  using Step = std::variant<ByteLevel, Digits, Split, Metaspace>;
  // A stretch of a piece that the pattern matched, or that lies between matches.
  struct Stretch {
    Match range;
    bool matched;
  };

  void add(const Json& definition, const std::string& where);
  static Metaspace parse_metaspace(const Json& definition, const std::string& where);
  static Behavior parse_behavior(const std::string& name, const std::string& where);

  static void run(const ByteLevel& step, Pieces& pieces);
  static void run(const Digits& step, Pieces& pieces);
  static void run(const Split& step, Pieces& pieces);
  static void run(const Metaspace& step, Pieces& pieces);

  static std::vector<Stretch> stretches(size_t size, const std::vector<Match>& matches);
  static void cut(size_t offset, const std::vector<Stretch>& stretches, Behavior behavior,
                  std::vector<Match>& spans);

  std::vector<Step> steps_;
};

}  // namespace weft::text
