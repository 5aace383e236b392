#include "recipes/choose_device.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/tensor/device_memory.h"
#include "parallel/peers.h"

namespace weft::recipes {
namespace {

constexpr const char* kAdvice =
    "start as many ranks on a host as it has GPUs, or use the CPU (train.device=cpu)";

std::string list(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i)
    text += (i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ") + std::to_string(ranks[i]);
  return text;
}

void require_gpu_of_its_own(const std::vector<DeviceClaim>& claims) {
  std::map<std::pair<std::string, std::string>, std::vector<int>> users;  // of (host, GPU)
  for (size_t rank = 0; rank < claims.size(); ++rank)
    users[{claims[rank].host, claims[rank].gpu}].push_back(static_cast<int>(rank));
  for (const auto& [gpu, ranks] : users)
    if (ranks.size() > 1)
      fail(ErrorKind::unavailable, "{} would share the GPU {} of host {}, where a rank sees {}: {}",
           list(ranks), gpu.second, gpu.first, claims[ranks[0]].gpus, kAdvice);
}

}  // namespace

bool agree_on_gpus(const std::vector<DeviceClaim>& claims, DeviceChoice choice) {
  std::vector<int> without;
  for (size_t rank = 0; rank < claims.size(); ++rank)
    if (claims[rank].gpu.empty()) without.push_back(static_cast<int>(rank));
  if (without.empty()) {
    require_gpu_of_its_own(claims);
    return true;
  }
  const DeviceClaim& first = claims[without[0]];
  const bool none = without.size() == claims.size();
  if (none && choice != DeviceChoice::cuda) return false;
  if (none)
    fail(ErrorKind::unavailable, "train.device=cuda: {}; train.device=cpu uses the CPU",
         first.why_none);
  fail(ErrorKind::unavailable, "{} (on host {}) cannot use a GPU while others can: {}; {}",
       list(without), first.host, first.why_none, kAdvice);
}

Device choose_device(DeviceChoice choice, int local_rank, parallel::Communicator& world) {
  if (choice == DeviceChoice::cpu) return {};
  // A launcher may show each rank one GPU only, its own.
  const int gpus = device_memory::count();
  const int index = gpus > 0 ? local_rank % gpus : 0;
  const Json mine = Json::Object{{"host", parallel::host_name()},
                                 {"gpu", gpus > 0 ? device_memory::bus_id(index) : std::string()},
                                 {"gpus", gpus},
                                 {"why_none", gpus > 0 ? "" : device_memory::why_none()}};
  std::vector<DeviceClaim> claims;
  for (const std::string& text : world.gather_bytes(mine.dump(), "devices")) {
    const Json claim = Json::parse(text, "a rank's device");
    claims.push_back({claim.at("host").as_string(), claim.at("gpu").as_string(),
                      static_cast<int>(claim.at("gpus").as_int()),
                      claim.at("why_none").as_string()});
  }
  if (agree_on_gpus(claims, choice)) return {DeviceKind::cuda, index};
  log::info("train.device=auto: the CPU computes, as {}", claims[0].why_none);
  return {};
}

}  // namespace weft::recipes
