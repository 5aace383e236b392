#include <map>
#include <mutex>

#include "kernels/cuda/attention.cuh"

namespace weft::ops::cuda {
namespace {

constexpr size_t kKept = 128;  // lists; some kilobytes each

struct Entry {
  KeptList list;
  uint64_t last_use = 0;
  bool captured = false;  // a CUDA graph may read it for as long as the process lives
};

struct Lists {
  std::mutex mutex;
  std::map<KeptLists::Key, Entry> entries;
  uint64_t uses = 0;
  size_t captured = 0;

  static Lists& all() {  // outlives every tensor's pool
    static Lists& lists = *new Lists;
    return lists;
  }

  void forget_oldest() {
    auto oldest = entries.end();
    for (auto it = entries.begin(); it != entries.end(); ++it)
      if (!it->second.captured &&
          (oldest == entries.end() || it->second.last_use < oldest->second.last_use))
        oldest = it;
    if (oldest != entries.end()) entries.erase(oldest);
  }
};

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "attention");
  return status != cudaStreamCaptureStatusNone;
}

}  // namespace

KeptLists::Key KeptLists::key_of(Device device, Kind kind, std::initializer_list<int64_t> numbers,
                                 const std::vector<AttentionDocument>& documents) {
  Key key{device.index, kind};
  key.reserve(2 + numbers.size() + 4 * documents.size());
  key.insert(key.end(), numbers);
  for (const AttentionDocument& d : documents)
    key.insert(key.end(), {d.q_begin, d.q_len, d.kv_begin, d.kv_len});
  return key;
}

bool KeptLists::find(const Key& key, cudaStream_t stream, KeptList& kept) {
  Lists& lists = Lists::all();
  const bool capturing = is_capturing(stream);
  const std::lock_guard lock(lists.mutex);
  const auto found = lists.entries.find(key);
  if (found == lists.entries.end()) {
    CHECK(!capturing, "[attention] a CUDA graph captures a list of documents that is new");
    return false;
  }
  Entry& entry = found->second;
  entry.last_use = ++lists.uses;
  if (capturing && !entry.captured) {
    entry.captured = true;
    ++lists.captured;
  }
  kept = entry.list;
  return true;
}

// `list` may go at once: it is pageable memory, so the driver has staged it on return. A list that
// is forgotten goes back to the pool, whose blocks are reused in the order of the compute stream.
KeptList KeptLists::add(const Key& key, cudaStream_t stream, const void* list, int64_t count,
                        size_t bytes) {
  const Device device{DeviceKind::cuda, static_cast<int>(key[0])};
  KeptList kept{
      Tensor::empty({static_cast<int64_t>(bytes)}, DType::u8, device, MemoryTag::workspace), count};
  check(cudaMemcpyAsync(kept.on_gpu.raw(), list, bytes, cudaMemcpyHostToDevice, stream),
        "attention");
  Lists& lists = Lists::all();
  const std::lock_guard lock(lists.mutex);
  if (lists.entries.size() - lists.captured >= kKept) lists.forget_oldest();
  lists.entries.try_emplace(key, Entry{kept, ++lists.uses, false});
  return kept;
}

}  // namespace weft::ops::cuda
