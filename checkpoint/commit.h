// Saving a checkpoint: snapshot, write, commit. After a crash at any moment the newest whole
// checkpoint is the one before or the one that was being saved, never a mixture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/file_system.h"
#include "checkpoint/manifest.h"
#include "checkpoint/native_piece.h"

namespace weft::parallel {
class Communicator;
}

namespace weft::checkpoint {

// What a checkpoint says beside tensors. Only rank 0's counts. JSON holds no infinity and no NaN.
struct SaveInfo {
  int64_t step = 0;
  Json layout;      // {"ranks": 4, "data": 4, "tensor": 1, "pipeline": 1}
  Json base_model;  // null, or {"path": ..., "hash": ...}
  Json trainer;     // data cursor, seed, counters, schedule, best evaluation, tokens seen
  Json config;      // fully resolved
  std::string weft_version = "0.1.0";
};

struct Retention {
  int64_t keep = 2;             // newest checkpoints kept; at least 1
  std::vector<int64_t> pinned;  // steps that are never pruned (the best by evaluation)
};

enum class SaveOutcome {
  committed,
  already_there,  // a whole checkpoint of that step exists and was left alone
};

// Collective over `comm`; `root` is the run folder, which exists and which all ranks see. Every
// rank's pieces are on the disk before anything vouches for them. On failure every rank throws the
// same Error, which names the failed ranks and their causes; the temporary folder is gone and what
// was committed before is untouched: the training may go on. A folder of that step which is not
// whole, or says something else, is moved aside to step_N.bad.
SaveOutcome save_checkpoint(parallel::Communicator& comm, FileSystem& files,
                            const std::string& root, const std::vector<Piece>& pieces,
                            const SaveInfo& info);

// Rank 0 only, after a commit: removes checkpoints older than the newest `keep` among those up to
// `committed`. Names vanish at once, so that a reader finds whole checkpoints only. Failing is
// logged, never thrown.
void prune_checkpoints(FileSystem& files, const std::string& root, int64_t committed,
                       const Retention& retention);

// Steps with a folder under `root`, newest first. Says nothing about their being whole.
std::vector<int64_t> checkpoint_steps(FileSystem& files, const std::string& root);

// Removes what interrupted saves and removals left (*.tmp). Rank 0 only, while the run folder is
// locked.
void remove_stale(FileSystem& files, const std::string& root);

}  // namespace weft::checkpoint
