#include "core/tensor/allocator.h"

#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "core/base/error.h"
#include "core/tensor/device_memory.h"

namespace weft {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kExactAbove = size_t{1} << 20;
constexpr size_t kKeepBelow = size_t{256} << 20;  // larger blocks go back to the system at once
constexpr int kNumTags = static_cast<int>(MemoryTag::count_);

// Blocks of this size and more lie in pages of it where the kernel has some: a product walks over
// many rows at once, and each page that it touches needs an entry of the processor's page table
// cache.
constexpr size_t kHugePage = size_t{2} << 20;

void* system_allocate(size_t size) {
  if (size < kHugePage) return std::aligned_alloc(kAlignment, size);
  void* block = std::aligned_alloc(kHugePage, (size + kHugePage - 1) / kHugePage * kHugePage);
#ifdef MADV_HUGEPAGE
  if (block) madvise(block, size / kHugePage * kHugePage, MADV_HUGEPAGE);  // a wish
#endif
  return block;
}

// Round up so that blocks of nearly the same size serve each other (at most 12.5 % waste); what
// stays for the whole run takes what it needs.
size_t size_class(size_t bytes, MemoryTag tag) {
  const bool stays =
      tag == MemoryTag::parameter || tag == MemoryTag::gradient || tag == MemoryTag::optimizer;
  if (stays && bytes > kExactAbove) return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (bytes <= 4096)
    return (bytes + kAlignment - 1) / kAlignment * kAlignment + (bytes == 0) * kAlignment;
  size_t step = 512;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

using FreeBlocks = std::map<size_t, std::vector<void*>>;

struct Block {
  void* memory = nullptr;
  size_t size = 0;  // of what the system gave, at least what was asked for
};

// The last block of that size that was freed, else one at most an eighth larger (steps of packed
// documents differ by a few tokens), else none.
Block take_from(FreeBlocks& free_blocks, size_t size) {
  for (auto it = free_blocks.lower_bound(size);
       it != free_blocks.end() && it->first <= size + size / 8; ++it) {
    if (it->second.empty()) continue;
    const Block block{it->second.back(), it->first};
    it->second.pop_back();
    return block;
  }
  return {};
}

struct Pool;

}  // namespace

struct MemoryReserve::Blocks {
  Pool* pool = nullptr;
  FreeBlocks free_blocks;  // guarded by the pool's mutex, as is `gone`
  bool gone = false;       // then blocks go back to everybody
};

namespace {

using Reserved = std::shared_ptr<MemoryReserve::Blocks>;
thread_local Reserved reserve_of_thread;  // the one that has begun

struct Pool {
  std::mutex mutex;
  FreeBlocks free_blocks;
  std::array<MemoryUse, kNumTags> uses;
  MemoryUse total;

  Device device;

  explicit Pool(Device where) : device(where) {}

  // One a device; they outlive every tensor, static ones too. A GPU's blocks are reused in the
  // order of its compute stream, so that no user of a block needs to wait for the one before.
  static Pool& of(Device device) {
    static std::mutex making;
    static std::map<int, Pool*>& pools = *new std::map<int, Pool*>;
    const std::lock_guard lock(making);
    Pool*& pool = pools[device.is_cpu() ? -1 : device.index];
    if (!pool) pool = new Pool(device);
    return *pool;
  }

  size_t limit = 0;      // of taken; 0: none
  size_t taken = 0;      // bytes of the system's now, in use or free
  int64_t requests = 0;  // to the system so far

  // Null when there is no more. REQUIRES of this and the next: the mutex is held.
  void* from_system(size_t size) {
    if (limit > 0 && taken + size > limit) return nullptr;
    void* block = device.is_cpu() ? system_allocate(size) : device_memory::take(size, device.index);
    if (block) taken += size, ++requests;
    return block;
  }
  void to_system(void* block, size_t size) noexcept {
    taken -= size;
    device.is_cpu() ? std::free(block) : device_memory::give(block, device.index);
  }
  void release() {
    const std::lock_guard lock(mutex);
    release_locked();
  }

  void release_locked() {
    for (auto& [size, blocks] : free_blocks)
      for (void* block : blocks) to_system(block, size);
    free_blocks.clear();
  }

  // No memory when it is out, free blocks of other sizes given back.
  Block take(size_t bytes, MemoryTag tag, const Reserved& reserve) {
    const size_t size = size_class(bytes, tag);
    std::lock_guard lock(mutex);
    Block block = reserve ? take_from(reserve->free_blocks, size) : Block();
    if (!block.memory) block = take_from(free_blocks, size);
    if (!block.memory) block = {from_system(size), size};
    if (!block.memory) {
      release_locked();
      block = {from_system(size), size};
    }
    if (!block.memory) return block;
    count(uses[static_cast<int>(tag)], size);
    count(total, size);
    return block;
  }

  void give(const Block& block, size_t bytes, MemoryTag tag, const Reserved& reserve) noexcept {
    const size_t size = size_class(bytes, tag);
    std::lock_guard lock(mutex);
    uses[static_cast<int>(tag)].current -= size;
    total.current -= size;
    if (device.is_cpu() && block.size >= kKeepBelow) return to_system(block.memory, block.size);
    auto& free = reserve && !reserve->gone ? reserve->free_blocks : free_blocks;
    free[block.size].push_back(block.memory);
  }

  void dissolve(MemoryReserve::Blocks& reserve) {
    const std::lock_guard lock(mutex);
    for (auto& [size, blocks] : reserve.free_blocks) {
      std::vector<void*>& all = free_blocks[size];
      all.insert(all.end(), blocks.begin(), blocks.end());
    }
    reserve.free_blocks.clear();
    reserve.gone = true;
  }

  static void count(MemoryUse& use, size_t size) {
    use.current += size;
    use.peak = std::max(use.peak, use.current);
  }
};

}  // namespace

std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index);
}

const char* name_of(MemoryTag tag) {
  static constexpr const char* kNames[] = {"parameter", "gradient",  "optimizer",    "activation",
                                           "deferred",  "workspace", "communication"};
  return kNames[static_cast<int>(tag)];
}

std::shared_ptr<void> allocate(size_t bytes, Device device, MemoryTag tag) {
  Pool& pool = Pool::of(device);
  const Reserved reserve =
      reserve_of_thread && reserve_of_thread->pool == &pool ? reserve_of_thread : nullptr;
  const Block block = pool.take(bytes, tag, reserve);
  if (!block.memory)
    throw OutOfMemory(
        fmt::format("out of memory on {}{}: {:.1f} MiB asked for ({}), with in use\n{}",
                    to_string(device), pool.limit > 0 ? " within train.memory_limit" : "",
                    static_cast<double>(bytes) / 1048576.0, name_of(tag), memory_table(device)));
  return {block.memory,
          [block, bytes, tag, &pool, reserve](void*) { pool.give(block, bytes, tag, reserve); }};
}

MemoryReserve::MemoryReserve(Device device) : blocks_(std::make_shared<Blocks>()) {
  blocks_->pool = &Pool::of(device);
}

MemoryReserve::~MemoryReserve() {
  end();
  blocks_->pool->dissolve(*blocks_);
}

void MemoryReserve::begin() {
  CHECK(!reserve_of_thread, "this thread takes memory for another reserve already");
  reserve_of_thread = blocks_;
}

void MemoryReserve::end() {
  if (reserve_of_thread == blocks_) reserve_of_thread = nullptr;
}

MemoryUse memory_use(MemoryTag tag, Device device) {
  Pool& pool = Pool::of(device);
  const std::lock_guard lock(pool.mutex);
  return pool.uses[static_cast<int>(tag)];
}

MemoryUse memory_use_total(Device device) {
  Pool& pool = Pool::of(device);
  const std::lock_guard lock(pool.mutex);
  return pool.total;
}

void reset_memory_peaks(Device device) {
  Pool& pool = Pool::of(device);
  const std::lock_guard lock(pool.mutex);
  for (MemoryUse& use : pool.uses) use.peak = use.current;
  pool.total.peak = pool.total.current;
}

void limit_memory(size_t bytes, Device device) {
  Pool& pool = Pool::of(device);
  const std::lock_guard lock(pool.mutex);
  pool.limit = bytes;
}

int64_t memory_requests(Device device) {
  Pool& pool = Pool::of(device);
  const std::lock_guard lock(pool.mutex);
  return pool.requests;
}

void release_cached_memory(Device device) {
  Pool::of(device).release();
}

std::string memory_table(Device device) {
  std::string table;
  for (int i = 0; i < kNumTags; ++i) {
    const MemoryUse use = memory_use(static_cast<MemoryTag>(i), device);
    table += fmt::format("  {:<14}{:>9.1f} MiB now {:>9.1f} MiB at most\n",
                         name_of(static_cast<MemoryTag>(i)), use.current / 1048576.0,
                         use.peak / 1048576.0);
  }
  return table;
}

}  // namespace weft
