#include "checkpoint/run_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "checkpoint/commit_agree.h"
#include "core/base/log.h"

namespace weft::checkpoint {
namespace {

constexpr const char* kLockName = "run.lock";
constexpr const char* kProbeName = "run.probe";
constexpr size_t kMaxSmallFile = 4096;
// A network file system may show a new file to other hosts this much later.
constexpr auto kProbePatience = std::chrono::seconds(10);
constexpr auto kProbePause = std::chrono::milliseconds(50);
constexpr int kListAttempts = 5;

std::string host_name() {
  char name[256] = "unknown host";
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::string random_nonce() {
  std::random_device source;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", source(), source(), source(), source());
}

std::string read_or_reason(FileSystem& files, const std::string& path) {
  try {
    return read_text(files, path, kMaxSmallFile);
  } catch (const Error& error) {
    return error.what();
  }
}

// LATEST is for people and scripts; readers go by the folders. A damaged one is worth a warning.
void check_latest_file(FileSystem& files, const std::string& root,
                       const std::vector<int64_t>& steps) {
  const std::string path = join(root, "LATEST");
  if (steps.empty() || !files.exists(path)) return;
  std::string text = read_or_reason(files, path);
  if (!text.empty() && text.back() == '\n') text.pop_back();
  const int64_t step = step_of_folder_name(text);
  for (int64_t known : steps)
    if (known == step) return;
  log::warn("[checkpoint] {} is damaged or out of date ('{}'); the newest whole checkpoint is used",
            path, text.substr(0, 60));
}

std::string text_of(const std::vector<int64_t>& steps) {
  std::string text;
  for (int64_t step : steps) text += std::to_string(step) + "\n";
  return text;
}

std::vector<int64_t> steps_from(const std::string& text) {
  std::vector<int64_t> steps;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    steps.push_back(std::stoll(text.substr(at)));
  return steps;
}

// Opens the newest of `steps` that opens; what is passed over is described in `faults`.
std::unique_ptr<NativeCheckpoint> open_newest(FileSystem& files, const std::string& root,
                                              const std::vector<int64_t>& steps,
                                              std::vector<std::string>* faults) {
  faults->clear();
  for (int64_t step : steps) {
    try {
      return std::make_unique<NativeCheckpoint>(files, join(root, folder_name_of_step(step)));
    } catch (const DamagedCheckpoint& damage) {
      faults->push_back(damage.what());
    }
  }
  return nullptr;
}

// What is damaged, in one line; empty when every rank has loaded. Throws what is not damage.
std::string damage_in(const std::vector<Outcome>& outcomes, const std::string& folder) {
  std::vector<Outcome> failed = outcomes;
  std::string damage;
  for (Outcome& outcome : failed) {
    if (outcome.kind != Outcome::Kind::damaged) continue;
    if (damage.empty()) damage = outcome.text;
    outcome = {};
  }
  throw_failures(failed, fmt::format("[run folder] {} was not loaded", folder));
  return damage;
}

[[noreturn]] void fail_none_whole(const std::string& root, const std::string& last_fault) {
  fail(ErrorKind::bad_data,
       "[checkpoint] {} has checkpoints, but none of them is whole ({}); restore one, or move them "
       "away to start from the beginning",
       root, last_fault);
}

}  // namespace

RunFolder::RunFolder(parallel::Communicator& comm, FileSystem& files, const std::string& path)
    : comm_(&comm), files_(&files), path_(path) {
  const std::string nonce = decide_on_rank_0(comm, [&] { return claim(); });
  const Outcome mine = outcome_of([&] {
    look_for(nonce);
    return std::string();
  });
  const std::vector<Outcome> outcomes = gather_outcomes(comm, mine);
  decide_on_rank_0(comm, [&] {
    files_->remove(join(path_, kProbeName));
    throw_failures(outcomes,
                   fmt::format("[run folder] {} must be one folder that all ranks see (put it on a "
                               "shared file system)",
                               path_));
    remove_stale(*files_, path_);
    return std::string();
  });
}

std::string RunFolder::claim() {
  if (!files_->exists(path_)) {
    files_->make_folder(path_);
    files_->sync_folder(std::filesystem::absolute(path_).parent_path().string());
  }
  const std::string owner = fmt::format("process {} on {}", ::getpid(), host_name());
  std::string holder;
  lock_ = files_->lock(join(path_, kLockName), owner, &holder);
  if (!lock_)
    fail(ErrorKind::unavailable,
         "[run folder] {} is in use by another run ({}): wait for it, stop it, or choose another "
         "folder",
         path_, holder.empty() ? "unknown" : holder);
  const std::string nonce = random_nonce();
  const std::unique_ptr<File> file = files_->create(join(path_, kProbeName));
  file->write_at(nonce.data(), nonce.size(), 0);
  file->sync();
  return nonce;
}

void RunFolder::look_for(const std::string& nonce) const {
  const auto give_up = std::chrono::steady_clock::now() + kProbePatience;
  const std::string path = join(path_, kProbeName);
  while (read_or_reason(*files_, path) != nonce) {
    if (std::chrono::steady_clock::now() > give_up)
      fail(ErrorKind::unavailable, "host {} does not see what rank 0 wrote there", host_name());
    std::this_thread::sleep_for(kProbePause);
  }
}

void RunFolder::require_free_space(int64_t bytes) {
  decide_on_rank_0(*comm_, [&] {
    const int64_t free = files_->free_bytes(path_);
    if (free < bytes)
      fail(ErrorKind::io,
           "[run folder] the disk of {} has {:.1f} MB free and the run's checkpoints need {:.1f} "
           "MB: free space or choose another folder",
           path_, static_cast<double>(free) / 1e6, static_cast<double>(bytes) / 1e6);
    return std::string();
  });
}

void RunFolder::require_no_checkpoint() {
  decide_on_rank_0(*comm_, [&] {
    const std::vector<int64_t> steps = checkpoint_steps(*files_, path_);
    if (!steps.empty())
      fail(ErrorKind::usage,
           "[run folder] {} has checkpoints up to step {}, and checkpoint.resume is never: set it "
           "to auto, or choose another output_dir",
           path_, steps.front());
    return std::string();
  });
}

std::optional<int64_t> RunFolder::resume(const std::function<void(const NativeCheckpoint&)>& load) {
  const std::vector<int64_t> steps = steps_from(decide_on_rank_0(*comm_, [&] {
    const std::vector<int64_t> found = checkpoint_steps(*files_, path_);
    check_latest_file(*files_, path_, found);
    return text_of(found);
  }));
  if (steps.empty()) return std::nullopt;
  std::string last_fault;
  for (int64_t step : steps) {
    const std::string folder = join(path_, folder_name_of_step(step));
    const Outcome mine = outcome_of([&] {
      load(NativeCheckpoint(*files_, folder));
      return std::string();
    });
    const std::vector<Outcome> outcomes = gather_outcomes(*comm_, mine);
    const std::string fault = decide_on_rank_0(*comm_, [&] { return damage_in(outcomes, folder); });
    if (fault.empty()) return step;
    if (comm_->rank() == 0) log::warn("{}; going back to the checkpoint before", fault);
    last_fault = fault;
  }
  fail_none_whole(path_, last_fault);
}

SaveOutcome RunFolder::save(const std::vector<Piece>& pieces, const SaveInfo& info,
                            const Retention& retention) {
  const SaveOutcome outcome = save_checkpoint(*comm_, *files_, path_, pieces, info);
  if (comm_->rank() == 0) prune_checkpoints(*files_, path_, info.step, retention);
  return outcome;
}

std::unique_ptr<NativeCheckpoint> open_latest(FileSystem& files, const std::string& root) {
  if (files.exists(join(root, kManifestName)))
    return std::make_unique<NativeCheckpoint>(files, root);
  std::vector<std::string> faults;
  std::vector<int64_t> steps = checkpoint_steps(files, root);
  for (int attempt = 0; attempt < kListAttempts && !steps.empty(); ++attempt) {
    std::unique_ptr<NativeCheckpoint> found = open_newest(files, root, steps, &faults);
    const std::vector<int64_t> now = checkpoint_steps(files, root);
    if (!found && now != steps) {  // a run saved and pruned meanwhile
      steps = now;
      continue;
    }
    for (const std::string& fault : faults) log::warn("{}", fault);
    if (found) return found;
    break;
  }
  if (steps.empty()) fail(ErrorKind::no_input, "[checkpoint] {} has no checkpoint", root);
  fail_none_whole(root, faults.empty() ? "the folder keeps changing" : faults.back());
}

void require_same_config(const NativeCheckpoint& saved, const Json& now, const ConfigDiff& diff) {
  const std::vector<std::string> differences = diff(saved.manifest().config, now);
  if (differences.empty()) return;
  std::string list;
  for (const std::string& difference : differences) list += "\n  " + difference;
  fail(ErrorKind::usage,
       "[run folder] the config is not the one that {} was saved with:{}\nput these keys back, or "
       "start a new run folder",
       saved.folder(), list);
}

}  // namespace weft::checkpoint
