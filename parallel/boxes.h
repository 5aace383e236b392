// Who holds what of a global tensor: the one join of partition, unit table and shard ranges.
// Checkpoints, ZeRO, export and the planner use it.
#pragma once

#include <string_view>
#include <vector>

#include "core/nn/parameter.h"
#include "parallel/box.h"
#include "parallel/mesh.h"
#include "parallel/unit_table.h"

namespace weft::parallel {

// The part of the parameter that a rank of the tensor (or expert) axis holds, without padding: what
// `partition` says. Throws Error{usage} when the granules do not divide among the ranks.
Box partition_box(const nn::Parameter& parameter, const MeshSizes& sizes, int rank);
// Its shape in memory, padding included: the same on every rank.
Shape partition_shape(const nn::Parameter& parameter, const MeshSizes& sizes);

// Elements [begin, begin + count) of that memory as boxes of the global tensor, in order, padding
// left out.
std::vector<Box> global_boxes(const nn::Parameter& parameter, const MeshSizes& sizes, int rank,
                              int64_t begin, int64_t count);

// What `rank` of the mesh owns of the parameter: its shard of a trainable one, its whole part of a
// frozen one. In global indices, in the order of the shard's memory.
std::vector<Box> boxes(const UnitTable& table, std::string_view name, int rank);

}  // namespace weft::parallel
