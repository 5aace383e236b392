#include "core/nn/offload.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "core/base/units.h"
#include "core/telemetry/trace.h"
#include "core/tensor/allocator.h"

namespace weft::nn {
namespace {

constexpr size_t kAlignment = 64;  // as the allocator's

size_t aligned(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::shared_ptr<void> take_host_memory(size_t bytes, Device device) {
  if (!device.is_cpu()) return device_memory::pinned_beside(bytes, device.index);
  void* memory = std::aligned_alloc(kAlignment, aligned(bytes));
  return memory ? std::shared_ptr<void>(memory, std::free) : nullptr;
}

// Where `address`, in the range that begins at `from`, lies in the one that begins at `to`.
void* moved(void* address, const char* from, char* to) {
  return to + (static_cast<const char*>(address) - from);
}

bool holds(const char* begin, size_t bytes, const void* address) {
  return begin <= address && address < begin + bytes;
}

}  // namespace

std::shared_ptr<void> HostSpace::block(size_t index, size_t bytes, Device device) {
  if (index >= blocks_.size()) blocks_.resize(index + 1);
  Block& block = blocks_[index];
  if (block.size >= bytes) return block.memory;
  // Micro-batches of packed documents differ by a few tokens: one that grows takes some to spare.
  const size_t size = aligned(block.size > 0 ? bytes + bytes / 8 : bytes);
  block = {};
  block.memory = take_host_memory(size, device);
  if (!block.memory)
    fail(ErrorKind::unavailable,
         "out of {} on the host: {} asked for, for the activations of one block, beside {} that "
         "other blocks have. Lower train.offload_layers (train.recompute=full needs none), "
         "train.micro_batch or data.seq_len, or give the host or container more memory (and "
         "`ulimit -l`, where that is limited)",
         device.is_cpu() ? "memory" : "pinned memory", human_bytes(static_cast<double>(size)),
         human_bytes(static_cast<double>(this->bytes())));
  block.size = size;
  return block.memory;
}

size_t HostSpace::bytes() const {
  size_t sum = 0;
  for (const Block& block : blocks_) sum += block.size;
  return sum;
}

// Where a micro-batch ends early, the compute stream reuses no memory that a copy is at.
Offload::~Offload() {
  try {
    settle();
    for (const Waiting& tape : waiting_) wait(tape.arrival);
  } catch (const Error&) {  // the GPU failed: whoever asks it next says so
  }
}

std::vector<Offload::Piece> Offload::pieces_of(Tape& tape) const {
  std::vector<Piece> pieces;
  tape.for_each([&](const Tensor& t) {
    if (t.numel() == 0 || !(t.device() == device_)) return;
    char* const begin = static_cast<char*>(t.raw());
    const auto known = std::find_if(pieces.begin(), pieces.end(),
                                    [&](const Piece& p) { return p.storage == t.storage(); });
    if (known == pieces.end()) {
      pieces.push_back({.storage = t.storage(), .on_device = begin, .bytes = t.bytes()});
      return;
    }
    char* const end = std::max(known->on_device + known->bytes, begin + t.bytes());
    known->on_device = std::min(known->on_device, begin);
    known->bytes = static_cast<size_t>(end - known->on_device);
  });
  return pieces;
}

void Offload::send(Tape& tape, size_t layer) {
  settle();
  Waiting tape_there{
      .layer = layer, .pieces = pieces_of(tape), .host = {}, .fetched = false, .arrival = {}};
  size_t bytes = 0;
  for (const Piece& piece : tape_there.pieces) bytes += aligned(piece.bytes);
  tape_there.host = space_.block(waiting_.size(), bytes, device_);
  char* host = static_cast<char*>(tape_there.host.get());
  std::vector<device_memory::Copy> copies;
  for (Piece& piece : tape_there.pieces) {
    piece.on_host = host;
    piece.misalignment = reinterpret_cast<uintptr_t>(piece.on_device) % kAlignment;
    copies.push_back({piece.on_host, piece.on_device, piece.bytes});
    host += aligned(piece.bytes);
  }
  left_ = copy(copies, "offload", layer);
  tape.for_each([&](Tensor& t) {
    for (const Piece& piece : tape_there.pieces) {
      if (t.numel() == 0 || t.storage() != piece.storage) continue;
      t = Tensor::wrap(moved(t.raw(), piece.on_device, piece.on_host), t.shape(), t.dtype(),
                       tape_there.host);
      return;
    }
  });
  for (Piece& piece : tape_there.pieces) leaving_.push_back(std::move(piece.storage));
  waiting_.push_back(std::move(tape_there));
}

// Freed memory is the compute stream's at once, so that it waits first.
void Offload::settle() {
  if (leaving_.empty()) return;
  wait(left_);
  leaving_.clear();
  left_ = {};
}

void Offload::fetch() {
  if (waiting_.empty() || waiting_.back().fetched) return;
  settle();
  Waiting& tape = waiting_.back();
  std::vector<device_memory::Copy> copies;
  for (Piece& piece : tape.pieces) {
    piece.storage = allocate(piece.misalignment + piece.bytes, device_, MemoryTag::activation);
    piece.on_device = static_cast<char*>(piece.storage.get()) + piece.misalignment;
    copies.push_back({piece.on_device, piece.on_host, piece.bytes});
  }
  tape.fetched = true;
  tape.arrival = copy(copies, "fetch", tape.layer);
}

void Offload::receive(Tape& tape) {
  CHECK(!waiting_.empty(), "a tape that was not sent");
  fetch();
  wait(waiting_.back().arrival);
  const Waiting there = std::move(waiting_.back());
  waiting_.pop_back();
  tape.for_each([&](Tensor& t) {
    for (const Piece& piece : there.pieces) {
      if (t.numel() == 0 || !holds(piece.on_host, piece.bytes, t.raw())) continue;
      t = Tensor::wrap(moved(t.raw(), piece.on_host, piece.on_device), t.shape(), t.dtype(),
                       piece.storage, device_);
      return;
    }
  });
}

Offload::Point Offload::copy(const std::vector<device_memory::Copy>& copies, const char* what,
                             size_t layer) const {
  telemetry::SideSpan span;
  if (telemetry::tracing())
    span = {what, fmt::format("layer {}", layer),
            device_.is_cpu() ? nullptr : device_memory::stream_beside(device_.index),
            telemetry::SideRow::copies};
  Point point;
  if (device_.is_cpu())
    for (const device_memory::Copy& c : copies) std::memcpy(c.to, c.from, c.bytes);
  else
    point = device_memory::copy_beside(copies, device_.index);
  span.issued();
  if (device_.is_cpu()) span.end();
  return point;
}

void Offload::wait(const Point& point) const {
  if (point) device_memory::compute_after(point, device_.index);
}

}  // namespace weft::nn
