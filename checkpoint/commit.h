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

// What a checkpoint says beside tensors. Only rank 0's counts.
struct SaveInfo {
  int64_t step = 0;
  Json layout;
  Json base_model;
  Json trainer;
  Json config;
};

struct Retention {
  int keep = 2;                 // newest checkpoints kept; at least 1
  std::vector<int64_t> pinned;  // steps that are never pruned (the best by evaluation)
};

enum class SaveOutcome {
  committed,
  already_there,  // a whole checkpoint of that step exists and was left alone
};

// Collective over `comm`; `root` is the run folder, seen by all ranks; it exists. Every rank's
// pieces are written before anything is vouched for. On failure every rank throws the same Error,
// which names the failed ranks and their causes; the temporary folder is gone and what was
// committed before is untouched. The training may go on.
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
