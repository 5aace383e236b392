#include "parallel/mesh.h"

#include <algorithm>

#include "core/base/error.h"
#include "parallel/world.h"

namespace weft::parallel {

int MeshSizes::of(nn::Axis axis) const {
  switch (axis) {
    case nn::Axis::pipeline:
      return pipeline;
    case nn::Axis::data:
      return data;
    case nn::Axis::context:
      return context;
    case nn::Axis::tensor:
      return tensor;
    case nn::Axis::expert:
      return 1;
  }
  return 1;
}

MeshSizes resolve(const MeshSizes& wanted, int world) {
  const int others = wanted.pipeline * wanted.context * wanted.tensor;
  if (wanted.pipeline < 1 || wanted.context < 1 || wanted.tensor < 1 || wanted.data < 0)
    fail(ErrorKind::usage,
         "parallel: sizes must be 1 or more (pipeline {}, data {}, context {}, tensor {})",
         wanted.pipeline, wanted.data, wanted.context, wanted.tensor);
  MeshSizes sizes = wanted;
  if (wanted.data == 0) {
    sizes.data = world / others;
    if (world % others != 0 || world == 0)
      fail(ErrorKind::usage,
           "parallel: {} ranks do not divide into pipeline {} x context {} x tensor {}: start {} "
           "or {} ranks (a multiple of {}), or change a size",
           world, wanted.pipeline, wanted.context, wanted.tensor,
           std::max(1, world / others) * others, (world / others + 1) * others, others);
  }
  if (sizes.world() != world)
    fail(ErrorKind::usage,
         "parallel: pipeline {} x data {} x context {} x tensor {} are {} ranks, but {} run: start "
         "{} ranks, or set data: auto",
         sizes.pipeline, sizes.data, sizes.context, sizes.tensor, sizes.world(), world,
         sizes.world());
  return sizes;
}

int coordinate(const MeshSizes& sizes, int rank, nn::Axis axis) {
  switch (axis) {
    case nn::Axis::tensor:
      return rank % sizes.tensor;
    case nn::Axis::context:
      return rank / sizes.tensor % sizes.context;
    case nn::Axis::data:
      return rank / (sizes.tensor * sizes.context) % sizes.data;
    case nn::Axis::pipeline:
      return rank / (sizes.tensor * sizes.context * sizes.data);
    case nn::Axis::expert:
      return 0;
  }
  return 0;
}

Mesh::Mesh(std::shared_ptr<Communicator> world, const MeshSizes& wanted)
    : sizes_(resolve(wanted, world->size())), world_(std::move(world)) {
  // A group's color: the rank of the world with this axis' coordinate taken out.
  const auto make = [&](nn::Axis axis, int stride, const char* name) {
    if (sizes_.of(axis) == 1) return make_self();
    const int mine = coordinate(axis);
    return world_->split(rank() - mine * stride, mine, name);
  };
  tensor_ = make(nn::Axis::tensor, 1, "tensor");
  context_ = make(nn::Axis::context, sizes_.tensor, "context");
  data_ = make(nn::Axis::data, sizes_.tensor * sizes_.context, "data");
  pipeline_ = make(nn::Axis::pipeline, sizes_.tensor * sizes_.context * sizes_.data, "pipeline");
  expert_ = make_self();
}

const std::shared_ptr<Communicator>& Mesh::group(nn::Axis axis) const {
  switch (axis) {
    case nn::Axis::pipeline:
      return pipeline_;
    case nn::Axis::data:
      return data_;
    case nn::Axis::context:
      return context_;
    case nn::Axis::tensor:
      return tensor_;
    case nn::Axis::expert:
      return expert_;
  }
  return expert_;
}

}  // namespace weft::parallel
