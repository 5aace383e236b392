#include "checkpoint/native_piece.h"

#include <utility>

#include "core/base/error.h"

namespace weft::checkpoint {

void append(std::vector<Piece>& pieces, const RangeOf& range) {
  int64_t done = 0;
  if (range.value.numel() == 0) return;
  for (Box& box : parallel::boxes(range.shape, range.begin, range.value.numel())) {
    const int64_t count = box.numel();
    pieces.push_back({range.kind, range.name, range.shape, std::move(box),
                      range.value.flat(done, Shape{count})});
    done += count;
  }
  CHECK(done == range.value.numel(), "{} of {} elements of {}", done, range.value.numel(),
        range.name);
}

std::vector<Piece> snapshot(const std::vector<Piece>& pieces) {
  std::vector<Piece> copies = pieces;
  for (Piece& piece : copies) piece.value = piece.value.clone(MemoryTag::workspace);
  return copies;
}

}  // namespace weft::checkpoint
