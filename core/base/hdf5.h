// What every user of HDF5's C interface needs. Only .cc files that read or write such files include
// this.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>

namespace weft::hdf5 {

// One user of HDF5 at a time in the process (not every build of it is thread-safe); meanwhile its
// own error output is silenced, it loads no plugins, and errno starts at 0.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  std::lock_guard<std::mutex> lock_;
  H5E_auto2_t report_ = nullptr;
  void* report_data_ = nullptr;
};

std::string reason();  // the innermost message on HDF5's error stack

// An identifier that closes itself. One below 0 stands for a call that failed.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle(hid_t id, Close close) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(Handle&& other) noexcept : id_(other.id_), close_(other.close_) { other.id_ = -1; }
  Handle& operator=(Handle&&) = delete;
  operator hid_t() const { return id_; }
  herr_t close() {  // and find out whether that worked
    const hid_t id = id_;
    id_ = -1;
    return close_(id);
  }

 private:
  hid_t id_;
  Close close_;
};

}  // namespace weft::hdf5
