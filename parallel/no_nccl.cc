#include "core/base/error.h"
#include "parallel/nccl_communicator.h"

namespace weft::parallel {

std::shared_ptr<Communicator> make_nccl(std::shared_ptr<Communicator> host, Device device,
                                        const NcclOptions&) {
  fail(ErrorKind::unavailable,
       "[nccl] {} ranks on GPUs ({} here) need NCCL, which this build of weft lacks: install it "
       "(libnccl-dev) and build again, or use one rank, or train.device=cpu",
       host->size(), to_string(device));
}

}  // namespace weft::parallel
