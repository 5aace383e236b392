#include "parallel/host_plans.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "parallel/host_sums.h"

namespace weft::parallel {
namespace {

constexpr size_t kBlockBytes = size_t{512} << 10;  // of a message: bounds scratch, paces the rounds

// Elements [begin, begin + count) of a flat buffer.
struct Range {
  int64_t begin = 0, count = 0;
};

std::vector<Range> even_ranges(int64_t count, int size) {
  std::vector<Range> ranges;
  for (int p = 0; p < size; ++p) {
    const int64_t begin = count * p / size;
    ranges.push_back({begin, count * (p + 1) / size - begin});
  }
  return ranges;
}

// What every rank of a collective must agree on.
struct Signature {
  uint64_t sequence;
  int32_t op, reduce, dtype, root;
  int64_t input, output;
  std::array<char, 48> tag;  // its end, filled with zeros
  bool operator==(const Signature&) const = default;
};

Signature signature_of(const Call& call) {
  const Tensor& x = call.input;
  Signature s{call.sequence,
              static_cast<int32_t>(call.op),
              static_cast<int32_t>(call.reduce),
              x.defined() ? static_cast<int32_t>(x.dtype()) : -1,
              call.root,
              x.defined() ? x.numel() : 0,
              call.output.defined() ? call.output.numel() : 0,
              {}};
  const size_t length = std::min(call.tag.size(), s.tag.size());
  std::copy_n(call.tag.end() - static_cast<ptrdiff_t>(length), length, s.tag.begin());
  return s;
}

std::string to_string(const Signature& s) {
  const std::string tag(s.tag.begin(), std::find(s.tag.begin(), s.tag.end(), '\0'));
  return fmt::format("call {}: {} of {} {} elements to {}, root {}, for '{}'", s.sequence,
                     name_of(static_cast<CallOp>(s.op)), s.input,
                     s.dtype < 0 ? "" : name_of(static_cast<DType>(s.dtype)), s.output, s.root,
                     tag);
}

// The call as the closures of its steps hold it.
struct Frame {
  Call call;
  int rank, size;

  static char* address(const Tensor& t, int64_t element) {
    return static_cast<char*>(t.raw()) + static_cast<size_t>(element) * size_of(t.dtype());
  }
  static Message message(int peer, const Tensor& t, Range range) {
    return {peer, address(t, range.begin), static_cast<size_t>(range.count) * size_of(t.dtype())};
  }
  int64_t block() const { return static_cast<int64_t>(kBlockBytes / size_of(call.input.dtype())); }
  // Block `index` of a range, empty past its end.
  Range block_of(Range range, int64_t index) const {
    const int64_t begin = std::min(range.count, index * block());
    return {range.begin + begin, std::min(block(), range.count - begin)};
  }
  int64_t blocks_of(const std::vector<Range>& ranges) const {
    int64_t longest = 0;
    for (const Range& range : ranges) longest = std::max(longest, range.count);
    return (longest + block() - 1) / block();
  }
};
using FramePtr = std::shared_ptr<const Frame>;

void agree(Plan& plan, const FramePtr& f) {
  auto mine = std::make_shared<Signature>(signature_of(f->call));
  auto all = std::make_shared<std::vector<Signature>>(f->size, *mine);
  plan.push_back({false, [=] {
                    Round round;
                    for (int p = 0; p < f->size; ++p) {
                      if (p == f->rank) continue;
                      round.sends.push_back({p, mine.get(), sizeof(Signature)});
                      round.receives.push_back({p, &(*all)[p], sizeof(Signature)});
                    }
                    round.then = [=] {
                      for (int p = 0; p < f->size; ++p)
                        if ((*all)[p] != *mine)
                          fail(ErrorKind::internal,
                               "[communicator] ranks disagree: rank {} does {}, rank {} does {}",
                               f->rank, to_string(*mine), p, to_string((*all)[p]));
                    };
                    return round;
                  }});
}

// Round `index` of a reduction: block `index` of each rank's range goes to that rank, which sums
// the blocks into `out`. Rounds take turns with the two halves of the scratch.
Round reduce_round(const FramePtr& f, const std::vector<Range>& ranges, const Tensor& scratch,
                   int64_t index, const Tensor& out) {
  Round round;
  const Range mine = f->block_of(ranges[f->rank], index);
  const int64_t longest = scratch.dim(2);
  std::vector<const void*> parts;
  for (int p = 0; p < f->size; ++p) {
    if (p == f->rank) {
      parts.push_back(Frame::address(f->call.input, mine.begin));
      continue;
    }
    const int64_t slot = (index % 2) * (f->size - 1) + p - (p > f->rank);
    const Message due = Frame::message(p, scratch, {slot * longest, mine.count});
    parts.push_back(due.data);
    round.receives.push_back(due);
    round.sends.push_back(Frame::message(p, f->call.input, f->block_of(ranges[p], index)));
  }
  char* to = Frame::address(out, mine.begin - ranges[f->rank].begin);
  round.then = [=] { reduce_in_order(scratch.dtype(), f->call.reduce, parts, to, mine.count); };
  return round;
}

// This rank's range of the input becomes the sum over the ranks, in `out`.
void reduce(Plan& plan, const FramePtr& f, const std::vector<Range>& ranges, const Tensor& out) {
  auto scratch = std::make_shared<Tensor>();  // made when the call's turn comes
  for (int64_t index = 0; index < f->blocks_of(ranges); ++index)
    plan.push_back({false, [=] {
                      if (!scratch->defined())
                        *scratch = Tensor::empty(
                            {2, f->size - 1, std::min(f->block(), ranges[f->rank].count)},
                            out.dtype(), {}, MemoryTag::communication);
                      return reduce_round(f, ranges, *scratch, index, out);
                    }});
}

// Every rank's range of the output goes to all others; not to `needless`, which has them.
void gather(Plan& plan, const FramePtr& f, const std::vector<Range>& ranges, int needless = -1) {
  for (int64_t index = 0; index < f->blocks_of(ranges); ++index)
    plan.push_back({/*fenced=*/index == 0, [=] {
                      Round round;
                      const Tensor& out = f->call.output;
                      const Range mine = f->block_of(ranges[f->rank], index);
                      for (int p = 0; p < f->size; ++p) {
                        if (p == f->rank) continue;
                        if (p != needless) round.sends.push_back(Frame::message(p, out, mine));
                        if (f->rank != needless)
                          round.receives.push_back(
                              Frame::message(p, out, f->block_of(ranges[p], index)));
                      }
                      return round;
                    }});
}

// The part that needs no message. `source`: first element of it in the input.
void copy_own_part(Plan& plan, const FramePtr& f, int64_t source) {
  plan.push_back({false, [=] {
                    const int64_t n = f->call.output.numel() / f->size;
                    char* to = Frame::address(f->call.output, f->rank * n);
                    const char* from = Frame::address(f->call.input, source);
                    const size_t bytes = static_cast<size_t>(n) * size_of(f->call.input.dtype());
                    if (from != to && bytes > 0) std::memcpy(to, from, bytes);
                    return Round{};
                  }});
}

void exchange_parts(Plan& plan, const FramePtr& f) {
  const std::vector<Range> ranges = even_ranges(f->call.input.numel(), f->size);
  for (int64_t index = 0; index < f->blocks_of(ranges); ++index)
    plan.push_back({false, [=] {
                      Round round;
                      for (int p = 0; p < f->size; ++p) {
                        if (p == f->rank) continue;
                        const Range part = f->block_of(ranges[p], index);
                        round.sends.push_back(Frame::message(p, f->call.input, part));
                        round.receives.push_back(Frame::message(p, f->call.output, part));
                      }
                      return round;
                    }});
}

// The root hands each rank a range, and the ranks gather them: the root sends its tensor once, not
// size - 1 times. A small one goes to each rank whole.
void broadcast(Plan& plan, const FramePtr& f) {
  const Tensor& x = f->call.input;
  const bool small = x.bytes() <= kBlockBytes / 8;
  const std::vector<Range> ranges =
      small ? std::vector<Range>(f->size, {0, x.numel()}) : even_ranges(x.numel(), f->size);
  for (int64_t index = 0; index < f->blocks_of(ranges); ++index)
    plan.push_back(
        {false, [=] {
           Round round;
           const Call& call = f->call;
           const bool root = f->rank == call.root;
           if (!root)
             round.receives.push_back(
                 Frame::message(call.root, call.input, f->block_of(ranges[f->rank], index)));
           for (int p = 0; root && p < f->size; ++p)
             if (p != f->rank)
               round.sends.push_back(Frame::message(p, call.input, f->block_of(ranges[p], index)));
           return round;
         }});
  if (!small) gather(plan, f, ranges, /*needless=*/f->call.root);
}

std::vector<Message> blocks_of(const std::vector<Transfer>& transfers, size_t index) {
  std::vector<Message> messages;
  for (const Transfer& t : transfers) {
    const size_t begin = std::min(t.tensor.bytes(), index * kBlockBytes);
    messages.push_back({t.peer, static_cast<char*>(t.tensor.raw()) + begin,
                        std::min(kBlockBytes, t.tensor.bytes() - begin)});
  }
  return messages;
}

void transfer(Plan& plan, const FramePtr& f) {
  size_t longest = 0;
  for (const auto* list : {&f->call.sends, &f->call.receives})
    for (const Transfer& t : *list) longest = std::max(longest, t.tensor.bytes());
  for (size_t index = 0; index * kBlockBytes < longest; ++index)
    plan.push_back(
        {false, [=] {
           return Round{blocks_of(f->call.sends, index), blocks_of(f->call.receives, index), {}};
         }});
}

}  // namespace

Plan make_plan(const Call& call, int rank, int size) {
  Plan plan;
  const FramePtr f = std::make_shared<Frame>(Frame{call, rank, size});
  const int64_t count = call.input.defined() ? call.input.numel() : 0;
  if (call.op != CallOp::send_receive) agree(plan, f);
  switch (call.op) {
    case CallOp::barrier:
      break;
    case CallOp::all_reduce: {
      const std::vector<Range> ranges = even_ranges(count, size);
      reduce(plan, f, ranges, call.input.flat(ranges[rank].begin, {ranges[rank].count}));
      gather(plan, f, ranges);
      break;
    }
    case CallOp::reduce_scatter:
      reduce(plan, f, even_ranges(count, size), call.output);
      break;
    case CallOp::all_gather:
      copy_own_part(plan, f, 0);
      gather(plan, f, even_ranges(call.output.numel(), size));
      break;
    case CallOp::all_to_all:
      copy_own_part(plan, f, rank * (count / size));
      exchange_parts(plan, f);
      break;
    case CallOp::broadcast:
      broadcast(plan, f);
      break;
    case CallOp::send_receive:
      transfer(plan, f);
      break;
  }
  return plan;
}

}  // namespace weft::parallel
