#include "checkpoint/file_system.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/base/error.h"
#include "core/base/log.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

int open_retrying(const std::string& path, int flags) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

void sync_descriptor(int fd, const std::string& path) {
  int result;
  do {
    result = ::fsync(fd);
  } while (result != 0 && errno == EINTR);
  // Some file systems have nothing to sync in a folder and say EINVAL.
  if (result != 0 && errno != EINVAL) fail_io(errno, "sync", path);
}

class LocalFile : public File {
 public:
  LocalFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  void write_at(const void* data, size_t bytes, int64_t offset) override {
    const char* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t done = ::pwrite(fd_.get(), from, bytes, offset);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail_io(errno, "write", path_);
      if (done == 0) fail_io(ENOSPC, "write", path_);
      from += done;
      offset += done;
      bytes -= static_cast<size_t>(done);
    }
  }

  void read_at(void* data, size_t bytes, int64_t offset) override {
    char* to = static_cast<char*>(data);
    while (bytes > 0) {
      const ssize_t done = ::pread(fd_.get(), to, bytes, offset);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail_io(errno, "read", path_);
      if (done == 0)
        fail(ErrorKind::bad_data, "[checkpoint] {} ends at byte {}, {} bytes too early", path_,
             offset, bytes);
      to += done;
      offset += done;
      bytes -= static_cast<size_t>(done);
    }
  }

  void reserve(int64_t bytes) override {
    int result;
    do {
      result = bytes > 0 ? ::fallocate(fd_.get(), 0, 0, bytes) : 0;
    } while (result != 0 && errno == EINTR);
    if (result != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
      fail_io(errno, "take space for", path_);
    if (::ftruncate(fd_.get(), bytes) != 0) fail_io(errno, "set the size of", path_);
  }

  int64_t size() override {
    struct stat status;
    if (::fstat(fd_.get(), &status) != 0) fail_io(errno, "look at", path_);
    return status.st_size;
  }

  void sync() override { sync_descriptor(fd_.get(), path_); }

 private:
  Descriptor fd_;
  std::string path_;
};

class LocalLock : public FileLock {
 public:
  explicit LocalLock(int fd) : fd_(fd) {}

 private:
  Descriptor fd_;
};

std::string text_of(int fd) {
  char text[512];
  const ssize_t length = ::pread(fd, text, sizeof text, 0);
  std::string result(text, length > 0 ? static_cast<size_t>(length) : 0);
  while (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

class LocalFileSystem : public FileSystem {
 public:
  std::unique_ptr<File> create(const std::string& path) override {
    const int fd = open_retrying(path, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0) fail_io(errno, "create", path);
    return std::make_unique<LocalFile>(fd, path);
  }

  std::unique_ptr<File> open(const std::string& path) override {
    const int fd = open_retrying(path, O_RDONLY);
    if (fd < 0) fail_io(errno, "open", path);
    return std::make_unique<LocalFile>(fd, path);
  }

  bool exists(const std::string& path) override {
    struct stat status;
    if (::stat(path.c_str(), &status) == 0) return true;
    if (errno != ENOENT && errno != ENOTDIR) fail_io(errno, "look at", path);
    return false;
  }

  std::vector<std::string> list(const std::string& folder) override {
    std::vector<std::string> names;
    std::error_code problem;
    for (fs::directory_iterator it(folder, problem), end; !problem && it != end;
         it.increment(problem))
      names.push_back(it->path().filename().string());
    if (problem) fail_io(problem.value(), "list", folder);
    std::sort(names.begin(), names.end());
    return names;
  }

  void make_folder(const std::string& path) override {
    std::error_code problem;
    fs::create_directories(path, problem);
    if (problem) fail_io(problem.value(), "make folder", path);
  }

  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail_io(errno, "rename to " + to, from);
  }

  void remove(const std::string& path) override {
    std::error_code problem;
    fs::remove_all(path, problem);
    if (problem) fail_io(problem.value(), "remove", path);
  }

  void sync_folder(const std::string& path) override {
    const Descriptor fd(open_retrying(path, O_RDONLY | O_DIRECTORY));
    if (fd.get() < 0) fail_io(errno, "open folder", path);
    sync_descriptor(fd.get(), path);
  }

  int64_t free_bytes(const std::string& path) override {
    struct statvfs status;
    if (::statvfs(path.c_str(), &status) != 0) fail_io(errno, "ask the free space of", path);
    return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
  }

  std::unique_ptr<FileLock> lock(const std::string& path, const std::string& owner,
                                 std::string* holder) override {
    const int fd = open_retrying(path, O_RDWR | O_CREAT);
    if (fd < 0) fail_io(errno, "open lock", path);
    auto lock = std::make_unique<LocalLock>(fd);
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) {
        *holder = text_of(fd);
        return nullptr;
      }
      if (errno != ENOLCK && errno != ENOSYS && errno != EOPNOTSUPP) fail_io(errno, "lock", path);
      log::warn("[checkpoint] {} cannot be locked ({}): make sure that one run uses this folder",
                path, std::strerror(errno));
    }
    const std::string text = owner + "\n";
    if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, text.data(), text.size(), 0) < 0)
      fail_io(errno, "write", path);
    return lock;
  }
};

}  // namespace

FileSystem& local_file_system() {
  static LocalFileSystem files;
  return files;
}

std::string advice_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
      return "free space on that disk, lower checkpoint.keep or choose another run folder";
    case EDQUOT:
      return "your quota on that disk is used up: free space or choose another run folder";
    case EFBIG:
      return "a limit on file size is in force: see 'ulimit -f'";
    case EROFS:
      return "that disk is mounted read-only: choose another run folder";
    case EACCES:
    case EPERM:
      return "check the permissions or choose another run folder";
    case EIO:
      return "the disk reports a fault: see the system log, then choose another disk";
    case EMFILE:
    case ENFILE:
      return "too many files are open: see 'ulimit -n'";
    case ENOENT:
      return "check the path";
    default:
      return "check the disk and the path";
  }
}

void fail_io(int error_number, std::string_view action, const std::string& path) {
  const ErrorKind kind = error_number == ENOENT ? ErrorKind::no_input : ErrorKind::io;
  fail(kind, "[checkpoint] cannot {} {}: {}; {}", action, path,
       std::generic_category().message(error_number), advice_for(error_number));
}

std::string read_text(FileSystem& files, const std::string& path, size_t max_bytes) {
  const std::unique_ptr<File> file = files.open(path);
  const int64_t size = file->size();
  if (size > static_cast<int64_t>(max_bytes))
    fail(ErrorKind::bad_data, "[checkpoint] {} has {} bytes; at most {} can be right", path, size,
         max_bytes);
  std::string text(static_cast<size_t>(size), '\0');
  file->read_at(text.data(), text.size(), 0);
  return text;
}

void replace_text(FileSystem& files, const std::string& path, std::string_view text) {
  const std::string temporary = path + ".tmp";
  {
    const std::unique_ptr<File> file = files.create(temporary);
    file->write_at(text.data(), text.size(), 0);
    file->sync();
  }
  files.rename(temporary, path);
  const std::string folder = fs::path(path).parent_path().string();
  files.sync_folder(folder.empty() ? "." : folder);
}

std::string join(const std::string& folder, const std::string& name) {
  return (fs::path(folder) / name).string();
}

}  // namespace weft::checkpoint
