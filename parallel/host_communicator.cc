#include "parallel/host_communicator.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>
#include <tuple>

#include "parallel/host_plans.h"

namespace weft::parallel {
namespace {

Route world_route(int rank, int size) {
  Route route{std::vector<int>(size), rank, /*channel=*/0};
  std::iota(route.members.begin(), route.members.end(), 0);
  return route;
}

// What a rank says in a split.
struct Wish {
  int32_t color, key, next_channel;
};

void check_host(const Tensor& t) {
  if (t.defined() && !t.device().is_cpu())
    fail(ErrorKind::unavailable, "[communicator] a tensor on {} needs NCCL, which this is not",
         to_string(t.device()));
}

}  // namespace

HostCommunicator::HostCommunicator(std::shared_ptr<Engine> engine, int rank, int size, Abort abort)
    : HostCommunicator(std::make_shared<World>(World{std::move(engine), std::move(abort)}),
                       world_route(rank, size), "world", std::make_shared<CallLog>()) {}

HostCommunicator::HostCommunicator(std::shared_ptr<World> world, Route route, std::string name,
                                   std::shared_ptr<CallLog> log)
    : Communicator(route.rank, static_cast<int>(route.members.size()), std::move(name),
                   std::move(log)),
      world_(std::move(world)),
      route_(std::make_shared<Route>(std::move(route))) {}

Work HostCommunicator::start(Call call) {
  check_host(call.input);
  check_host(call.output);
  for (const auto* list : {&call.sends, &call.receives})
    for (const Transfer& t : *list) check_host(t.tensor);
  Engine::Job job{route_, make_plan(call, rank(), size()), shared_log(), call.record_id, call};
  return world_->engine->submit(std::move(job));
}

// Two groups that share a pair of ranks get different channels: each rank of the parent goes on
// from the highest next channel among them.
std::shared_ptr<Communicator> HostCommunicator::split(int color, int key, const std::string& name) {
  const Wish mine{color, key, world_->next_channel};
  const std::vector<std::string> wishes =
      gather_bytes({reinterpret_cast<const char*>(&mine), sizeof mine}, "split " + name);
  std::vector<std::tuple<int, int>> group;  // (key, rank in this communicator)
  std::set<int> colors;
  int channel = 0;
  for (int p = 0; p < size(); ++p) {
    Wish wish;
    std::memcpy(&wish, wishes[p].data(), sizeof wish);
    colors.insert(wish.color);
    channel = std::max(channel, wish.next_channel);
    if (wish.color == color) group.emplace_back(wish.key, p);
  }
  std::sort(group.begin(), group.end());
  world_->next_channel = channel + static_cast<int>(colors.size());

  Route route;
  route.channel = channel + static_cast<int>(std::distance(colors.begin(), colors.find(color)));
  for (const auto& [member_key, p] : group) {
    if (p == rank()) route.rank = static_cast<int>(route.members.size());
    route.members.push_back(route_->members[p]);
  }
  return std::shared_ptr<Communicator>(
      new HostCommunicator(world_, std::move(route), name, shared_log()));
}

void HostCommunicator::abort(int exit_code, const std::string& message) {
  world_->abort(exit_code, message);
  throw Error(ErrorKind::internal, "[communicator] abort returned");
}

}  // namespace weft::parallel
