// Files and folders that appear under their name only when they are whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft::checkpoint {

// Writes to a temporary name beside `path`. commit() syncs, renames and syncs the folder; without
// it the destructor removes the temporary file. Throws io (disk full, permission) with path, place
// and reason.
class ExportFile {
 public:
  explicit ExportFile(const std::string& path);
  ~ExportFile();
  ExportFile(const ExportFile&) = delete;
  ExportFile& operator=(const ExportFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void pad_to(size_t alignment);  // zeros up to a multiple of it
  uint64_t size() const { return flushed_ + buffer_.size(); }
  void commit();

 private:
  void flush();
  void discard() noexcept;

  std::string path_;
  std::string temporary_;
  int file_ = -1;
  uint64_t flushed_ = 0;
  std::vector<std::byte> buffer_;
};

// One small text file, whole or not at all.
void write_text_file(const std::string& path, std::string_view text);

// A folder that is filled under a temporary name. commit() puts it in the place of an older export;
// it refuses (io) to replace a folder that holds anything an export does not write.
class ExportFolder {
 public:
  explicit ExportFolder(const std::string& path);
  ~ExportFolder();
  ExportFolder(const ExportFolder&) = delete;
  ExportFolder& operator=(const ExportFolder&) = delete;

  const std::string& folder() const { return temporary_; }  // where files go until then
  std::string file(const std::string& name) const { return temporary_ + "/" + name; }
  void commit();

 private:
  void check_replaceable() const;

  std::string path_;
  std::string temporary_;
};

}  // namespace weft::checkpoint
