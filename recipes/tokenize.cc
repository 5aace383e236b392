#include "recipes/tokenize.h"

#include <istream>
#include <ostream>

#include "core/base/error.h"
#include "core/base/json.h"
#include "recipes/open_tokenizer.h"

namespace weft::recipes {
namespace {

Json encode_line(const text::Tokenizer& tokenizer, const Json& line, const std::string& where) {
  const Json* text = line.find("text");
  if (!text || !text->is_string())
    fail(ErrorKind::bad_data, "{}: expected an object with a text, {{\"text\": \"...\"}}", where);
  Json::Array ids;
  for (int32_t id : tokenizer.encode(text->as_string())) ids.emplace_back(int64_t{id});
  return ids;
}

Json decode_line(const text::Tokenizer& tokenizer, const Json& line, const std::string& where) {
  if (!line.is_array())
    fail(ErrorKind::bad_data, "{}: expected an array of token ids, [1, 2, 3]", where);
  std::vector<int32_t> ids;
  for (const Json& id : line.as_array()) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() >= tokenizer.vocab_size())
      fail(ErrorKind::bad_data, "{}: {} is no token id; there are {}", where, id.dump(),
           tokenizer.vocab_size());
    ids.push_back(static_cast<int32_t>(id.as_int()));
  }
  Json text;
  text.set("text", tokenizer.decode(ids));
  return text;
}

}  // namespace

void run_tokenize(const TokenizeOptions& options, std::istream& in, std::ostream& out) {
  const text::Tokenizer tokenizer = open_tokenizer(options.model).tokenizer;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    const std::string where = fmt::format("standard input:{}", number);
    const Json json = Json::parse(line, where);
    const Json result =
        options.decode ? decode_line(tokenizer, json, where) : encode_line(tokenizer, json, where);
    out << result.dump() << '\n';
    if (in.rdbuf()->in_avail() <= 0) out.flush();  // whoever writes a line at a time gets answers
    if (!out) fail(ErrorKind::io, "standard output: the answer to line {} was not taken", number);
  }
}

}  // namespace weft::recipes
