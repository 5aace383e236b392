#include "core/text/bpe.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "core/base/error.h"
#include "core/text/json_fields.h"
#include "core/text/unicode.h"

namespace weft::text {
namespace {

constexpr size_t kShortPiece = 48;  // symbols up to which scanning for the next merge beats a heap

std::string byte_token(int byte) {
  return fmt::format("<0x{:02X}>", byte);
}

}  // namespace

// A linked list in an array; `next_merge` is of this symbol with its right neighbour.
struct Bpe::Symbol {
  int32_t id;
  int32_t previous = -1, next = -1;
  PairMap::Entry next_merge = {};
};

Bpe::Bpe(const Json& definition, const std::string& where) {
  JsonFields fields(definition, where);
  const std::string type = fields.string_or("type", "BPE");
  if (type != "BPE")
    fail(ErrorKind::bad_data, "{}: the model '{}' is not supported, only BPE", where, type);
  const Json* dropout = fields.find("dropout");
  if (dropout && (!dropout->is_number() || dropout->as_double() != 0))
    fail(ErrorKind::bad_data, "{}: 'dropout' is not supported", where);
  if (fields.find("unk_token")) unk_token_ = fields.string("unk_token");
  prefix_ = fields.string_or("continuing_subword_prefix", "");
  suffix_ = fields.string_or("end_of_word_suffix", "");
  fuse_unk_ = fields.boolean_or("fuse_unk", false);
  byte_fallback_ = fields.boolean_or("byte_fallback", false);
  ignore_merges_ = fields.boolean_or("ignore_merges", false);
  read_vocab(fields.at("vocab"), where + ".vocab");
  read_merges(fields.at("merges"), where + ".merges");
  fields.finish();

  if (unk_token_ && !(unk_id_ = id(*unk_token_)))
    fail(ErrorKind::bad_data, "{}: unk_token '{}' is not in the vocabulary", where, *unk_token_);
  for (int byte = 0; byte < 256; ++byte) byte_ids_.push_back(id(byte_token(byte)).value_or(-1));
  for (const auto& [key, value] : definition.as_object())
    shell_.set(key, key == "vocab" || key == "merges" ? Json() : value);
}

void Bpe::read_vocab(const Json& vocab, const std::string& where) {
  if (!vocab.is_object()) fail(ErrorKind::bad_data, "{}: expected an object", where);
  const auto& members = vocab.as_object();
  const int64_t limit = 2 * static_cast<int64_t>(members.size()) + 4096;  // holes are rare and few
  for (const auto& [token, value] : members) {
    const int64_t id = value.is_int() ? value.as_int() : -1;
    if (id < 0 || id >= limit)
      fail(ErrorKind::bad_data,
           "{}: the id {} of '{}' is out of range in a vocabulary of {} tokens", where,
           value.dump(), token, members.size());
    const size_t at = static_cast<size_t>(id);
    if (at >= tokens_.size()) {
      tokens_.resize(at + 1);
      known_.resize(at + 1);
    }
    if (known_[at])
      fail(ErrorKind::bad_data, "{}: the id {} belongs to '{}' and to '{}'", where, id, tokens_[at],
           token);
    known_[at] = true;
    tokens_[at] = token;
    file_order_.push_back(static_cast<int32_t>(id));
  }
  ids_.reserve(members.size());
  for (const int32_t id : file_order_)
    if (!ids_.emplace(tokens_[id], id).second)
      fail(ErrorKind::bad_data, "{}: the token '{}' is there twice", where, tokens_[id]);
}

void Bpe::read_merges(const Json& merges, const std::string& where) {
  if (!merges.is_array()) fail(ErrorKind::bad_data, "{}: expected an array", where);
  const auto& list = merges.as_array();
  merges_are_pairs_ = list.empty() || list[0].is_array();
  for (const Json& merge : list) {
    if (merge.is_array()) {
      const auto& pair = merge.as_array();
      if (pair.size() == 2 && pair[0].is_string() && pair[1].is_string()) {
        add_merge(pair[0].as_string(), pair[1].as_string(), where);
        continue;
      }
    }
    const std::string_view line = merge.is_string() ? std::string_view(merge.as_string()) : "";
    const size_t space = line.find(' ');
    if (space == line.npos || line.find(' ', space + 1) != line.npos)
      fail(ErrorKind::bad_data, "{}: {} is neither \"a b\" nor [\"a\", \"b\"]", where,
           merge.dump());
    add_merge(line.substr(0, space), line.substr(space + 1), where);
  }
}

void Bpe::add_merge(std::string_view left, std::string_view right, const std::string& where) {
  if (right.size() < prefix_.size())
    fail(ErrorKind::bad_data, "{}: '{}' lacks the prefix '{}'", where, right, prefix_);
  const std::string merged = std::string(left) + std::string(right.substr(prefix_.size()));
  for (const std::string_view token : {left, right, std::string_view(merged)})
    if (!ids_.count(token))
      fail(ErrorKind::bad_data,
           "{}: merge {} of '{}' and '{}' names '{}', which is not in the vocabulary", where,
           merges_.size(), left, right, token);
  const Merge merge{ids_.at(left), ids_.at(right)};
  ranks_.set({merge.left, merge.right, static_cast<int32_t>(merges_.size()), ids_.at(merged)});
  merges_.push_back(merge);
}

const std::string* Bpe::token(int32_t id) const {
  return id >= 0 && id < size() && known_[id] ? &tokens_[id] : nullptr;
}

std::optional<int32_t> Bpe::id(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

bool Bpe::byte_symbols(std::string_view character, std::vector<Symbol>& symbols) const {
  const auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
  if (!std::all_of(character.begin(), character.end(), [&](char c) { return byte_id(c) >= 0; }))
    return false;
  for (const char c : character) symbols.push_back({byte_id(c)});
  return true;
}

// The characters of a piece as tokens, with byte fallback and unknown characters, not yet linked.
std::vector<Bpe::Symbol> Bpe::symbols_of(std::string_view piece) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  bool unknown = false;  // an unknown token waits, so that the next may fuse with it
  std::string spelled;
  for (size_t at = 0; at < piece.size();) {
    const size_t begin = at;
    next_code_point(piece, at);
    std::string_view character = piece.substr(begin, at - begin);
    const bool prefixed = begin > 0 && !prefix_.empty(),
               suffixed = at == piece.size() && !suffix_.empty();
    if (prefixed || suffixed) {
      spelled = (prefixed ? prefix_ : "") + std::string(character) + (suffixed ? suffix_ : "");
      character = spelled;
    }
    if (const auto known = id(character)) {
      if (unknown) symbols.push_back({*unk_id_});
      unknown = false;
      symbols.push_back({*known});
      continue;
    }
    if (byte_fallback_ && byte_symbols(character, symbols)) continue;
    if (!unk_id_) continue;  // dropped, as Hugging Face does
    if (unknown && !fuse_unk_) symbols.push_back({*unk_id_});
    unknown = true;
  }
  if (unknown) symbols.push_back({*unk_id_});
  return symbols;
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (piece.empty()) return;
  if (ignore_merges_) {
    if (const auto whole = id(piece)) return ids.push_back(*whole);
  }
  std::vector<Symbol> symbols = symbols_of(piece);
  if (symbols.size() <= kShortPiece)
    merge_short(symbols);
  else
    merge_long(symbols);
  for (const Symbol& symbol : symbols)
    if (symbol.id >= 0) ids.push_back(symbol.id);
}

// The strongest merge is found by looking at all; of equals the leftmost.
void Bpe::merge_short(std::vector<Symbol>& symbols) const {
  for (size_t i = 0; i + 1 < symbols.size(); ++i)
    symbols[i].next_merge = ranks_.find(symbols[i].id, symbols[i + 1].id);
  while (true) {
    size_t best = symbols.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const int32_t rank = symbols[i].next_merge.rank;
      if (rank >= 0 && (best == symbols.size() || rank < symbols[best].next_merge.rank)) best = i;
    }
    if (best == symbols.size()) return;
    symbols[best].id = symbols[best].next_merge.merged;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    const auto merge_at = [&](size_t i) {
      const bool last = i + 1 == symbols.size();
      symbols[i].next_merge =
          last ? PairMap::Entry{} : ranks_.find(symbols[i].id, symbols[i + 1].id);
    };
    merge_at(best);
    if (best > 0) merge_at(best - 1);
  }
}

// The same by a heap of candidates; one that no longer holds is recognised by its pair and skipped.
void Bpe::merge_long(std::vector<Symbol>& symbols) const {
  struct Candidate {
    int32_t rank, position, left, right, merged;
    bool operator<(const Candidate& o) const {  // the heap's top is the largest
      return rank != o.rank ? rank > o.rank : position > o.position;
    }
  };
  std::priority_queue<Candidate> queue;
  const auto offer = [&](int32_t at) {
    if (at < 0 || symbols[at].next < 0) return;
    const PairMap::Entry& e = ranks_.find(symbols[at].id, symbols[symbols[at].next].id);
    if (e.rank >= 0) queue.push({e.rank, at, e.left, e.right, e.merged});
  };
  const auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[i].previous = i - 1;
    symbols[i].next = i + 1 < count ? i + 1 : -1;
  }
  for (int32_t i = 0; i < count; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.position];
    if (left.id != top.left || left.next < 0 || symbols[left.next].id != top.right) continue;
    Symbol& right = symbols[left.next];
    left.id = top.merged;
    left.next = right.next;
    if (right.next >= 0) symbols[right.next].previous = top.position;
    right.id = -1;
    offer(left.previous);
    offer(top.position);
  }
}

Json Bpe::to_json() const {
  Json::Object vocab;
  vocab.reserve(file_order_.size());
  for (const int32_t id : file_order_) vocab.emplace_back(tokens_[id], id);
  Json::Array merges;
  merges.reserve(merges_.size());
  for (const auto& [left, right] : merges_) {
    if (merges_are_pairs_)
      merges.push_back(Json::Array{tokens_[left], tokens_[right]});
    else
      merges.push_back(tokens_[left] + " " + tokens_[right]);
  }
  Json out = shell_;
  for (auto& [key, value] : out.object()) {
    if (key == "vocab") value = std::move(vocab);
    if (key == "merges") value = std::move(merges);
  }
  return out;
}

}  // namespace weft::text
