// The folder of one run: one process group at a time writes it, all ranks see it, and a start
// resumes from the newest whole checkpoint in it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/commit.h"
#include "checkpoint/native_checkpoint.h"

namespace weft::checkpoint {

class RunFolder {
 public:
  // Collective. Creates the folder, locks it for this run, proves that all ranks see the same one
  // and removes what an interrupted save left. Throws on every rank: unavailable when another run
  // holds it (named), io or unavailable naming the ranks that do not see it.
  RunFolder(parallel::Communicator& comm, FileSystem& files, const std::string& path);

  const std::string& path() const { return path_; }

  // Throws Error{io} on every rank when the disk has less than `bytes` free. For the start of a
  // run, with twice what a checkpoint of all ranks will take.
  void require_free_space(int64_t bytes);

  // Throws Error{usage} on every rank when the folder has a checkpoint, whole or not.
  void require_no_checkpoint();

  // Loads the newest whole checkpoint: calls `load` on every rank, and again with the one before
  // when any rank finds it damaged (a warning names what). `load` must not communicate, and
  // overwrites whatever an earlier call did. Returns the step; nullopt when the folder has no
  // checkpoint. Throws bad_data when there are some and none is whole; an error that is not damage
  // (a shape that differs, a changed config) is thrown on every rank at once.
  std::optional<int64_t> resume(const std::function<void(const NativeCheckpoint&)>& load);

  // save_checkpoint, then retention.
  SaveOutcome save(const std::vector<Piece>& pieces, const SaveInfo& info,
                   const Retention& retention);

 private:
  std::string claim();  // rank 0: folder, lock and probe file; returns what is in it
  void look_for(const std::string& nonce) const;

  parallel::Communicator* comm_;
  FileSystem* files_;
  std::string path_;
  std::unique_ptr<FileLock> lock_;  // rank 0
};

// The newest checkpoint under `root` that opens (its manifest and file sizes are right); for
// readers outside the run, such as export and inspect. `root` may also be a checkpoint folder
// itself. Warns of those that it passes over. Throws no_input when there is none, bad_data when
// none opens.
std::unique_ptr<NativeCheckpoint> open_latest(FileSystem& files, const std::string& root);

// Lines that say what differs and may not ("train.lr: 0.001 was 0.0001"); empty: the run may go on.
using ConfigDiff = std::function<std::vector<std::string>(const Json& saved, const Json& now)>;

// Throws Error{usage} listing the differences and what to do.
void require_same_config(const NativeCheckpoint& saved, const Json& now, const ConfigDiff& diff);

}  // namespace weft::checkpoint
