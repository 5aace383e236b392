// What the writer and the reader of HDF5 data sets share; nobody else includes it.
#pragma once

#include <cstdint>

#include "core/base/hdf5.h"

namespace weft::data {

inline constexpr const char* kHdf5Format = "weft-dataset";
inline constexpr int64_t kHdf5Version = 1;
inline constexpr int64_t kHdf5Chunk = int64_t{1} << 20;  // tokens or documents in memory at a time

inline hdf5::Handle line_space(int64_t count) {
  const hsize_t size = static_cast<hsize_t>(count);
  return {H5Screate_simple(1, &size, nullptr), H5Sclose};
}

// `count` elements of a dataset of one or two dimensions, from the row `begin` on.
inline hdf5::Handle rows_of(hid_t dataset, int64_t begin, int64_t count) {
  hdf5::Handle space(H5Dget_space(dataset), H5Sclose);
  hsize_t dims[2] = {0, 0};
  H5Sget_simple_extent_dims(space, dims, nullptr);
  const hsize_t start[2] = {static_cast<hsize_t>(begin), 0};
  const hsize_t counts[2] = {static_cast<hsize_t>(count), dims[1]};
  H5Sselect_hyperslab(space, H5S_SELECT_SET, start, nullptr, counts, nullptr);
  return space;
}

}  // namespace weft::data
