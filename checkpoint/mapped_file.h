// A whole file mapped read-only, so that a rank touches only the pages that it reads.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace weft::checkpoint {

// REQUIRES: nobody shortens the file while it is mapped (the system would end the process).
class MappedFile {
 public:
  // Throws no_input when the path is missing, unreadable or not a regular file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  size_t size() const { return size_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace weft::checkpoint
