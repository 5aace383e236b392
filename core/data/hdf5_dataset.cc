#include "core/data/hdf5_dataset.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/data/hdf5_rows.h"

namespace weft::data {
namespace {

using hdf5::Handle, hdf5::reason;

constexpr std::string_view kSignature = "\x89HDF\r\n\x1a\n";
constexpr size_t kMaxAttributeBytes = 4096;

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(open(path)) {
    std::error_code error;
    file_bytes_ = std::filesystem::file_size(path, error);
    if (attribute_text("format") != kHdf5Format)
      bad("it is no dataset of weft: make one with `weft data`");
    if (const int64_t version = attribute_int("version"); version != kHdf5Version)
      bad(fmt::format("format version {}, only {} is read: make the file again", version,
                      kHdf5Version));
    info_.tokenizer_hash = attribute_text("tokenizer_hash");
    info_.weft_version = attribute_text("weft_version");
    info_.vocab_size = attribute_int("vocab_size");
  }

  // Shape, type and storage are what the format says; `width` is 0 for a dataset of one dimension.
  Handle dataset(const char* name, std::initializer_list<hid_t> types, hsize_t width,
                 int64_t& rows) {
    H5L_info_t link;
    if (H5Lget_info(file_, name, &link, H5P_DEFAULT) < 0)
      bad(fmt::format("it has no dataset '{}'", name));
    if (link.type != H5L_TYPE_HARD) bad(fmt::format("'{}' is a link to elsewhere", name));
    Handle found(H5Dopen2(file_, name, H5P_DEFAULT), H5Dclose);
    if (found < 0) bad(fmt::format("'{}' is no dataset", name));
    const Handle creation(H5Dget_create_plist(found), H5Pclose);
    if (H5Pget_layout(creation) != H5D_CONTIGUOUS || H5Pget_nfilters(creation) != 0 ||
        H5Pget_external_count(creation) != 0)
      bad(fmt::format("'{}' is not stored in one plain block of this file", name));
    const Handle type(H5Dget_type(found), H5Tclose);
    if (std::none_of(types.begin(), types.end(),
                     [&](hid_t known) { return H5Tequal(type, known) > 0; }))
      bad(fmt::format("'{}' has another type than the format says", name));
    const Handle space(H5Dget_space(found), H5Sclose);
    hsize_t dims[2] = {0, 0};
    const int rank = H5Sget_simple_extent_ndims(space);
    if (rank != (width ? 2 : 1) || H5Sget_simple_extent_dims(space, dims, nullptr) < 0 ||
        (width && dims[1] != width))
      bad(fmt::format("'{}' has another shape than the format says", name));
    check_storage(found, name, H5Tget_size(type) * std::max<hsize_t>(width, 1), dims[0]);
    rows = static_cast<int64_t>(dims[0]);
    return found;
  }

  void rows(hid_t dataset, hid_t memory_type, int64_t begin, int64_t count, void* values,
            int64_t width = 1) const {
    if (count == 0) return;
    const Handle memory = line_space(count * width), place = rows_of(dataset, begin, count);
    if (H5Dread(dataset, memory_type, memory, place, H5P_DEFAULT, values) < 0) bad(reason());
  }

  [[noreturn]] void bad(const std::string& what) const {
    fail(ErrorKind::bad_data, "{}: {}", path_, what);
  }

  Hdf5DatasetInfo& info() { return info_; }

 private:
  static Handle open(const std::string& path) {
    if (!is_hdf5_file(path)) fail(ErrorKind::bad_data, "{}: it is no HDF5 file", path);
    const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
    if (file < 0)
      fail(ErrorKind::bad_data, "{}: HDF5 cannot open it: {}; it is damaged or cut off", path,
           reason());
    return file;
  }

  void check_storage(hid_t dataset, const char* name, hsize_t row_bytes, hsize_t rows) const {
    const haddr_t offset = H5Dget_offset(dataset);
    const uint64_t begin = offset == HADDR_UNDEF ? 0 : offset;
    const bool placed = offset != HADDR_UNDEF || rows == 0;
    if (!placed || begin > file_bytes_ || rows > (file_bytes_ - begin) / row_bytes)
      bad(fmt::format("'{}' claims {} rows, more than the file holds", name, rows));
  }

  Handle attribute(const char* name) const {
    Handle found(H5Aopen(file_, name, H5P_DEFAULT), H5Aclose);
    if (found < 0)
      bad(fmt::format("it has no attribute '{}': damaged, or no dataset of weft", name));
    const Handle space(H5Aget_space(found), H5Sclose);
    if (H5Sget_simple_extent_npoints(space) != 1)
      bad(fmt::format("attribute '{}' is not one value", name));
    return found;
  }
  std::string attribute_text(const char* name) const {
    const Handle found = attribute(name);
    const Handle type(H5Aget_type(found), H5Tclose);
    const size_t size = H5Tget_size(type);
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
        size > kMaxAttributeBytes)
      bad(fmt::format("attribute '{}' is not a plain text", name));
    std::string text(size, '\0');
    if (H5Aread(found, type, text.data()) < 0) bad(reason());
    return text.substr(0, text.find('\0'));
  }
  int64_t attribute_int(const char* name) const {
    const Handle found = attribute(name);
    const Handle type(H5Aget_type(found), H5Tclose);
    int64_t value = 0;
    if (H5Tget_class(type) != H5T_INTEGER || H5Aread(found, H5T_NATIVE_INT64, &value) < 0)
      bad(fmt::format("attribute '{}' is not an integer", name));
    return value;
  }

  std::string path_;
  Handle file_;
  uint64_t file_bytes_ = 0;
  Hdf5DatasetInfo info_;
};

// All datasets of the file, their shapes in agreement.
struct Contents {
  Handle tokens, mask, offsets, answers, hashes;

  static Contents open(Reader& reader) {
    int64_t tokens = 0, mask = 0, offsets = 0, answers = 0, hashes = 0;
    Contents contents{reader.dataset("tokens", {H5T_STD_U16LE, H5T_STD_U32LE}, 0, tokens),
                      reader.dataset("loss_mask", {H5T_STD_U8LE}, 0, mask),
                      reader.dataset("doc_offsets", {H5T_STD_U64LE}, 0, offsets),
                      reader.dataset("answer_ranges", {H5T_STD_I64LE}, 2, answers),
                      reader.dataset("record_hashes", {H5T_STD_U64LE}, 0, hashes)};
    if (mask != tokens || offsets != answers + 1 || answers != hashes)
      reader.bad(
          fmt::format("its datasets do not agree: {} tokens, {} in the loss mask, {} "
                      "offsets, {} answer ranges, {} hashes",
                      tokens, mask, offsets, answers, hashes));
    reader.info().tokens = tokens;
    reader.info().documents = answers;
    return contents;
  }
};

// doc_offsets: from 0 to the number of tokens, never down.
std::vector<uint64_t> read_offsets(Reader& reader, const Contents& contents) {
  std::vector<uint64_t> offsets(static_cast<size_t>(reader.info().documents) + 1);
  reader.rows(contents.offsets, H5T_NATIVE_UINT64, 0, static_cast<int64_t>(offsets.size()),
              offsets.data());
  if (offsets.front() != 0 || offsets.back() != static_cast<uint64_t>(reader.info().tokens))
    reader.bad(fmt::format("doc_offsets go from {} to {}, there are {} tokens", offsets.front(),
                           offsets.back(), reader.info().tokens));
  const auto down = std::is_sorted_until(offsets.begin(), offsets.end());
  if (down != offsets.end())
    reader.bad(
        fmt::format("doc_offsets[{}] = {} is below the one before", down - offsets.begin(), *down));
  return offsets;
}

// The documents from `begin` on that have about kHdf5Chunk tokens together (at least one document).
class Documents {
 public:
  Documents(const Reader& reader, const Contents& contents, const std::vector<uint64_t>& offsets,
            int64_t begin)
      : offsets_(offsets), begin_(begin), end_(begin + 1) {
    const int64_t all = static_cast<int64_t>(offsets.size()) - 1;
    while (end_ < all && end_ - begin < kHdf5Chunk &&
           offset(end_ + 1) - offset(begin) <= kHdf5Chunk)
      ++end_;
    const int64_t documents = end_ - begin, tokens = offset(end_) - offset(begin);
    ids_.resize(static_cast<size_t>(tokens));
    trained_.resize(static_cast<size_t>(tokens));
    answers_.resize(static_cast<size_t>(documents) * 2);
    hashes_.resize(static_cast<size_t>(documents));
    reader.rows(contents.tokens, H5T_NATIVE_INT32, offset(begin), tokens, ids_.data());
    reader.rows(contents.mask, H5T_NATIVE_UINT8, offset(begin), tokens, trained_.data());
    reader.rows(contents.answers, H5T_NATIVE_INT64, begin, documents, answers_.data(), 2);
    reader.rows(contents.hashes, H5T_NATIVE_UINT64, begin, documents, hashes_.data());
  }

  int64_t end() const { return end_; }
  Example example(int64_t document) const {
    const int64_t from = offset(document) - offset(begin_),
                  to = offset(document + 1) - offset(begin_);
    const size_t i = static_cast<size_t>(document - begin_);
    Example example;
    example.ids.assign(ids_.begin() + from, ids_.begin() + to);
    example.trained.assign(trained_.begin() + from, trained_.begin() + to);
    example.answer_begin = answers_[2 * i];
    example.answer_end = answers_[2 * i + 1];
    example.record_hash = hashes_[i];
    return example;
  }

 private:
  int64_t offset(int64_t document) const {
    return static_cast<int64_t>(offsets_[static_cast<size_t>(document)]);
  }

  const std::vector<uint64_t>& offsets_;
  int64_t begin_, end_;
  std::vector<int32_t> ids_;
  std::vector<uint8_t> trained_;
  std::vector<int64_t> answers_;
  std::vector<uint64_t> hashes_;
};

void check_example(const Reader& reader, const Example& example, int64_t document,
                   int64_t vocab_size) {
  for (int32_t id : example.ids)
    if (id < 0 || id >= vocab_size)
      reader.bad(fmt::format("document {}: token id {} is outside the vocabulary of {}", document,
                             id, vocab_size));
  const int64_t length = static_cast<int64_t>(example.ids.size());
  const int64_t begin = example.answer_begin, end = example.answer_end;
  const bool none = begin == -1 && end == -1;
  if (!none && !(0 <= begin && begin <= end && end <= length))
    reader.bad(fmt::format("document {}: answer range [{}, {}) in {} tokens", document, begin, end,
                           length));
}

}  // namespace

bool is_hdf5_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(ErrorKind::no_input, "{}: cannot be opened: {}", path, std::strerror(errno));
  std::string begin(kSignature.size(), '\0');
  in.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return begin == kSignature;
}

Hdf5DatasetInfo read_hdf5_info(const std::string& path) {
  const hdf5::Session session;
  Reader reader(path);
  Contents::open(reader);
  return reader.info();
}

void read_hdf5_dataset(const std::string& path, const std::string& tokenizer_hash,
                       const std::function<bool(const Example&, const std::string&)>& take) {
  const hdf5::Session session;
  Reader reader(path);
  const Contents contents = Contents::open(reader);
  if (reader.info().tokenizer_hash != tokenizer_hash)
    reader.bad(
        fmt::format("its tokens were made by the tokenizer {}, this model has {}: make the file "
                    "again with `weft data --tokenizer`",
                    reader.info().tokenizer_hash, tokenizer_hash));
  if (reader.info().documents == 0) reader.bad("the file holds no records");
  const std::vector<uint64_t> offsets = read_offsets(reader, contents);
  for (int64_t begin = 0; begin < reader.info().documents;) {
    const Documents part(reader, contents, offsets, begin);
    for (int64_t i = begin; i < part.end(); ++i) {
      const Example example = part.example(i);
      check_example(reader, example, i, reader.info().vocab_size);
      if (!take(example, fmt::format("{}, document {}", path, i))) return;
    }
    begin = part.end();
  }
}

}  // namespace weft::data
