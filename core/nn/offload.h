// What some blocks' tapes keep waits in host memory between their forward and their backward.
//
//   forward:   send(tape, layer) after each such block; settle() after the last block
//   backward:  receive(tape) before such a block's backward, the last one sent first;
//              fetch() where the next one may be on its way already
//
// On a GPU the copies run beside the compute stream and the host never waits for them. A tape's
// memory on the device is free from the next send() or settle() on. The bits come back as they
// were.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "core/nn/tape.h"
#include "core/tensor/device.h"
#include "core/tensor/device_memory.h"

namespace weft::nn {

// The host memory, kept from step to step and pinned where it is a GPU's: a block for each tape
// that waits at once, as large as the largest so far.
class HostSpace {
 public:
  std::shared_ptr<void> block(size_t index, size_t bytes, Device device);
  size_t bytes() const;  // of all blocks

 private:
  struct Block {
    std::shared_ptr<void> memory;
    size_t size = 0;
  };
  std::vector<Block> blocks_;
};

// Of one micro-batch. Must go before the tapes do.
class Offload {
 public:
  Offload(HostSpace& space, Device device) : space_(space), device_(device) {}
  ~Offload();
  Offload(const Offload&) = delete;
  Offload& operator=(const Offload&) = delete;

  // Empties the device's memory of what the tape keeps; its tensors lie on the host until
  // receive(). At most one tape's copies are under way: what comes after the next call waits for
  // them. `layer` is its name in a trace.
  void send(Tape& tape, size_t layer);
  void settle();
  // Starts bringing back the last tape sent that is still there, unless one is on its way.
  void fetch();
  // The tape is the last one sent that was not received. Fetched or not, it is whole again for all
  // work that follows.
  void receive(Tape& tape);

 private:
  using Point = std::shared_ptr<void>;  // of the copies' stream; null: nothing to wait for

  // A range of one storage. It holds all that the tape has of it, and moves once.
  struct Piece {
    std::shared_ptr<void> storage;  // on the device; null while it waits
    char* on_device = nullptr;
    char* on_host = nullptr;
    size_t bytes = 0;
    size_t misalignment = 0;  // of on_device
  };
  struct Waiting {
    size_t layer = 0;
    std::vector<Piece> pieces;
    std::shared_ptr<void> host;
    bool fetched = false;
    Point arrival;
  };

  std::vector<Piece> pieces_of(Tape& tape) const;
  Point copy(const std::vector<device_memory::Copy>& copies, const char* what, size_t layer) const;
  void wait(const Point& point) const;

  HostSpace& space_;
  Device device_;
  std::vector<Waiting> waiting_;                // in the order of sending
  std::vector<std::shared_ptr<void>> leaving_;  // what the copies under way read
  Point left_;                                  // their end
};

}  // namespace weft::nn
