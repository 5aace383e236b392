#include "checkpoint/manifest.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "checkpoint/native_hdf5.h"
#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

constexpr std::string_view kSealBegin = "  \"manifest_xxh3\": \"";
constexpr std::string_view kSealEnd = "\"\n}\n";
constexpr size_t kHexDigits = 16;
constexpr int64_t kMaxChunkBytes = int64_t{1} << 30;

std::string hex(uint64_t value) {
  return fmt::format("{:016x}", value);
}

bool from_hex(std::string_view text, uint64_t* value) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), *value, 16);
  return text.size() == kHexDigits && problem == std::errc() && end == text.data() + text.size();
}

uint64_t checksum_of(const Json& json, const std::string& where) {
  uint64_t value = 0;
  if (!from_hex(json.as_string(), &value))
    fail(ErrorKind::bad_data, "[checkpoint] {}: '{}' is no checksum", where, json.as_string());
  return value;
}

Json integers(const std::vector<int64_t>& values) {
  return Json(Json::Array(values.begin(), values.end()));
}

std::vector<int64_t> integers_from(const Json& json, const std::string& where) {
  std::vector<int64_t> values;
  for (const Json& value : json.as_array()) values.push_back(value.as_int());
  if (values.size() > static_cast<size_t>(Shape::kMaxRank))
    fail(ErrorKind::bad_data, "[checkpoint] {}: a tensor of {} dims", where, values.size());
  return values;
}

DType dtype_named(const std::string& name, const std::string& where) {
  for (DType dtype :
       {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i32, DType::i64, DType::u8})
    if (name == name_of(dtype)) return dtype;
  fail(ErrorKind::bad_data, "[checkpoint] {}: dtype '{}' is not known", where, name);
}

Json json_of(const PieceRecord& piece) {
  std::string chunks;
  chunks.reserve(piece.chunks.size() * kHexDigits);
  for (uint64_t chunk : piece.chunks) chunks += hex(chunk);
  return Json(Json::Object{{"kind", piece.kind},
                           {"name", piece.name},
                           {"dtype", name_of(piece.dtype)},
                           {"shape", integers(piece.shape.to_vector())},
                           {"begin", integers(piece.box.begin)},
                           {"end", integers(piece.box.end)},
                           {"offset", piece.offset},
                           {"xxh3", std::move(chunks)}});
}

PieceRecord piece_from(const Json& json, int64_t chunk_bytes, const std::string& where) {
  PieceRecord piece;
  piece.kind = json.at("kind").as_string();
  piece.name = json.at("name").as_string();
  const std::string place = where + ": " + piece.kind + "/" + piece.name;
  piece.dtype = dtype_named(json.at("dtype").as_string(), place);
  const std::vector<int64_t> dims = integers_from(json.at("shape"), place);
  piece.box = {integers_from(json.at("begin"), place), integers_from(json.at("end"), place)};
  bool fits = piece.box.begin.size() == dims.size() && piece.box.end.size() == dims.size();
  for (size_t d = 0; fits && d < dims.size(); ++d)
    fits = 0 <= piece.box.begin[d] && piece.box.begin[d] < piece.box.end[d] &&
           piece.box.end[d] <= dims[d];
  if (!fits) fail(ErrorKind::bad_data, "[checkpoint] {}: its box is not inside it", place);
  piece.shape = Shape(dims);
  if (piece.shape.numel() > INT64_MAX / 8)
    fail(ErrorKind::bad_data, "[checkpoint] {}: too large", place);
  piece.offset = json.at("offset").as_int();
  const std::string& chunks = json.at("xxh3").as_string();
  const int64_t count = (piece.bytes() + chunk_bytes - 1) / chunk_bytes;
  if (static_cast<int64_t>(chunks.size()) != count * static_cast<int64_t>(kHexDigits))
    fail(ErrorKind::bad_data, "[checkpoint] {}: {} characters of checksums for {} chunks", place,
         chunks.size(), count);
  for (int64_t i = 0; i < count; ++i) {
    const std::string_view digits(chunks.data() + i * kHexDigits, kHexDigits);
    uint64_t value = 0;
    if (!from_hex(digits, &value))
      fail(ErrorKind::bad_data, "[checkpoint] {}: '{}' is no checksum", place, digits);
    piece.chunks.push_back(value);
  }
  return piece;
}

// A plain name: what a manifest lists must lie in its own folder.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

}  // namespace

PieceRecord PieceRecord::of(const Piece& piece) {
  PieceRecord record;
  record.kind = piece.kind;
  record.name = piece.name;
  record.dtype = piece.value.dtype();
  record.shape = piece.shape;
  record.box = piece.box;
  return record;
}

int64_t PieceRecord::bytes() const {
  return box.numel() * static_cast<int64_t>(size_of(dtype));
}

std::string PieceRecord::dataset() const {
  int64_t begin = 0;
  for (int d = 0; d < shape.rank(); ++d)
    begin = begin * shape[d] + box.begin[static_cast<size_t>(d)];
  const bool is_whole = box == parallel::whole(shape);
  return is_whole ? fmt::format("/{}/{}", kind, name) : fmt::format("/{}/{}@{}", kind, name, begin);
}

Json FileRecord::to_json() const {
  Json::Array list;
  for (const PieceRecord& piece : pieces) list.push_back(json_of(piece));
  return Json(Json::Object{{"name", name},
                           {"bytes", bytes},
                           {"structure_xxh3", hex(structure)},
                           {"pieces", Json(std::move(list))}});
}

FileRecord FileRecord::from_json(const Json& json, int64_t chunk_bytes, const std::string& where) {
  FileRecord file;
  file.name = json.at("name").as_string();
  if (!is_plain_name(file.name))
    fail(ErrorKind::bad_data, "[checkpoint] {}: '{}' is no plain file name", where, file.name);
  const std::string place = where + ": " + file.name;
  file.bytes = json.at("bytes").as_int();
  file.structure = checksum_of(json.at("structure_xxh3"), place);
  std::vector<FileRange> datasets;
  for (const Json& piece : json.at("pieces").as_array()) {
    file.pieces.push_back(piece_from(piece, chunk_bytes, place));
    const PieceRecord& record = file.pieces.back();
    if (record.offset < 0 || record.bytes() > file.bytes - record.offset)
      fail(ErrorKind::bad_data, "[checkpoint] {}: {} lies outside the file", place,
           record.dataset());
    datasets.push_back({record.offset, record.offset + record.bytes()});
  }
  ranges_outside(std::move(datasets), file.bytes, place);
  return file;
}

std::string Manifest::to_text() const {
  Json::Array list;
  for (const FileRecord& file : files) list.push_back(file.to_json());
  // A line a member: large enough to be read by people, small enough for many pieces.
  std::string text = "{\n";
  const auto put = [&](const char* key, const Json& value) {
    text += fmt::format("  \"{}\": {},\n", key, value.dump());
  };
  put("format", "weft-checkpoint");
  put("version", kManifestVersion);
  put("weft", weft_version);
  put("step", step);
  put("layout", layout);
  put("base_model", base_model);
  put("trainer", trainer);
  put("config", config);
  put("chunk_bytes", chunk_bytes);
  put("files", Json(std::move(list)));
  const uint64_t seal = XXH3_64bits(text.data(), text.size());
  return text + std::string(kSealBegin) + hex(seal) + std::string(kSealEnd);
}

Manifest Manifest::from_text(std::string_view text, const std::string& where) {
  const size_t seal_bytes = kSealBegin.size() + kHexDigits + kSealEnd.size();
  const size_t body = text.size() < seal_bytes ? 0 : text.size() - seal_bytes;
  uint64_t seal = 0;
  if (body == 0 || text.substr(body, kSealBegin.size()) != kSealBegin ||
      text.substr(text.size() - kSealEnd.size()) != kSealEnd ||
      !from_hex(text.substr(body + kSealBegin.size(), kHexDigits), &seal) ||
      seal != XXH3_64bits(text.data(), body))
    fail(ErrorKind::bad_data, "[checkpoint] {} is damaged: its own checksum does not match", where);
  const Json json = Json::parse(text, where);
  if (json.at("format").as_string() != "weft-checkpoint")
    fail(ErrorKind::bad_data, "[checkpoint] {}: not a weft checkpoint", where);
  if (json.at("version").as_int() != kManifestVersion)
    fail(ErrorKind::unavailable,
         "[checkpoint] {}: format version {}, but this weft reads version {}: use the weft that "
         "wrote it, or a newer one",
         where, json.at("version").as_int(), kManifestVersion);
  Manifest manifest;
  manifest.weft_version = json.at("weft").as_string();
  manifest.step = json.at("step").as_int();
  manifest.layout = json.at("layout");
  manifest.base_model = json.at("base_model");
  manifest.trainer = json.at("trainer");
  manifest.config = json.at("config");
  manifest.chunk_bytes = json.at("chunk_bytes").as_int();
  if (manifest.chunk_bytes <= 0 || manifest.chunk_bytes > kMaxChunkBytes ||
      manifest.chunk_bytes % 8 != 0)
    fail(ErrorKind::bad_data, "[checkpoint] {}: chunks of {} bytes", where, manifest.chunk_bytes);
  for (const Json& file : json.at("files").as_array())
    manifest.files.push_back(FileRecord::from_json(file, manifest.chunk_bytes, where));
  manifest.check_coverage(where);
  return manifest;
}

void Manifest::check_coverage(const std::string& where) const {
  std::map<std::pair<std::string_view, std::string_view>, std::vector<const PieceRecord*>> tensors;
  for (const FileRecord& file : files)
    for (const PieceRecord& piece : file.pieces)
      tensors[{piece.kind, piece.name}].push_back(&piece);
  for (const auto& [key, pieces] : tensors) {
    const PieceRecord& first = *pieces.front();
    const std::string tensor = first.kind + "/" + first.name;
    int64_t covered = 0;
    for (const PieceRecord* piece : pieces) {
      if (!(piece->shape == first.shape) || piece->dtype != first.dtype)
        fail(ErrorKind::bad_data, "[checkpoint] {}: {} is {} {} in one file and {} {} in another",
             where, tensor, name_of(first.dtype), first.shape.to_string(), name_of(piece->dtype),
             piece->shape.to_string());
      covered += piece->box.numel();
      for (const PieceRecord* other : pieces) {
        if (other == piece) break;
        if (parallel::intersect(piece->box, other->box).numel() > 0)
          fail(ErrorKind::bad_data, "[checkpoint] {}: two pieces of {} overlap", where, tensor);
      }
    }
    if (covered != first.shape.numel())
      fail(ErrorKind::bad_data, "[checkpoint] {}: {} elements of {} are there, of {}", where,
           covered, tensor, first.shape.numel());
  }
}

std::string file_name_of_rank(int rank) {
  return fmt::format("rank_{:05d}.h5", rank);
}

std::string folder_name_of_step(int64_t step) {
  return fmt::format("step_{:06d}", step);
}

int64_t step_of_folder_name(std::string_view name) {
  constexpr std::string_view kPrefix = "step_";
  if (name.substr(0, kPrefix.size()) != kPrefix) return -1;
  int64_t step = -1;
  const char* end = name.data() + name.size();
  const auto [stop, problem] = std::from_chars(name.data() + kPrefix.size(), end, step);
  const bool good = problem == std::errc() && stop == end && step >= 0;
  return good && folder_name_of_step(step) == name ? step : -1;
}

}  // namespace weft::checkpoint
