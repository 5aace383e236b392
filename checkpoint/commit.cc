#include "checkpoint/commit.h"

#include <algorithm>

#include "checkpoint/commit_agree.h"
#include "checkpoint/native_checkpoint.h"
#include "core/base/log.h"

namespace weft::checkpoint {
namespace {

constexpr const char* kLatestName = "LATEST";
constexpr std::string_view kTemporary = ".tmp";
constexpr int64_t kStructureBytesAPiece = 2048;  // headers, attributes and manifest; generous
constexpr const char* kAlreadyThere = "already there";

int64_t bytes_of(const std::vector<Piece>& pieces) {
  int64_t total = int64_t{128} << 10;
  for (const Piece& piece : pieces)
    total += static_cast<int64_t>(piece.value.bytes()) + kStructureBytesAPiece;
  return total;
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

struct Paths {
  std::string root, folder, temporary;

  Paths(const std::string& root_folder, int64_t step)
      : root(root_folder),
        folder(join(root_folder, folder_name_of_step(step))),
        temporary(folder + std::string(kTemporary)) {}
};

void write_latest(FileSystem& files, const Paths& paths, int64_t step) {
  replace_text(files, join(paths.root, kLatestName), folder_name_of_step(step) + "\n");
}

// A checkpoint of this step that is whole and says the same needs no second one.
bool is_already_there(FileSystem& files, const Paths& paths, const SaveInfo& info) {
  if (!files.exists(paths.folder)) return false;
  try {
    const NativeCheckpoint there(files, paths.folder);
    return there.manifest().trainer == info.trainer && there.manifest().config == info.config &&
           there.verify().empty();
  } catch (const Error& error) {
    log::warn("{}; it will be moved aside", error.what());
    return false;
  }
}

// Rank 0: a folder to write into, on a disk with room.
std::string prepare(FileSystem& files, const Paths& paths, const SaveInfo& info, int64_t bytes) {
  if (is_already_there(files, paths, info)) {
    write_latest(files, paths, info.step);
    return kAlreadyThere;
  }
  files.remove(paths.temporary);
  const int64_t free = files.free_bytes(paths.root);
  if (free < bytes)
    fail(ErrorKind::io,
         "[checkpoint] step {} was not saved: it needs {:.1f} MB and the disk of {} has {:.1f} MB "
         "free; free space on that disk, lower checkpoint.keep or choose another run folder",
         info.step, static_cast<double>(bytes) / 1e6, paths.root, static_cast<double>(free) / 1e6);
  files.make_folder(paths.temporary);
  return "";
}

Manifest manifest_of(const SaveInfo& info, const std::vector<Outcome>& written,
                     const std::string& where) {
  Manifest manifest;
  manifest.step = info.step;
  manifest.weft_version = info.weft_version;
  manifest.layout = info.layout;
  manifest.base_model = info.base_model;
  manifest.trainer = info.trainer;
  manifest.config = info.config;
  for (const Outcome& outcome : written)
    manifest.files.push_back(
        FileRecord::from_json(Json::parse(outcome.text, where), manifest.chunk_bytes, where));
  manifest.check_coverage(where);
  return manifest;
}

// Gives a folder that is not whole another name, so that its own is free.
void move_aside(FileSystem& files, const std::string& folder) {
  std::string aside = folder + ".bad";
  for (int i = 2; files.exists(aside); ++i) aside = folder + ".bad" + std::to_string(i);
  files.rename(folder, aside);
  log::warn("[checkpoint] {} was moved to {}", folder, aside);
}

// Rank 0, when every rank's file is on the disk: makes the checkpoint exist, all of it at once.
void publish(FileSystem& files, const Paths& paths, const Manifest& manifest) {
  {
    const std::unique_ptr<File> file = files.create(join(paths.temporary, kManifestName));
    const std::string text = manifest.to_text();
    file->write_at(text.data(), text.size(), 0);
    file->sync();
  }
  files.sync_folder(paths.temporary);
  if (files.exists(paths.folder)) move_aside(files, paths.folder);
  files.rename(paths.temporary, paths.folder);
  files.sync_folder(paths.root);
  write_latest(files, paths, manifest.step);
}

void remove_quietly(FileSystem& files, const std::string& path) {
  try {
    files.remove(path);
  } catch (const Error& error) {
    log::warn("{}", error.what());
  }
}

}  // namespace

SaveOutcome save_checkpoint(parallel::Communicator& comm, FileSystem& files,
                            const std::string& root, const std::vector<Piece>& pieces,
                            const SaveInfo& info) {
  const Paths paths(root, info.step);
  const std::vector<std::string> sizes =
      comm.gather_bytes(std::to_string(bytes_of(pieces)), "checkpoint");
  const std::string prepared = decide_on_rank_0(comm, [&] {
    int64_t bytes = 0;
    for (const std::string& size : sizes) bytes += std::stoll(size);
    return prepare(files, paths, info, bytes);
  });
  if (prepared == kAlreadyThere) return SaveOutcome::already_there;

  const Outcome mine = outcome_of([&] {
    const Hdf5Labels labels{info.step, comm.rank(), comm.size()};
    const std::string path = join(paths.temporary, file_name_of_rank(comm.rank()));
    return write_shard(files, path, pieces, labels).to_json().dump();
  });
  const std::vector<Outcome> written = gather_outcomes(comm, mine);
  decide_on_rank_0(comm, [&] {
    try {
      throw_failures(written, fmt::format("[checkpoint] step {} was not saved", info.step));
      publish(files, paths, manifest_of(info, written, paths.temporary));
    } catch (...) {
      remove_quietly(files, paths.temporary);
      throw;
    }
    return std::string();
  });
  return SaveOutcome::committed;
}

void prune_checkpoints(FileSystem& files, const std::string& root, int64_t committed,
                       const Retention& retention) {
  try {
    int64_t kept = 0;
    for (int64_t step : checkpoint_steps(files, root)) {
      if (step > committed) continue;
      const auto& pinned = retention.pinned;
      if (std::find(pinned.begin(), pinned.end(), step) != pinned.end()) continue;
      if (++kept <= std::max<int64_t>(retention.keep, 1)) continue;
      const Paths paths(root, step);
      files.rename(paths.folder, paths.temporary);
      files.sync_folder(root);  // the name is gone before the content is
      files.remove(paths.temporary);
    }
  } catch (const Error& error) {
    log::warn("[checkpoint] old checkpoints were not removed: {}", error.what());
  }
}

std::vector<int64_t> checkpoint_steps(FileSystem& files, const std::string& root) {
  std::vector<int64_t> steps;
  for (const std::string& name : files.list(root))
    if (const int64_t step = step_of_folder_name(name); step >= 0) steps.push_back(step);
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

void remove_stale(FileSystem& files, const std::string& root) {
  for (const std::string& name : files.list(root)) {
    if (!ends_with(name, kTemporary)) continue;
    const std::string stem = name.substr(0, name.size() - kTemporary.size());
    if (stem != kLatestName && step_of_folder_name(stem) < 0) continue;
    log::info("[checkpoint] removing {}, which an interrupted save left", join(root, name));
    files.remove(join(root, name));
  }
}

}  // namespace weft::checkpoint
