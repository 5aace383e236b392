// The mesh: ranks arranged by axis, slowest first: pipeline, data, context, tensor.
#pragma once

#include <memory>
#include <string>

#include "core/nn/parameter.h"
#include "parallel/communicator.h"

namespace weft::parallel {

struct MeshSizes {
  int pipeline = 1;
  int data = 0;  // 0: what is left
  int context = 1;
  int tensor = 1;
  int world() const { return pipeline * data * context * tensor; }
  int of(nn::Axis axis) const;  // expert: 1 (inside data)
};

// Fills `data`. Throws Error{usage} when `world` ranks cannot be arranged so, naming the numbers
// that can.
MeshSizes resolve(const MeshSizes& wanted, int world);

// Where `rank` stands on an axis. Pure.
int coordinate(const MeshSizes& sizes, int rank, nn::Axis axis);

class Mesh {
 public:
  // Collective over the world.
  Mesh(std::shared_ptr<Communicator> world, const MeshSizes& wanted);

  const MeshSizes& sizes() const { return sizes_; }
  int rank() const { return world_->rank(); }
  int coordinate(nn::Axis axis) const { return parallel::coordinate(sizes_, rank(), axis); }

  Communicator& world() const { return *world_; }
  // The ranks that differ from this one in `axis` only, in order of their coordinate.
  const std::shared_ptr<Communicator>& group(nn::Axis axis) const;
  Communicator& data() const { return *group(nn::Axis::data); }

 private:
  MeshSizes sizes_;
  std::shared_ptr<Communicator> world_;
  std::shared_ptr<Communicator> pipeline_, data_, context_, tensor_, expert_;
};

}  // namespace weft::parallel
