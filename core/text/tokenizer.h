// Text to token ids and back, exactly as Hugging Face's tokenizers do it from the same
// tokenizer.json.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "core/text/added_tokens.h"

namespace weft::text {

struct EncodeOptions {
  bool parse_special = true;  // "<|im_end|>" in the text is the token, not its characters
  bool add_special = false;   // what the post-processor's template adds, such as BOS
};

// Immutable and cheap to copy; every function may be called from any number of threads.
class Tokenizer {
 public:
  // Throw bad_data for what is wrong or not supported, naming `where` and the place in the file.
  static Tokenizer from_json(const Json& definition, const std::string& where);
  static Tokenizer from_file(const std::string& path);  // of a tokenizer.json

  // Ill-formed UTF-8 is read as U+FFFD (one for each maximal part, as Python's errors="replace").
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  // Always valid UTF-8. Ids without a token have no text (embeddings are often padded beyond the
  // vocabulary); a negative id throws bad_data.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  int32_t vocab_size() const;  // largest id + 1, added tokens included
  std::optional<int32_t> id_of(std::string_view token) const;
  // As the file spells it ("Ġthe", "▁the", "<0x0A>"); nullopt for an id without a token.
  std::optional<std::string> token_of(int32_t id) const;
  bool is_special(int32_t id) const;
  const std::vector<AddedToken>& added_tokens() const;  // by id

  // Ids that add_special puts before and after a text.
  const std::vector<int32_t>& prefix_ids() const;
  const std::vector<int32_t>& suffix_ids() const;

  // A complete tokenizer.json: the one that was read.
  Json to_json() const;
  // Fingerprint (32 hex digits) of all that has an effect on ids and text: the same for both
  // spellings of merges and any order of keys.
  std::string hash() const;

 private:
  friend class StreamDecoder;
  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

// Decodes ids as they are generated. Each piece of text ends at the end of a character; all pieces
// and finish() together are decode() of all ids (but for runs of byte tokens that are not UTF-8, of
// which this keeps the characters that are).
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = false);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  std::string push(int32_t id);
  // What was held back. The decoder is then ready for another text.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weft::text
