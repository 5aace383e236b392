// The group of all ranks of a run.
#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace weft::parallel {

// A group of one. Its abort prints the message and ends the process.
std::shared_ptr<Communicator> make_self();

// All ranks of the run: over MPI when `under_mpi` (launch/ sees mpirun's environment), else one
// rank, and MPI is not touched. Throws Error{unavailable} when MPI does not start. MPI is finalised
// when the last communicator made from this one goes; that can be had once in a process.
std::shared_ptr<Communicator> make_world(bool under_mpi);

}  // namespace weft::parallel
