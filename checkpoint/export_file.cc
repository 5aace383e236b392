#include "checkpoint/export_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBuffer = size_t{4} << 20;

// "out/model.gguf/" and "out/model.gguf" are the same place.
std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string folder_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string temporary_name(const std::string& path) {
  return path + ".tmp-" + std::to_string(getpid());
}

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail(ErrorKind::io, "{}: cannot be made: {}", path, error.message());
}

void sync_folder(const std::string& path) {
  const int folder = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) fail(ErrorKind::io, "{}: cannot be opened: {}", path, std::strerror(errno));
  const bool synced = fsync(folder) == 0 || errno == EINVAL || errno == ENOTSUP;
  const int error = errno;
  close(folder);
  if (!synced) fail(ErrorKind::io, "{}: cannot be synced: {}", path, std::strerror(error));
}

void rename_to(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0)
    fail(ErrorKind::io, "{}: cannot be renamed to {}: {}", from, to, std::strerror(errno));
}

// Swaps two names at once; where the file system cannot, in two steps.
void exchange_names(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS)
    fail(ErrorKind::io, "{}: cannot be replaced: {}", to, std::strerror(errno));
  const std::string old = from + "-old";
  rename_to(to, old);
  rename_to(from, to);
  rename_to(old, from);
}

// The files that exporters write: nothing else is ever deleted.
bool is_exported(const std::string& name) {
  static constexpr std::string_view kNames[] = {"config.json",
                                                "generation_config.json",
                                                "tokenizer.json",
                                                "tokenizer_config.json",
                                                "special_tokens_map.json",
                                                "chat_template.jinja",
                                                "adapter_config.json",
                                                "adapter_model.safetensors",
                                                "model.safetensors.index.json",
                                                "weft.yaml",
                                                "weft.json"};
  for (std::string_view known : kNames)
    if (name == known) return true;
  const fs::path path(name);
  return path.extension() == ".safetensors" && name.rfind("model", 0) == 0;
}

}  // namespace

ExportFile::ExportFile(const std::string& path)
    : path_(without_slash(path)), temporary_(temporary_name(path_)) {
  make_folder(folder_of(path_));
  file_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file_ < 0) fail(ErrorKind::io, "{}: cannot be written: {}", temporary_, std::strerror(errno));
  buffer_.reserve(kBuffer);
}

ExportFile::~ExportFile() {
  discard();
}

void ExportFile::discard() noexcept {
  if (file_ < 0) return;
  close(file_);
  unlink(temporary_.c_str());
  file_ = -1;
}

void ExportFile::write(const void* data, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  while (size > 0) {
    const size_t take = std::min(size, kBuffer - buffer_.size());
    buffer_.insert(buffer_.end(), bytes, bytes + take);
    bytes += take, size -= take;
    if (buffer_.size() == kBuffer) flush();
  }
}

void ExportFile::pad_to(size_t alignment) {
  static constexpr std::byte kZeros[64] = {};
  CHECK(alignment > 0 && alignment <= sizeof(kZeros));
  write(kZeros, (alignment - size() % alignment) % alignment);
}

void ExportFile::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t written = ::write(file_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      fail(ErrorKind::io, "{}: writing failed after {} bytes: {}; nothing was left under this name",
           path_, flushed_ + done, std::strerror(errno));
    done += static_cast<size_t>(written);
  }
  flushed_ += done;
  buffer_.clear();
}

void ExportFile::commit() {
  CHECK(file_ >= 0, "{} is closed", path_);
  flush();
  if (fsync(file_) != 0)
    fail(ErrorKind::io, "{}: cannot be synced: {}", path_, std::strerror(errno));
  rename_to(temporary_, path_);
  close(file_);
  file_ = -1;
  sync_folder(folder_of(path_));
}

void write_text_file(const std::string& path, std::string_view text) {
  ExportFile file(path);
  file.write(text);
  file.commit();
}

ExportFolder::ExportFolder(const std::string& path)
    : path_(without_slash(path)), temporary_(temporary_name(path_)) {
  check_replaceable();
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  make_folder(temporary_);
}

ExportFolder::~ExportFolder() {
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void ExportFolder::check_replaceable() const {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path_, error))) return;
  if (!fs::is_directory(path_, error))
    fail(ErrorKind::io, "{}: is there and is not a folder; choose another name", path_);
  for (const auto& entry : fs::directory_iterator(path_, error)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory(error) || !is_exported(name))
      fail(ErrorKind::io, "{}: holds '{}', which no export writes; choose another folder", path_,
           name);
  }
  if (error) fail(ErrorKind::io, "{}: cannot be read: {}", path_, error.message());
}

void ExportFolder::commit() {
  check_replaceable();
  sync_folder(temporary_);
  // In exchange for an older export, which then has the temporary name.
  std::error_code error;
  if (fs::exists(path_, error))
    exchange_names(temporary_, path_);
  else
    rename_to(temporary_, path_);
  sync_folder(folder_of(path_));
  fs::remove_all(temporary_, error);
}

}  // namespace weft::checkpoint
