// What a run must remember to go on as if it had never stopped, beside tensors.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "checkpoint/native_checkpoint.h"
#include "checkpoint/native_piece.h"
#include "core/base/json.h"
#include "core/nn/shard.h"

namespace weft::recipes {

struct TrainState {
  int64_t step = 0;     // optimizer steps done, skipped ones too: the cursor into data and schedule
  int64_t updates = 0;  // of the optimizer: steps less skipped ones
  double loss_scale = 1;         // fp16's
  int64_t updates_at_scale = 0;  // and how long it has lasted
  int64_t tokens = 0;            // trained on, by all ranks
  int64_t skipped = 0;           // steps whose gradients were not finite
  int64_t bad_in_a_row = 0;
  double best_loss = std::numeric_limits<double>::infinity();  // held-out
  int64_t best_step = -1;
  int64_t evaluations_since_best = 0;
  double seconds = 0;  // spent in the loop, over all restarts, by rank 0's clock
  std::string data_hash;

  Json to_json() const;
  static TrainState from_json(const Json& json);
};

// A rank's state pieces as pieces of the checkpoint (views).
std::vector<checkpoint::Piece> pieces_of(const std::vector<nn::StatePiece>& states);
// Fills the pieces from a checkpoint of any layout.
void read_pieces(const checkpoint::NativeCheckpoint& saved,
                 const std::vector<nn::StatePiece>& states);

}  // namespace weft::recipes
