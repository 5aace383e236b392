// All I/O of native checkpoints goes through this small interface, so that tests can make a disk
// lie: fail at the n-th call, lose what was not synced. One real definition (local_file_system),
// one fake (tests/checkpoint).
//
// Every call throws Error{io} with the path, the cause and what to do; a file that is missing is
// Error{no_input}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weft::checkpoint {

// An open file. Not thread-safe. Destruction closes it; what was not synced may then be lost.
class File {
 public:
  virtual ~File() = default;
  virtual void write_at(const void* data, size_t bytes, int64_t offset) = 0;  // all of it
  virtual void read_at(void* data, size_t bytes, int64_t offset) = 0;  // bad_data past the end
  virtual void reserve(int64_t bytes) = 0;  // sets the size; space is taken now where the disk can
  virtual int64_t size() = 0;
  virtual void sync() = 0;  // returns when the bytes are on the disk
};

// Held as long as the object lives; gone with the process, however it ends.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual std::unique_ptr<File> create(const std::string& path) = 0;  // empties an existing one
  virtual std::unique_ptr<File> open(const std::string& path) = 0;    // for reading
  virtual bool exists(const std::string& path) = 0;
  virtual std::vector<std::string> list(const std::string& folder) = 0;  // names, sorted
  virtual void make_folder(const std::string& path) = 0;  // with its parents; existing is fine
  virtual void rename(const std::string& from, const std::string& to) = 0;  // replaces a file
  virtual void remove(const std::string& path) = 0;  // a file or a whole folder; missing is fine
  virtual void sync_folder(const std::string& path) = 0;  // makes names in it durable
  virtual int64_t free_bytes(const std::string& path) = 0;
  // Writes `owner` into the file and holds it. nullptr: another process does; `holder` says who.
  virtual std::unique_ptr<FileLock> lock(const std::string& path, const std::string& owner,
                                         std::string* holder) = 0;
};

FileSystem& local_file_system();

// What to do about an errno of the disk: "free space on the disk or lower checkpoint.keep".
std::string advice_for(int error_number);

// Throws Error: "[checkpoint] cannot {action} {path}: {reason}; {advice}".
[[noreturn]] void fail_io(int error_number, std::string_view action, const std::string& path);

// Conveniences over the interface.
std::string read_text(FileSystem& files, const std::string& path, size_t max_bytes);
// Writes PATH.tmp, syncs it, renames it to PATH, syncs the folder: readers see the old or the new.
void replace_text(FileSystem& files, const std::string& path, std::string_view text);
std::string join(const std::string& folder, const std::string& name);

}  // namespace weft::checkpoint
