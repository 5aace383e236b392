#include "parallel/box.h"

#include <algorithm>

#include "core/base/error.h"

namespace weft::parallel {
namespace {

// Appends the boxes of elements [begin, end) of the tensor that `prefix` leaves: dims below
// prefix.size() are fixed. A partial first row, whole rows, a partial last row; the partial ones
// are the same question one dim deeper.
void append_boxes(const Shape& shape, const std::vector<int64_t>& prefix, int64_t begin,
                  int64_t end, std::vector<Box>* out) {
  if (begin >= end) return;
  const int dim = static_cast<int>(prefix.size());
  int64_t row = 1;  // elements of one index of `dim`
  for (int d = dim + 1; d < shape.rank(); ++d) row *= shape[d];
  const int64_t first = (begin + row - 1) / row, last = end / row;  // whole rows [first, last)
  const auto deeper = [&](int64_t index, int64_t from, int64_t to) {
    std::vector<int64_t> longer = prefix;
    longer.push_back(index);
    append_boxes(shape, longer, from - index * row, to - index * row, out);
  };
  if (first > last) return deeper(begin / row, begin, end);  // inside one row
  if (begin < first * row) deeper(first - 1, begin, first * row);
  if (first < last) {
    Box box = whole(shape);
    for (int d = 0; d < dim; ++d) {
      box.begin[d] = prefix[d];
      box.end[d] = prefix[d] + 1;
    }
    box.begin[dim] = first;
    box.end[dim] = last;
    out->push_back(std::move(box));
  }
  if (last * row < end) deeper(last, last * row, end);
}

std::vector<int64_t> strides_of(const Box& box) {
  std::vector<int64_t> strides(box.begin.size(), 1);
  for (size_t d = strides.size(); d-- > 1;)
    strides[d - 1] = strides[d] * (box.end[d] - box.begin[d]);
  return strides;
}

// Appends, joined with the run before when both sides go on where it ended.
void append_run(std::vector<CopyRun>* runs, const CopyRun& run) {
  if (!runs->empty()) {
    CopyRun& last = runs->back();
    if (last.source + last.count == run.source &&
        last.destination + last.count == run.destination) {
      last.count += run.count;
      return;
    }
  }
  runs->push_back(run);
}

void append_runs(const Box& stored, const Box& wanted, int64_t wanted_offset,
                 std::vector<CopyRun>* runs) {
  const Box shared = intersect(stored, wanted);
  if (shared.numel() == 0) return;
  const size_t rank = shared.begin.size();
  const int64_t length = rank == 0 ? 1 : shared.end[rank - 1] - shared.begin[rank - 1];
  const std::vector<int64_t> from = strides_of(stored), to = strides_of(wanted);
  std::vector<int64_t> index = shared.begin;  // of the first element of a run
  for (int64_t left = shared.numel() / length; left > 0; --left) {
    CopyRun run{0, wanted_offset, length};
    for (size_t d = 0; d < rank; ++d) {
      run.source += (index[d] - stored.begin[d]) * from[d];
      run.destination += (index[d] - wanted.begin[d]) * to[d];
    }
    append_run(runs, run);
    for (size_t d = rank; d-- > 0;) {  // the next run: all dims but the last one count on
      if (d == rank - 1) continue;
      if (++index[d] < shared.end[d]) break;
      index[d] = shared.begin[d];
    }
  }
}

}  // namespace

int64_t Box::numel() const {
  int64_t n = 1;
  for (size_t d = 0; d < begin.size(); ++d) n *= std::max<int64_t>(0, end[d] - begin[d]);
  return n;
}

Shape Box::shape() const {
  std::vector<int64_t> dims;
  for (size_t d = 0; d < begin.size(); ++d) dims.push_back(std::max<int64_t>(0, end[d] - begin[d]));
  return Shape(dims);
}

Box whole(const Shape& shape) {
  return {std::vector<int64_t>(shape.rank(), 0), shape.to_vector()};
}

Box intersect(const Box& a, const Box& b) {
  CHECK(a.begin.size() == b.begin.size(), "boxes of {} and {} dims", a.begin.size(),
        b.begin.size());
  Box shared = a;
  for (size_t d = 0; d < a.begin.size(); ++d) {
    shared.begin[d] = std::max(a.begin[d], b.begin[d]);
    shared.end[d] = std::max(shared.begin[d], std::min(a.end[d], b.end[d]));
  }
  return shared;
}

std::vector<Box> boxes(const Shape& shape, int64_t begin, int64_t count) {
  CHECK(0 <= begin && 0 <= count && begin + count <= shape.numel(), "{} elements from {} of {}",
        count, begin, shape.to_string());
  std::vector<Box> out;
  if (count == 0) return out;
  if (shape.rank() == 0) return {Box{}};
  append_boxes(shape, {}, begin, begin + count, &out);
  return out;
}

std::vector<CopyRun> copy_runs(const Box& stored, const Box& wanted) {
  std::vector<CopyRun> runs;
  append_runs(stored, wanted, 0, &runs);
  return runs;
}

std::vector<CopyRun> copy_runs(const Box& stored, const Shape& shape, int64_t begin,
                               int64_t count) {
  std::vector<CopyRun> runs;
  int64_t offset = 0;
  for (const Box& wanted : boxes(shape, begin, count)) {
    append_runs(stored, wanted, offset, &runs);
    offset += wanted.numel();
  }
  return runs;
}

}  // namespace weft::parallel
