#include "checkpoint/native_shard.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace weft::checkpoint {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

// Datasets are written in pieces of this size at most, so that a hash and the write that follows
// share the cache.
constexpr int64_t kWriteBytes = kChunkBytes;

// The pieces' order in the file.
std::vector<size_t> by_offset(const Hdf5Layout& layout) {
  std::vector<size_t> order(layout.offsets.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return layout.offsets[a] < layout.offsets[b]; });
  return order;
}

PieceRecord write_piece(File& file, const Piece& piece, int64_t offset) {
  PieceRecord record = PieceRecord::of(piece);
  record.offset = offset;
  const char* bytes = static_cast<const char*>(piece.value.raw());
  for (int64_t done = 0; done < record.bytes(); done += kWriteBytes) {
    const size_t count = static_cast<size_t>(std::min(kWriteBytes, record.bytes() - done));
    record.chunks.push_back(XXH3_64bits(bytes + done, count));
    file.write_at(bytes + done, count, offset + done);
  }
  return record;
}

}  // namespace

FileRecord write_shard(FileSystem& files, const std::string& path, const std::vector<Piece>& pieces,
                       const Hdf5Labels& labels) {
  for (const Piece& piece : pieces)
    CHECK(piece.value.device().is_cpu() && piece.value.numel() > 0 &&
              piece.value.numel() == piece.box.numel(),
          "{} {}: {} elements for a box of {}", piece.kind, piece.name, piece.value.numel(),
          piece.box.numel());
  const std::unique_ptr<File> file = files.create(path);
  int64_t data_bytes = 0;
  for (const Piece& piece : pieces) data_bytes += static_cast<int64_t>(piece.value.bytes());
  file->reserve(data_bytes);  // a full disk is found out here, before any work

  const Hdf5Layout layout = lay_out_hdf5(pieces, labels);
  FileRecord record;
  record.name = file_name_of_rank(labels.rank);
  record.bytes = layout.file_bytes;
  record.structure = XXH3_64bits(layout.structure_bytes.data(), layout.structure_bytes.size());

  file->reserve(layout.file_bytes);
  size_t done = 0;
  for (const FileRange& range : layout.structure) {
    const size_t count = static_cast<size_t>(range.end - range.begin);
    file->write_at(layout.structure_bytes.data() + done, count, range.begin);
    done += count;
  }
  for (size_t i : by_offset(layout))
    record.pieces.push_back(write_piece(*file, pieces[i], layout.offsets[i]));
  file->sync();
  return record;
}

ShardReader::ShardReader(FileSystem& files, const std::string& path, const FileRecord& record,
                         int64_t chunk_bytes)
    : path_(path), record_(&record), chunk_bytes_(chunk_bytes) {
  try {
    file_ = files.open(path);
  } catch (const Error& error) {
    throw DamagedCheckpoint(error.what());
  }
  if (const int64_t size = file_->size(); size != record.bytes)
    throw DamagedCheckpoint(fmt::format("[checkpoint] {} has {} bytes; its manifest says {}", path_,
                                        size, record.bytes));
}

void ShardReader::read(void* out, int64_t bytes, int64_t offset) {
  try {
    file_->read_at(out, static_cast<size_t>(bytes), offset);
  } catch (const Error& error) {
    throw DamagedCheckpoint(error.what());
  }
}

void ShardReader::verify_structure() {
  if (structure_verified_) return;
  std::vector<FileRange> datasets;
  for (const PieceRecord& piece : record_->pieces)
    datasets.push_back({piece.offset, piece.offset + piece.bytes()});
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for (const FileRange& range : ranges_outside(std::move(datasets), record_->bytes, path_)) {
    for (int64_t at = range.begin; at < range.end;) {
      const int64_t bytes = std::min(range.end - at, chunk_bytes_);
      buffer_.resize(std::max(buffer_.size(), static_cast<size_t>(bytes)));
      read(buffer_.data(), bytes, at);
      XXH3_64bits_update(state.get(), buffer_.data(), static_cast<size_t>(bytes));
      at += bytes;
    }
  }
  if (XXH3_64bits_digest(state.get()) != record_->structure)
    throw DamagedCheckpoint(fmt::format(
        "[checkpoint] {}: the HDF5 structure (headers, names, attributes) is not what was written",
        path_));
  structure_verified_ = true;
}

void ShardReader::read_chunk(const PieceRecord& piece, int64_t chunk, void* out) {
  const int64_t begin = chunk * chunk_bytes_;
  const int64_t bytes = std::min(chunk_bytes_, piece.bytes() - begin);
  read(out, bytes, piece.offset + begin);
  if (XXH3_64bits(out, static_cast<size_t>(bytes)) != piece.chunks[static_cast<size_t>(chunk)])
    throw DamagedCheckpoint(fmt::format(
        "[checkpoint] {}: dataset {}, chunk {} of {} (bytes {} to {} of the file) is not what was "
        "written",
        path_, piece.dataset(), chunk, piece.chunks.size(), piece.offset + begin,
        piece.offset + begin + bytes));
}

void ShardReader::make_room(const PieceRecord& piece) {
  const size_t bytes = static_cast<size_t>(std::min(chunk_bytes_, piece.bytes()));
  if (buffer_.size() < bytes) buffer_.resize(bytes);
}

void ShardReader::verify_piece(size_t index) {
  const PieceRecord& piece = record_->pieces[index];
  make_room(piece);
  for (size_t chunk = 0; chunk < piece.chunks.size(); ++chunk)
    read_chunk(piece, static_cast<int64_t>(chunk), buffer_.data());
}

void ShardReader::copy(size_t index, const std::vector<parallel::CopyRun>& runs, void* out) {
  verify_structure();
  const PieceRecord& piece = record_->pieces[index];
  const int64_t element = static_cast<int64_t>(size_of(piece.dtype));
  make_room(piece);
  int64_t in_buffer = -1;  // the chunk that the buffer holds
  for (const parallel::CopyRun& run : runs) {
    int64_t at = run.source * element;
    const int64_t end = at + run.count * element;
    char* to = static_cast<char*>(out) + run.destination * element;
    while (at < end) {
      const int64_t chunk = at / chunk_bytes_, begin = chunk * chunk_bytes_;
      const int64_t chunk_end = std::min(begin + chunk_bytes_, piece.bytes());
      const int64_t bytes = std::min(chunk_end, end) - at;
      if (bytes == chunk_end - begin) {
        read_chunk(piece, chunk, to);  // all of it is wanted: no copy
      } else {
        if (chunk != in_buffer) read_chunk(piece, chunk, buffer_.data());
        in_buffer = chunk;
        std::memcpy(to, buffer_.data() + (at - begin), static_cast<size_t>(bytes));
      }
      at += bytes;
      to += bytes;
    }
  }
}

}  // namespace weft::checkpoint
