// Flat shards: what the optimizer updates and a checkpoint writes. Data only; parallel/ makes them.
#pragma once

#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace weft::nn {

// A run of one parameter's elements inside a flat shard.
struct Segment {
  std::string name;    // the parameter's
  Shape shape;         // of the parameter as this rank's tensor axis sees it (all of it at size 1)
  int64_t begin = 0;   // flat index, in that shape, of the run's first element
  int64_t count = 0;   // elements
  int64_t offset = 0;  // of the run in the shard
  bool decay = true;   // weight decay applies
  float lr_scale = 1.0f;  // multiplies the learning rate
};

// One rank's part of one trainable flat buffer. Segments are in order of offset and do not overlap;
// what they leave out is padding (value and gradient zero).
struct Shard {
  std::string unit;
  Tensor value;  // [n], a view of the unit's buffer
  Tensor grad;   // [n], f32 or the value's dtype: reduced once Units::finish_reduce has returned
  std::vector<Segment> segments;
};

// A named part of the state of training, for the checkpoint: `data` holds the elements of
// `segment`.
struct StatePiece {
  std::string part;  // "value", "master", "m", "v"
  Segment segment;
  Tensor data;  // [segment.count], a view: loading writes into it
};

}  // namespace weft::nn
