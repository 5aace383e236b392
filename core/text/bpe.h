// Byte-pair encoding of one piece: the "model" of tokenizer.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/json.h"
#include "core/text/pair_map.h"

namespace weft::text {

class Bpe {
 public:
  // Throws bad_data: not BPE, an option that is not supported, ids twice or out of range, a merge
  // of tokens that do not exist.
  Bpe(const Json& definition, const std::string& where);
  Bpe(const Bpe&) = delete;
  Bpe& operator=(const Bpe&) = delete;

  // Appends the ids of a piece, O(n log n). Safe from any number of threads. REQUIRES: valid UTF-8.
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }       // largest id + 1
  int64_t count() const { return static_cast<int64_t>(file_order_.size()); }  // tokens
  const std::string* token(int32_t id) const;                                 // nullptr: no such id
  std::optional<int32_t> id(std::string_view token) const;

  struct Merge {
    int32_t left, right;
  };
  const std::vector<Merge>& merges() const { return merges_; }  // first is strongest
  bool byte_fallback() const { return byte_fallback_; }
  bool ignore_merges() const { return ignore_merges_; }
  const std::optional<std::string>& unk_token() const { return unk_token_; }

  // The definition, as it was read.
  Json to_json() const;

 private:
  struct Symbol;

  void read_vocab(const Json& vocab, const std::string& where);
  void read_merges(const Json& merges, const std::string& where);
  void add_merge(std::string_view left, std::string_view right, const std::string& where);
  std::vector<Symbol> symbols_of(std::string_view piece) const;
  bool byte_symbols(std::string_view character, std::vector<Symbol>& symbols) const;
  void merge_short(std::vector<Symbol>& symbols) const;
  void merge_long(std::vector<Symbol>& symbols) const;

  std::vector<std::string> tokens_;  // by id
  std::vector<bool> known_;          // by id: false is a hole
  std::unordered_map<std::string_view, int32_t> ids_;
  std::vector<Merge> merges_;
  PairMap ranks_;                  // pair -> rank and merged id
  std::vector<int32_t> byte_ids_;  // of <0x00> to <0xFF>; -1: absent
  std::optional<int32_t> unk_id_;

  std::optional<std::string> unk_token_;
  std::string prefix_;  // continuing_subword_prefix
  std::string suffix_;  // end_of_word_suffix
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;

  Json shell_;                       // the definition without vocab and merges
  std::vector<int32_t> file_order_;  // ids in the order of the file
  bool merges_are_pairs_ = true;
};

}  // namespace weft::text
