// Remembers the ids of pieces that come again and again. Bounded: a piece takes the place of
// whichever was in its slot. Not for use by two threads at once.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::text {

class PieceCache {
 public:
  static constexpr size_t kMaxPieceBytes = 64;

  struct Slot {
    std::string piece;
    std::vector<int32_t> ids;
  };

  // The slot of a piece: its ids are valid when slot.piece is the piece; else the caller fills
  // both.
  Slot& slot(std::string_view piece) {
    if (slots_.empty()) slots_.resize(kSlots);
    return slots_[std::hash<std::string_view>{}(piece) & (kSlots - 1)];
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 15;
  std::vector<Slot> slots_;
};

}  // namespace weft::text
