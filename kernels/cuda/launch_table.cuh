// Many pieces of work by one launch: their table goes by value in the kernel's parameters, and each
// has blocks of its own, as many as its size asks for.
#pragma once

#include <bit>

#include "kernels/cuda/cuda.cuh"

namespace weft::ops::cuda {

// The part that a block has in its entry's work: the block-th of `blocks`.
struct Share {
  unsigned entry, block, blocks;

  // A thread's items of a loop by all blocks of the entry.
  __device__ int64_t first_item() const { return int64_t{block} * blockDim.x + threadIdx.x; }
  __device__ int64_t item_stride() const { return int64_t{blocks} * blockDim.x; }
};

// A kernel takes it as `const __grid_constant__ LaunchTable<Entry>`: so it stays where parameters
// are.
template <class Entry>
struct LaunchTable {
  // Of the 4 KiB that parameters may take on every GPU; the rest is for the kernel's others.
  static constexpr size_t kBytes = 4096 - 64;
  static constexpr unsigned kMost =
      (kBytes - 2 * sizeof(int) - alignof(Entry)) / (sizeof(Entry) + sizeof(unsigned));
  static constexpr unsigned kFirstStep = std::bit_floor(kMost - 1);

  Entry at[kMost];
  unsigned first_block[kMost + 1] = {};  // entry i has blocks [first_block[i], first_block[i + 1])
  unsigned count = 0;

  // REQUIRES: count < kMost, blocks > 0.
  void add(const Entry& entry, unsigned blocks) {
    at[count] = entry;
    first_block[count + 1] = first_block[count] + blocks;
    ++count;
  }
  unsigned blocks() const { return first_block[count]; }

  __device__ Share share() const {
    unsigned entry = 0;
#pragma unroll  // without branches: the steps of all threads are the same
    for (unsigned step = kFirstStep; step > 0; step /= 2)
      if (entry + step < count && first_block[entry + step] <= blockIdx.x) entry += step;
    return {entry, blockIdx.x - first_block[entry], first_block[entry + 1] - first_block[entry]};
  }
};

// add(table, item) for each item, and launch(table) when a table is full and at the end.
template <class Entry, class Items, class Add, class Launch>
void launch_in_tables(const Items& items, const Add& add, const Launch& launch) {
  static_assert(sizeof(LaunchTable<Entry>) <= LaunchTable<Entry>::kBytes);
  LaunchTable<Entry> table;
  for (const auto& item : items) {
    add(table, item);
    if (table.count < table.kMost) continue;
    launch(table);
    table.count = 0;
  }
  if (table.count > 0) launch(table);
}

}  // namespace weft::ops::cuda
