// The HDF5 side of a rank's file. HDF5 lays the file out (in memory, without the datasets' bytes);
// the bytes are then ours to write and read at the offsets that it chose, through FileSystem. Stock
// HDF5 tools read the result.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/native_piece.h"

namespace weft::checkpoint {

struct FileRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// Where everything goes in a file that is not written yet.
struct Hdf5Layout {
  int64_t file_bytes = 0;
  std::vector<int64_t> offsets;      // of each piece's dataset, in the order given
  std::vector<FileRange> structure;  // what is outside the datasets, ascending
  std::string structure_bytes;       // the bytes of those ranges, one after another
};

struct Hdf5Labels {  // attributes of the root
  int64_t step = 0;
  int rank = 0;
  int num_ranks = 1;
};

// The same input gives the same bytes. Throws bad_data for a name that HDF5 cannot hold.
Hdf5Layout lay_out_hdf5(const std::vector<Piece>& pieces, const Hdf5Labels& labels);

// What stock HDF5 finds in a file on the local disk: kind, name, dtype, shape, box and offset of
// each dataset, without checksums. Refuses filters, chunks, external storage and links out of the
// file; loads no plugins.
std::vector<PieceRecord> read_hdf5_structure(const std::string& path);

// The ranges of [0, file_bytes) outside the datasets. Throws bad_data when datasets overlap.
std::vector<FileRange> ranges_outside(std::vector<FileRange> datasets, int64_t file_bytes,
                                      const std::string& where);

}  // namespace weft::checkpoint
