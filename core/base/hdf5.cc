#include "core/base/hdf5.h"

#include <cerrno>

namespace weft::hdf5 {
namespace {

std::mutex& only_user() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

Session::Session() : lock_(only_user()) {
  H5Eget_auto2(H5E_DEFAULT, &report_, &report_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
  errno = 0;
}

Session::~Session() {
  H5Eset_auto2(H5E_DEFAULT, report_, report_data_);
}

std::string reason() {
  std::string text;
  const auto visit = [](unsigned, const H5E_error2_t* error, void* data) -> herr_t {
    auto& out = *static_cast<std::string*>(data);
    if (out.empty() && error->desc) out = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, &text);
  return text.empty() ? "HDF5 gives no reason" : text;
}

}  // namespace weft::hdf5
