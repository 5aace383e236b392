#include "core/text/tokenizer.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/text/bpe.h"
#include "core/text/decoder.h"
#include "core/text/fingerprint.h"
#include "core/text/json_fields.h"
#include "core/text/normalizer.h"
#include "core/text/piece_cache.h"
#include "core/text/post_processor.h"
#include "core/text/pretokenizer.h"
#include "core/text/unicode.h"

namespace weft::text {
namespace {

const Json kNull;

const Json& member(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  return value ? *value : kNull;
}

// Caches that no call is using. A call borrows one, so that none is ever shared.
class CachePool {
 public:
  std::unique_ptr<PieceCache> borrow() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<PieceCache>();
    auto cache = std::move(free_.back());
    free_.pop_back();
    return cache;
  }
  void give_back(std::unique_ptr<PieceCache> cache) {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(cache));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<PieceCache>> free_;
};

}  // namespace

struct Tokenizer::Impl {
  Impl(const Json& definition, const std::string& where);

  void read_added_tokens(const Json& list, const std::string& where);
  void check_ids(const std::vector<int32_t>& ids, const std::string& where) const;
  const AddedToken* added(int32_t id) const;
  std::optional<std::string> token(int32_t id) const;
  std::optional<std::string> decoder_input(int32_t id) const;

  void encode_section(std::string_view section, bool at_start, bool parse_special,
                      PieceCache& cache, std::vector<int32_t>& ids) const;
  void encode_piece(std::string_view piece, PieceCache& cache, std::vector<int32_t>& ids) const;

  Bpe bpe;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  Decoder decoder;
  std::vector<AddedToken> added_tokens;  // by id
  std::vector<std::string>
      spellings;           // of each, in the normalized text where it is looked for there
  TokenFinder raw_finder;  // before normalization
  TokenFinder normalized_finder;
  bool has_normalized_tokens = false;
  int32_t vocab_size = 0;
  Json shell;  // the definition without the model

  mutable CachePool caches;
  mutable std::once_flag hash_once;
  mutable std::string hash;
};

Tokenizer::Impl::Impl(const Json& definition, const std::string& where)
    : bpe(definition.at("model"), where + ": model"),
      normalizer(member(definition, "normalizer"), where + ": normalizer"),
      pre_tokenizer(member(definition, "pre_tokenizer"), where + ": pre_tokenizer"),
      post_processor(PostProcessor::from_json(member(definition, "post_processor"),
                                              where + ": post_processor")),
      decoder(member(definition, "decoder"), where + ": decoder") {
  JsonFields fields(definition, where);
  fields.ignore({"model", "normalizer", "pre_tokenizer", "post_processor", "decoder"});
  const std::string version = fields.string_or("version", "1.0");
  if (version != "1.0")
    fail(ErrorKind::bad_data, "{}: version '{}' is not supported", where, version);
  // How somebody batched, not how text becomes ids; transformers resets both at every call too.
  for (const char* key : {"truncation", "padding"})
    if (fields.find(key))
      log::warn("{}: '{}' is not applied: lengths are set by the config", where, key);
  if (fields.find("added_tokens")) read_added_tokens(fields.at("added_tokens"), where);
  fields.finish();

  vocab_size = bpe.size();
  if (!added_tokens.empty()) vocab_size = std::max(vocab_size, added_tokens.back().id + 1);
  check_ids(post_processor.prefix, where);
  check_ids(post_processor.suffix, where);
  for (const auto& [key, value] : definition.as_object())
    shell.set(key, key == "model" ? Json() : value);
}

void Tokenizer::Impl::read_added_tokens(const Json& list, const std::string& where) {
  if (!list.is_array()) fail(ErrorKind::bad_data, "{}: 'added_tokens' must be an array", where);
  std::map<std::string_view, int32_t> by_content;
  int64_t next = bpe.count();
  for (const Json& entry : list.as_array()) {
    const std::string place = fmt::format("{}: added_tokens[{}]", where, added_tokens.size());
    AddedToken token = AddedToken::from_json(entry, place);
    const std::string* owner = bpe.token(token.id);
    const std::optional<int32_t> other = bpe.id(token.content);
    if ((owner && *owner != token.content) || (other && *other != token.id))
      fail(ErrorKind::bad_data, "{}: '{}' has the id {}, but in the vocabulary {}", place,
           token.content, token.id,
           other ? fmt::format("it has {}", *other) : fmt::format("that is '{}'", *owner));
    if (!other && token.id != next)
      fail(ErrorKind::bad_data,
           "{}: '{}' has the id {}, but Hugging Face's tokenizers number what is not in the "
           "vocabulary from its "
           "size on, which gives {}",
           place, token.content, token.id, next);
    next = std::max<int64_t>(next, int64_t{token.id} + 1);
    added_tokens.push_back(std::move(token));
  }
  std::sort(added_tokens.begin(), added_tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (size_t i = 0; i < added_tokens.size(); ++i) {
    const AddedToken& token = added_tokens[i];
    const bool new_content = by_content.emplace(token.content, token.id).second;
    if (!new_content || (i > 0 && added_tokens[i - 1].id == token.id))
      fail(ErrorKind::bad_data, "{}: added_tokens: the id {} or the token '{}' is there twice",
           where, token.id, token.content);
    spellings.push_back(token.normalized ? normalizer.apply(token.content) : token.content);
    (token.normalized ? normalized_finder : raw_finder).add(spellings.back(), &token);
    has_normalized_tokens |= token.normalized;
  }
}

void Tokenizer::Impl::check_ids(const std::vector<int32_t>& ids, const std::string& where) const {
  for (const int32_t id : ids)
    if (!token(id))
      fail(ErrorKind::bad_data, "{}: post_processor: no token has the id {}", where, id);
}

const AddedToken* Tokenizer::Impl::added(int32_t id) const {
  const auto found =
      std::lower_bound(added_tokens.begin(), added_tokens.end(), id,
                       [](const AddedToken& token, int32_t i) { return token.id < i; });
  return found != added_tokens.end() && found->id == id ? &*found : nullptr;
}

std::optional<std::string> Tokenizer::Impl::token(int32_t id) const {
  if (const AddedToken* token = added(id)) return token->content;
  const std::string* token = bpe.token(id);
  return token ? std::optional<std::string>(*token) : std::nullopt;
}

std::optional<std::string> Tokenizer::Impl::decoder_input(int32_t id) const {
  const AddedToken* token = added(id);
  return token ? spellings[static_cast<size_t>(token - added_tokens.data())] : this->token(id);
}

// A stretch of the input between added tokens that are not normalized.
void Tokenizer::Impl::encode_section(std::string_view section, bool at_start, bool parse_special,
                                     PieceCache& cache, std::vector<int32_t>& ids) const {
  const std::string normalized = normalizer.apply(std::string(section));
  std::vector<TokenFinder::Found> parts;
  if (has_normalized_tokens)
    parts = normalized_finder.split(normalized, parse_special);
  else if (!normalized.empty())
    parts.push_back({0, normalized.size(), nullptr});
  Pieces pieces;
  for (const auto& part : parts) {
    if (part.token) {
      ids.push_back(part.token->id);
      continue;
    }
    pieces.text = normalized.substr(part.begin, part.end - part.begin);
    pieces.spans = {{0, pieces.text.size()}};
    pieces.starts_input = at_start && part.begin == 0;
    pre_tokenizer.apply(pieces);
    for (size_t i = 0; i < pieces.spans.size(); ++i) encode_piece(pieces.piece(i), cache, ids);
  }
}

void Tokenizer::Impl::encode_piece(std::string_view piece, PieceCache& cache,
                                   std::vector<int32_t>& ids) const {
  if (piece.size() > PieceCache::kMaxPieceBytes) return bpe.encode(piece, ids);
  PieceCache::Slot& slot = cache.slot(piece);
  if (slot.piece != piece) {
    slot.piece = piece;
    slot.ids.clear();
    bpe.encode(piece, slot.ids);
  }
  ids.insert(ids.end(), slot.ids.begin(), slot.ids.end());
}

Tokenizer Tokenizer::from_json(const Json& definition, const std::string& where) {
  if (!definition.find("model"))
    fail(ErrorKind::bad_data, "{}: not a tokenizer.json: it has no 'model'", where);
  return Tokenizer(std::make_shared<const Impl>(definition, where));
}

Tokenizer Tokenizer::from_file(const std::string& path) {
  return from_json(Json::parse_file(path), path);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = repair_utf8(text);
  std::vector<int32_t> ids;
  if (options.add_special) ids = prefix_ids();
  auto cache = impl_->caches.borrow();
  for (const auto& part : impl_->raw_finder.split(text, options.parse_special)) {
    if (part.token)
      ids.push_back(part.token->id);
    else
      impl_->encode_section(text.substr(part.begin, part.end - part.begin), part.begin == 0,
                            options.parse_special, *cache, ids);
  }
  impl_->caches.give_back(std::move(cache));
  if (options.add_special) ids.insert(ids.end(), suffix_ids().begin(), suffix_ids().end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  Decoding decoding(impl_->decoder, /*early=*/false);
  std::string text;
  for (const int32_t id : ids) {
    if (id < 0) fail(ErrorKind::bad_data, "decode: {} is not a token id", id);
    if (skip_special && is_special(id)) continue;
    if (auto token = impl_->decoder_input(id)) text += decoding.push(std::move(*token));
  }
  return text + decoding.finish();
}

int32_t Tokenizer::vocab_size() const {
  return impl_->vocab_size;
}

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  for (const AddedToken& added : impl_->added_tokens)
    if (added.content == token) return added.id;
  return impl_->bpe.id(token);
}

std::optional<std::string> Tokenizer::token_of(int32_t id) const {
  return impl_->token(id);
}

bool Tokenizer::is_special(int32_t id) const {
  const AddedToken* token = impl_->added(id);
  return token && token->special;
}

const std::vector<AddedToken>& Tokenizer::added_tokens() const {
  return impl_->added_tokens;
}
const std::vector<int32_t>& Tokenizer::prefix_ids() const {
  return impl_->post_processor.prefix;
}
const std::vector<int32_t>& Tokenizer::suffix_ids() const {
  return impl_->post_processor.suffix;
}

Json Tokenizer::to_json() const {
  Json out = impl_->shell;
  out.set("model", impl_->bpe.to_json());
  return out;
}

std::string Tokenizer::hash() const {
  std::call_once(impl_->hash_once, [this] { impl_->hash = fingerprint(to_json()); });
  return impl_->hash;
}

struct StreamDecoder::State {
  Tokenizer tokenizer;
  bool skip_special;
  Decoding decoding;
};

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special) {
  const Decoder& decoder = tokenizer.impl_->decoder;
  state_.reset(new State{std::move(tokenizer), skip_special, Decoding(decoder, /*early=*/true)});
}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(int32_t id) {
  if (id < 0) fail(ErrorKind::bad_data, "decode: {} is not a token id", id);
  const Tokenizer& tokenizer = state_->tokenizer;
  if (state_->skip_special && tokenizer.is_special(id)) return {};
  auto token = tokenizer.impl_->decoder_input(id);
  return token ? state_->decoding.push(std::move(*token)) : std::string();
}

std::string StreamDecoder::finish() {
  std::string rest = state_->decoding.finish();
  const Decoder& decoder = state_->tokenizer.impl_->decoder;
  state_.reset(
      new State{std::move(state_->tokenizer), state_->skip_special, Decoding(decoder, true)});
  return rest;
}

}  // namespace weft::text
