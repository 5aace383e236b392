// manifest.json: what a checkpoint consists of and the checksums that vouch for every byte of it.
// The format is frozen: docs/checkpoint-format.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/native_piece.h"
#include "core/base/json.h"

namespace weft::checkpoint {

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr int kManifestVersion = 1;
inline constexpr int64_t kChunkBytes = int64_t{4} << 20;

// A dataset of a rank's file: `box` of the global tensor at byte `offset`, row-major,
// little-endian.
struct PieceRecord {
  std::string kind;
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  Box box;
  int64_t offset = 0;
  std::vector<uint64_t> chunks;  // XXH3-64 of each chunk_bytes of the dataset

  static PieceRecord of(const Piece& piece);  // without offset and chunks
  int64_t bytes() const;
  std::string dataset() const;  // its path in the file: "/value/model.norm.weight"
};

// A rank's file. Every byte of it is in one dataset or in the structure.
struct FileRecord {
  std::string name;  // "rank_00000.h5"
  int64_t bytes = 0;
  uint64_t structure = 0;           // XXH3-64 of all bytes outside the datasets, in file order
  std::vector<PieceRecord> pieces;  // by offset

  Json to_json() const;
  // `where` names the source in errors. Every number is checked against the others.
  static FileRecord from_json(const Json& json, int64_t chunk_bytes, const std::string& where);
};

struct Manifest {
  int64_t step = 0;
  std::string weft_version;
  int64_t chunk_bytes = kChunkBytes;
  Json layout;      // how the ranks were arranged: {"ranks": 4, "data": 4, ...}
  Json base_model;  // null, or {"path": ..., "hash": ...}
  Json trainer;     // cursor, seed, counters, schedule, best evaluation
  Json config;      // fully resolved
  std::vector<FileRecord> files;

  std::string to_text() const;  // ends with a checksum of itself
  // Throws bad_data naming `where`: not whole, not a manifest, from a newer weft, or inconsistent.
  static Manifest from_text(std::string_view text, const std::string& where);

  // Throws bad_data when pieces of a tensor overlap, leave holes or disagree on shape or dtype.
  void check_coverage(const std::string& where) const;
};

std::string file_name_of_rank(int rank);             // "rank_00003.h5"
std::string folder_name_of_step(int64_t step);       // "step_000500"
int64_t step_of_folder_name(std::string_view name);  // -1: not the name of a checkpoint

}  // namespace weft::checkpoint
