// Hash map from a pair of ids to the merge of that pair: flat, built once, read by many threads.
#pragma once

#include <cstdint>
#include <vector>

namespace weft::text {

class PairMap {
 public:
  struct Entry {
    int32_t left = -1, right = -1;
    int32_t rank = -1;    // -1: no merge
    int32_t merged = -1;  // the id that the pair becomes
  };

  // Replaces what an earlier set said of the same pair.
  void set(const Entry& entry) {
    if (2 * (used_ + 1) > entries_.size()) grow();
    Entry& slot = entries_[slot_of(entry.left, entry.right)];
    if (slot.rank < 0) ++used_;
    slot = entry;
  }

  // rank < 0 when there is none.
  const Entry& find(int32_t left, int32_t right) const {
    static const Entry kNone;
    return entries_.empty() ? kNone : entries_[slot_of(left, right)];
  }

 private:
  size_t slot_of(int32_t left, int32_t right) const {
    uint64_t hash = (uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right)) *
                    0x9E3779B97F4A7C15u;
    size_t slot = (hash ^ hash >> 32) & (entries_.size() - 1);
    while (entries_[slot].rank >= 0 &&
           (entries_[slot].left != left || entries_[slot].right != right))
      slot = (slot + 1) & (entries_.size() - 1);
    return slot;
  }

  void grow() {
    std::vector<Entry> old(entries_.empty() ? 16 : 2 * entries_.size());
    old.swap(entries_);
    for (const Entry& entry : old)
      if (entry.rank >= 0) entries_[slot_of(entry.left, entry.right)] = entry;
  }

  std::vector<Entry> entries_;  // a power of two, at most half full
  size_t used_ = 0;
};

}  // namespace weft::text
