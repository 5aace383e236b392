// Ranks as processes under mpirun. MPI moves bytes only, and only the engine's thread calls it.
#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace weft::parallel {

// MPI_COMM_WORLD. Throws Error{unavailable} when MPI does not start, Error{internal} when it was
// started before.
std::shared_ptr<Communicator> make_mpi_world();

}  // namespace weft::parallel
