#include "checkpoint/native_hdf5.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "checkpoint/file_system.h"
#include "core/base/error.h"
#include "core/base/hdf5.h"

namespace weft::checkpoint {
namespace {

constexpr hsize_t kAlignment = 4096;           // of datasets that are at least that large
constexpr hsize_t kMetadataBlock = 64 * 1024;  // keeps the structure in few ranges

// HDF5 writes to memory: what fails there is a limit of the process or our bug.
[[noreturn]] void fail_hdf5(const std::string& what) {
  const bool is_limit = errno == EFBIG || errno == ENOSPC || errno == EDQUOT || errno == EMFILE;
  if (is_limit)
    fail(ErrorKind::io, "[checkpoint] HDF5: {}: {}; {}", what, std::strerror(errno),
         advice_for(errno));
  fail(ErrorKind::bad_data, "[checkpoint] HDF5: {}: {}", what, hdf5::reason());
}

// An identifier; making one from a failed call throws.
class Handle : public hdf5::Handle {
 public:
  Handle(hid_t id, Close close, const std::string& what) : hdf5::Handle(id, close) {
    if (id < 0) fail_hdf5(what);
  }
  void close(const std::string& what) {
    if (hdf5::Handle::close() < 0) fail_hdf5(what);
  }
};

void require(herr_t status, const std::string& what) {
  if (status < 0) fail_hdf5(what);
}

// A float of two bytes that HDF5 before 2.0 has no name for. The order of the calls matters.
Handle small_float(size_t exponent_bits, size_t mantissa_bits, size_t bias) {
  Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose, "make a float type");
  require(H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits), "float fields");
  require(H5Tset_size(type, 2), "float size");
  require(H5Tset_ebias(type, bias), "float bias");
  return type;
}

Handle type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose, "type f32"};
    case DType::f64:
      return {H5Tcopy(H5T_IEEE_F64LE), H5Tclose, "type f64"};
    case DType::i32:
      return {H5Tcopy(H5T_STD_I32LE), H5Tclose, "type i32"};
    case DType::i64:
      return {H5Tcopy(H5T_STD_I64LE), H5Tclose, "type i64"};
    case DType::u8:
      return {H5Tcopy(H5T_STD_U8LE), H5Tclose, "type u8"};
    case DType::bf16:
      return small_float(8, 7, 127);
    case DType::f16:
      return small_float(5, 10, 15);
  }
  fail(ErrorKind::internal, "[checkpoint] no HDF5 type for {}", name_of(dtype));
}

// A file that lives in memory: HDF5 writes the structure there and leaves holes for the datasets.
class ScratchFile {
 public:
  ScratchFile() {
    fd_ = memfd_create("weft-checkpoint", MFD_CLOEXEC);
    path_ = "/proc/self/fd/" + std::to_string(fd_);
    if (fd_ >= 0 && ::access(path_.c_str(), R_OK | W_OK) == 0) return;
    if (fd_ >= 0) ::close(fd_);
    path_ = (std::filesystem::temp_directory_path() / "weft-checkpoint-XXXXXX").string();
    fd_ = ::mkostemp(path_.data(), O_CLOEXEC);
    on_disk_ = true;
    if (fd_ < 0) fail_here("make a temporary file");
  }
  ~ScratchFile() {
    if (fd_ >= 0) ::close(fd_);
    if (on_disk_) ::unlink(path_.c_str());
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const {
    struct stat status;
    if (::fstat(fd_, &status) != 0) fail_here("look at");
    return status.st_size;
  }
  void append_to(std::string& out, const FileRange& range) const {
    const size_t old = out.size(), bytes = static_cast<size_t>(range.end - range.begin);
    out.resize(old + bytes);
    for (size_t done = 0; done < bytes;) {
      const int64_t offset = range.begin + static_cast<int64_t>(done);
      const ssize_t got = ::pread(fd_, out.data() + old + done, bytes - done, offset);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) fail_here("read");
      done += static_cast<size_t>(got);
    }
  }

 private:
  [[noreturn]] void fail_here(const char* action) const {
    fail(ErrorKind::io, "[checkpoint] cannot {} {}: {}", action, path_, std::strerror(errno));
  }
  int fd_ = -1;
  std::string path_;
  bool on_disk_ = false;
};

void check_name(const std::string& name) {
  if (name.empty() || name == "." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos)
    fail(ErrorKind::bad_data, "[checkpoint] '{}' cannot be the name of a dataset", name);
}

void put_string(hid_t object, const char* name, const std::string& value) {
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "string type");
  require(H5Tset_size(type, std::max<size_t>(value.size(), 1)), "string size");
  require(H5Tset_strpad(type, H5T_STR_NULLPAD), "string padding");
  require(H5Tset_cset(type, H5T_CSET_UTF8), "string encoding");
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose, "scalar");
  const Handle attribute(H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
                         name);
  require(H5Awrite(attribute, type, value.c_str()), name);
}

void put_integers(hid_t object, const char* name, const std::vector<hsize_t>& dims,
                  const std::vector<int64_t>& values) {
  const int rank = static_cast<int>(dims.size());
  const Handle space(
      rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, dims.data(), nullptr), H5Sclose,
      "dims of an attribute");
  const Handle attribute(H5Acreate2(object, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT),
                         H5Aclose, name);
  if (!values.empty()) require(H5Awrite(attribute, H5T_NATIVE_INT64, values.data()), name);
}

Handle create_file(const std::string& path) {
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "file access");
  // The plain driver would resolve the memory file's link in /proc, which leads to no name.
  require(H5Pset_fapl_stdio(access), "driver");
  require(H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18), "version bounds");
  require(H5Pset_alignment(access, kAlignment, kAlignment), "alignment");
  require(H5Pset_meta_block_size(access, kMetadataBlock), "metadata block");
  require(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), "close degree");
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose, "file creation");
  require(H5Pset_obj_track_times(creation, 0), "no times");
  return {H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose, "create a file"};
}

// Creates the dataset without its bytes; returns where they go.
int64_t create_dataset(hid_t group, const PieceRecord& piece) {
  const std::string path = piece.dataset();
  const std::string name = path.substr(path.rfind('/') + 1);
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, path);
  require(H5Pset_layout(creation, H5D_CONTIGUOUS), path);
  require(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY), path);
  require(H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER), path);
  require(H5Pset_obj_track_times(creation, 0), path);
  std::vector<hsize_t> dims;
  for (int64_t extent : piece.box.shape()) dims.push_back(static_cast<hsize_t>(extent));
  const int rank = static_cast<int>(dims.size());
  const Handle space(
      rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, dims.data(), nullptr), H5Sclose,
      path);
  const Handle type = type_of(piece.dtype);
  const Handle dataset(
      H5Dcreate2(group, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose,
      path);
  put_string(dataset, "name", piece.name);
  put_string(dataset, "dtype", name_of(piece.dtype));
  put_integers(dataset, "global_shape", {dims.size()}, piece.shape.to_vector());
  std::vector<int64_t> box = piece.box.begin;
  box.insert(box.end(), piece.box.end.begin(), piece.box.end.end());
  put_integers(dataset, "box", {2, dims.size()}, box);
  const haddr_t offset = H5Dget_offset(dataset);
  if (offset == HADDR_UNDEF)
    fail(ErrorKind::internal, "[checkpoint] HDF5 gave {} no place: {}", path, hdf5::reason());
  return static_cast<int64_t>(offset);
}

std::vector<int64_t> create_contents(hid_t file, const std::vector<Piece>& pieces,
                                     const Hdf5Labels& labels) {
  put_string(file, "format", "weft-checkpoint");
  put_integers(file, "version", {}, {kManifestVersion});
  put_integers(file, "step", {}, {labels.step});
  put_integers(file, "rank", {}, {labels.rank});
  put_integers(file, "num_ranks", {}, {labels.num_ranks});
  const Handle creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose, "group");
  require(H5Pset_obj_track_times(creation, 0), "group");
  std::vector<std::pair<std::string, Handle>> groups;
  std::vector<int64_t> offsets;
  for (const Piece& piece : pieces) {
    check_name(piece.kind);
    check_name(piece.name);
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& known) { return known.first == piece.kind; });
    if (group == groups.end()) {
      groups.emplace_back(piece.kind, Handle(H5Gcreate2(file, piece.kind.c_str(), H5P_DEFAULT,
                                                        creation, H5P_DEFAULT),
                                             H5Gclose, "/" + piece.kind));
      group = std::prev(groups.end());
    }
    offsets.push_back(create_dataset(group->second, PieceRecord::of(piece)));
  }
  return offsets;
}

// ---- reading: what stock HDF5 sees

DType dtype_from_type(hid_t type, const std::string& path) {
  for (DType dtype :
       {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i32, DType::i64, DType::u8})
    if (H5Tequal(type, type_of(dtype)) > 0) return dtype;
  fail(ErrorKind::bad_data, "[checkpoint] {}: a type that no checkpoint has", path);
}

std::string get_string(hid_t object, const char* name, const std::string& path) {
  const Handle attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose, path + " " + name);
  const Handle type(H5Aget_type(attribute), H5Tclose, path);
  const size_t size = H5Tget_size(type);
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 || size > 65536)
    fail(ErrorKind::bad_data, "[checkpoint] {}: attribute {} is not a plain string", path, name);
  std::string text(size, '\0');
  require(H5Aread(attribute, type, text.data()), path);
  return text.substr(0, text.find('\0'));
}

std::vector<int64_t> get_integers(hid_t object, const char* name, const std::string& path) {
  const Handle attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose, path + " " + name);
  const Handle space(H5Aget_space(attribute), H5Sclose, path);
  const hssize_t count = H5Sget_simple_extent_npoints(space);
  if (count < 0 || count > 2 * Shape::kMaxRank)
    fail(ErrorKind::bad_data, "[checkpoint] {}: attribute {} has {} values", path, name, count);
  std::vector<int64_t> values(static_cast<size_t>(count));
  if (count > 0) require(H5Aread(attribute, H5T_NATIVE_INT64, values.data()), path);
  return values;
}

PieceRecord read_dataset(hid_t group, const std::string& kind, const std::string& name) {
  const std::string path = "/" + kind + "/" + name;
  const Handle dataset(H5Dopen2(group, name.c_str(), H5P_DEFAULT), H5Dclose, path);
  const Handle creation(H5Dget_create_plist(dataset), H5Pclose, path);
  if (H5Pget_layout(creation) != H5D_CONTIGUOUS || H5Pget_nfilters(creation) != 0 ||
      H5Pget_external_count(creation) != 0)
    fail(ErrorKind::bad_data, "[checkpoint] {}: not stored in one plain block of this file", path);
  const Handle type(H5Dget_type(dataset), H5Tclose, path);
  PieceRecord piece;
  piece.kind = kind;
  piece.name = get_string(dataset, "name", path);
  piece.dtype = dtype_from_type(type, path);
  piece.shape = Shape(get_integers(dataset, "global_shape", path));
  const std::vector<int64_t> box = get_integers(dataset, "box", path);
  const auto half = box.begin() + static_cast<ptrdiff_t>(box.size() / 2);
  piece.box = {{box.begin(), half}, {half, box.end()}};
  piece.offset = static_cast<int64_t>(H5Dget_offset(dataset));
  const Handle space(H5Dget_space(dataset), H5Sclose, path);
  const size_t rank = static_cast<size_t>(piece.shape.rank());
  if (box.size() != 2 * rank || H5Sget_simple_extent_npoints(space) != piece.box.numel())
    fail(ErrorKind::bad_data, "[checkpoint] {}: its attributes do not fit its size", path);
  return piece;
}

// Names in a group, all of them plain links into this file.
std::vector<std::string> names_in(hid_t group, const std::string& path) {
  H5G_info_t info;
  require(H5Gget_info(group, &info), path);
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    H5L_info_t link;
    require(H5Lget_info_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, &link, H5P_DEFAULT),
            path);
    if (link.type != H5L_TYPE_HARD)
      fail(ErrorKind::bad_data, "[checkpoint] {}: a link that leads elsewhere is refused", path);
    char name[4096];
    const ssize_t length = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name,
                                              sizeof name, H5P_DEFAULT);
    if (length < 0 || length >= static_cast<ssize_t>(sizeof name))
      fail(ErrorKind::bad_data, "[checkpoint] {}: name {} is unreadable or too long", path, i);
    names.emplace_back(name, static_cast<size_t>(length));
  }
  return names;
}

}  // namespace

std::vector<PieceRecord> read_hdf5_structure(const std::string& path) {
  const hdf5::Session session;
  const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, "open " + path);
  std::vector<PieceRecord> pieces;
  for (const std::string& kind : names_in(file, "/")) {
    const Handle group(H5Gopen2(file, kind.c_str(), H5P_DEFAULT), H5Gclose, "/" + kind);
    for (const std::string& name : names_in(group, "/" + kind))
      pieces.push_back(read_dataset(group, kind, name));
  }
  return pieces;
}

Hdf5Layout lay_out_hdf5(const std::vector<Piece>& pieces, const Hdf5Labels& labels) {
  const ScratchFile scratch;
  Hdf5Layout layout;
  {
    const hdf5::Session session;
    Handle file = create_file(scratch.path());
    layout.offsets = create_contents(file, pieces, labels);
    file.close("close a file");
  }
  layout.file_bytes = scratch.size();
  std::vector<FileRange> datasets;
  for (size_t i = 0; i < pieces.size(); ++i)
    datasets.push_back(
        {layout.offsets[i], layout.offsets[i] + static_cast<int64_t>(pieces[i].value.bytes())});
  layout.structure = ranges_outside(std::move(datasets), layout.file_bytes, "the layout");
  for (const FileRange& range : layout.structure) scratch.append_to(layout.structure_bytes, range);
  return layout;
}

std::vector<FileRange> ranges_outside(std::vector<FileRange> datasets, int64_t file_bytes,
                                      const std::string& where) {
  std::sort(datasets.begin(), datasets.end(),
            [](const FileRange& a, const FileRange& b) { return a.begin < b.begin; });
  std::vector<FileRange> outside;
  int64_t done = 0;
  for (const FileRange& range : datasets) {
    if (range.begin < done || range.end < range.begin || range.end > file_bytes)
      fail(ErrorKind::bad_data, "[checkpoint] {}: dataset at bytes {} to {} does not fit", where,
           range.begin, range.end);
    if (range.begin > done) outside.push_back({done, range.begin});
    done = range.end;
  }
  if (done < file_bytes) outside.push_back({done, file_bytes});
  return outside;
}

}  // namespace weft::checkpoint
