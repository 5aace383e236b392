#include "core/base/error.h"
#include "parallel/nccl_communicator.h"

namespace weft::parallel {

std::shared_ptr<Communicator> make_nccl(std::shared_ptr<Communicator>, Device device) {
  fail(ErrorKind::unavailable, "[nccl] this build of weft has no GPU code: {} asked for",
       to_string(device));
}

}  // namespace weft::parallel
