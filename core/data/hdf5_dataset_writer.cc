#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/base/error.h"
#include "core/data/hdf5_dataset.h"
#include "core/data/hdf5_rows.h"

namespace weft::data {
namespace {

using hdf5::Handle, hdf5::reason;

constexpr int64_t kMaxU16 = 65536;

class Writer {
 public:
  explicit Writer(const std::string& path)
      : path_(path), temporary_(path + ".tmp-" + std::to_string(getpid())), file_(create()) {}
  ~Writer() {
    if (file_ >= 0) file_.close();
    if (!committed_) ::unlink(temporary_.c_str());
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void attribute(const char* name, const std::string& value) {
    const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
    check(H5Tset_size(type, std::max<size_t>(value.size(), 1)));
    check(H5Tset_strpad(type, H5T_STR_NULLPAD));
    check(H5Tset_cset(type, H5T_CSET_UTF8));
    put(name, type, type, value.c_str());
  }
  void attribute(const char* name, int64_t value) {
    put(name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
  }

  Handle dataset(const char* name, hid_t type, const std::vector<hsize_t>& dims) {
    const Handle space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
                       H5Sclose);
    const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    check(H5Pset_layout(creation, H5D_CONTIGUOUS));
    check(H5Pset_obj_track_times(creation, 0));
    Handle made(H5Dcreate2(file_, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose);
    check(made < 0 ? -1 : 0);
    return made;
  }

  // `values` holds whole rows of `dataset`.
  void rows(hid_t dataset, hid_t memory_type, int64_t begin, int64_t count, const void* values,
            int64_t width = 1) {
    if (count == 0) return;
    const Handle memory = line_space(count * width), place = rows_of(dataset, begin, count);
    check(H5Dwrite(dataset, memory_type, memory, place, H5P_DEFAULT, values));
  }

  void commit() {
    check(file_.close());
    sync(temporary_, O_RDONLY);
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_io("renamed", path_);
    committed_ = true;
    const std::string folder = std::filesystem::path(path_).parent_path().string();
    sync(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
  }

 private:
  Handle create() {
    errno = 0;
    const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
    H5Pset_obj_track_times(creation, 0);
    Handle file(H5Fcreate(temporary_.c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose);
    if (file < 0) fail_io("written", path_);
    return file;
  }

  void put(const char* name, hid_t type, hid_t memory_type, const void* value) {
    const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
    const Handle made(H5Acreate2(file_, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    check(made < 0 ? -1 : H5Awrite(made, memory_type, value));
  }

  void check(herr_t status) const {
    if (status < 0) fail_io("written", path_);
  }

  static void sync(const std::string& path, int flags) {
    const int file = ::open(path.c_str(), flags | O_CLOEXEC);
    const bool synced = file >= 0 && (::fsync(file) == 0 || errno == EINVAL || errno == ENOTSUP);
    const int error = errno;
    if (file >= 0) ::close(file);
    errno = error;
    if (!synced) fail_io("synced", path);
  }

  [[noreturn]] static void fail_io(const char* action, const std::string& path) {
    const int error = errno;
    fail(ErrorKind::io, "{}: cannot be {}: {}", path, action,
         error ? std::strerror(error) : reason());
  }

  std::string path_, temporary_;
  Handle file_;
  bool committed_ = false;
};

void write_tokens(Writer& writer, const Dataset& dataset, hid_t tokens, hid_t mask) {
  std::vector<int32_t> ids;
  std::vector<uint8_t> trained;
  int64_t written = 0;
  const auto flush = [&] {
    const int64_t count = static_cast<int64_t>(ids.size());
    writer.rows(tokens, H5T_NATIVE_INT32, written, count, ids.data());
    writer.rows(mask, H5T_NATIVE_UINT8, written, count, trained.data());
    written += count;
    ids.clear(), trained.clear();
  };
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const ExampleView example = dataset.example(i);
    ids.insert(ids.end(), example.ids.begin(), example.ids.end());
    trained.insert(trained.end(), example.trained.begin(), example.trained.end());
    if (static_cast<int64_t>(ids.size()) >= kHdf5Chunk) flush();
  }
  flush();
}

}  // namespace

void write_hdf5_dataset(const std::string& path, const Dataset& dataset,
                        const std::string& tokenizer_hash, int64_t vocab_size) {
  const hdf5::Session session;
  std::vector<uint64_t> offsets = {0}, hashes;
  std::vector<int64_t> answers;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const ExampleView example = dataset.example(i);
    offsets.push_back(offsets.back() + example.ids.size());
    hashes.push_back(example.record_hash);
    answers.insert(answers.end(), {example.answer_begin, example.answer_end});
  }
  CHECK(!hashes.empty(), "a dataset without examples");
  Writer writer(path);
  writer.attribute("format", kHdf5Format);
  writer.attribute("version", kHdf5Version);
  writer.attribute("weft_version", WEFT_VERSION);
  writer.attribute("tokenizer_hash", tokenizer_hash);
  writer.attribute("vocab_size", vocab_size);
  const hsize_t documents = hashes.size(), tokens = offsets.back();
  const int64_t rows = dataset.size();
  {
    const Handle ids =
        writer.dataset("tokens", vocab_size <= kMaxU16 ? H5T_STD_U16LE : H5T_STD_U32LE, {tokens});
    const Handle mask = writer.dataset("loss_mask", H5T_STD_U8LE, {tokens});
    write_tokens(writer, dataset, ids, mask);
    writer.rows(writer.dataset("doc_offsets", H5T_STD_U64LE, {documents + 1}), H5T_NATIVE_UINT64, 0,
                rows + 1, offsets.data());
    writer.rows(writer.dataset("answer_ranges", H5T_STD_I64LE, {documents, 2}), H5T_NATIVE_INT64, 0,
                rows, answers.data(), 2);
    writer.rows(writer.dataset("record_hashes", H5T_STD_U64LE, {documents}), H5T_NATIVE_UINT64, 0,
                rows, hashes.data());
  }
  writer.commit();
}

}  // namespace weft::data
