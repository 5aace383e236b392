// A communicator in host memory: plans, carried out by an engine, over whatever moves the bytes.
#pragma once

#include "parallel/host_engine.h"

namespace weft::parallel {

class HostCommunicator : public Communicator {
 public:
  // How a rank ends the run: see Communicator::abort. Does not return.
  using Abort = std::function<void(int exit_code, const std::string& message)>;

  // The world of rank `rank` of `size`.
  HostCommunicator(std::shared_ptr<Engine> engine, int rank, int size, Abort abort);

  std::shared_ptr<Communicator> split(int color, int key, const std::string& name) override;
  [[noreturn]] void abort(int exit_code, const std::string& message) override;

 protected:
  Work start(Call call) override;

 private:
  struct World {  // what the groups of one rank share
    std::shared_ptr<Engine> engine;
    Abort abort;
    int next_channel = 1;
  };
  HostCommunicator(std::shared_ptr<World> world, Route route, std::string name,
                   std::shared_ptr<CallLog> log);

  std::shared_ptr<World> world_;
  std::shared_ptr<const Route> route_;
};

}  // namespace weft::parallel
