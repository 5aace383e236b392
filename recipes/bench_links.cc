#include "recipes/bench_links.h"

#include <algorithm>
#include <chrono>

#include "core/tensor/device_memory.h"

namespace weft::recipes {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTurns = 9;
constexpr size_t kMiB = size_t{1} << 20;

template <class Start>
double median_seconds(parallel::Communicator& ranks, Device device, Start start) {
  std::vector<double> seconds;
  for (int turn = -2; turn < kTurns; ++turn) {
    if (!device.is_cpu()) device_memory::synchronize(device.index);
    ranks.barrier("bench");
    const Clock::time_point begin = Clock::now();
    start().wait();
    if (!device.is_cpu()) device_memory::synchronize(device.index);
    if (turn >= 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

}  // namespace

std::vector<LinkSpeed> measure_links(parallel::Communicator& ranks, Device device, DType dtype) {
  std::vector<LinkSpeed> speeds;
  const int64_t size = ranks.size();
  if (size == 1) return speeds;
  const std::vector<size_t> sizes = device.is_cpu()
                                        ? std::vector<size_t>{kMiB / 16, kMiB, 16 * kMiB}
                                        : std::vector<size_t>{kMiB, 16 * kMiB, 256 * kMiB};
  for (const size_t bytes : sizes) {
    const int64_t part = static_cast<int64_t>(bytes / size_of(dtype)) / size;
    const Tensor all = Tensor::zeros({part * size}, dtype, device, MemoryTag::communication);
    const Tensor mine = all.flat(ranks.rank() * part, {part});
    const double scatter =
        median_seconds(ranks, device, [&] { return ranks.reduce_scatter(all, mine, "bench"); });
    const double gather =
        median_seconds(ranks, device, [&] { return ranks.all_gather(mine, all, "bench"); });
    const double carried = static_cast<double>(all.bytes()) * static_cast<double>(size - 1) /
                           static_cast<double>(size);
    speeds.push_back(
        {bytes, carried / scatter, carried / gather, 2 * carried / (scatter + gather)});
  }
  return speeds;
}

}  // namespace weft::recipes
