#include "parallel/world.h"

#include <cstdlib>

#include "core/base/log.h"
#include "parallel/mpi_communicator.h"

namespace weft::parallel {
namespace {

class SelfCommunicator : public Communicator {
 public:
  SelfCommunicator(std::string name, std::shared_ptr<CallLog> log)
      : Communicator(0, 1, std::move(name), std::move(log)) {}

  std::shared_ptr<Communicator> split(int, int, const std::string& name) override {
    return std::make_shared<SelfCommunicator>(name, shared_log());
  }
  [[noreturn]] void abort(int exit_code, const std::string& message) override {
    log::error("{}", message);
    std::_Exit(exit_code);
  }

 protected:
  Work start(Call call) override { CHECK(false, "{} in a group of one", name_of(call.op)); }
};

}  // namespace

std::shared_ptr<Communicator> make_self() {
  return std::make_shared<SelfCommunicator>("self", std::make_shared<CallLog>());
}

std::shared_ptr<Communicator> make_world(bool under_mpi) {
  return under_mpi ? make_mpi_world() : make_self();
}

}  // namespace weft::parallel
