// One rank's file: written whole and synced, or read with every byte verified.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/file_system.h"
#include "checkpoint/manifest.h"
#include "checkpoint/native_hdf5.h"

namespace weft::checkpoint {

// The checkpoint on disk is not what its manifest vouches for, or cannot be read: fall back to an
// older one.
class DamagedCheckpoint : public Error {
 public:
  explicit DamagedCheckpoint(const std::string& message) : Error(ErrorKind::bad_data, message) {}
};

// Writes and syncs `path`. Nothing is vouched for until a manifest holds the record.
FileRecord write_shard(FileSystem& files, const std::string& path, const std::vector<Piece>& pieces,
                       const Hdf5Labels& labels);

// Reads what `record` vouches for. Thread-compatible.
class ShardReader {
 public:
  // Throws DamagedCheckpoint when the file is missing or its size is not the record's.
  ShardReader(FileSystem& files, const std::string& path, const FileRecord& record,
              int64_t chunk_bytes);

  // Copies runs of piece `index` (in ascending order of source) to `out`, offsets in elements.
  // Throws DamagedCheckpoint naming file, dataset and chunk when the bytes are not those vouched
  // for.
  void copy(size_t index, const std::vector<parallel::CopyRun>& runs, void* out);

  void verify_structure();  // of bytes outside the datasets; once, before the first copy
  void verify_piece(size_t index);

 private:
  void read(void* out, int64_t bytes, int64_t offset);
  void make_room(const PieceRecord& piece);  // for a chunk of it, in the buffer
  void read_chunk(const PieceRecord& piece, int64_t chunk, void* out);

  std::string path_;
  const FileRecord* record_;  // REQUIRES to outlive the reader
  int64_t chunk_bytes_;
  std::unique_ptr<File> file_;
  std::vector<char> buffer_;
  bool structure_verified_ = false;
};

}  // namespace weft::checkpoint
