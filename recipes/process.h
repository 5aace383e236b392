// This process among the ranks that mpirun (or srun) started. launch/ fills it from the
// environment; nobody else reads the environment.
#pragma once

namespace weft::recipes {

struct Process {
  bool under_mpi = false;  // started by mpirun: MPI must be initialised, even for one rank
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;  // among the ranks of this host
  int local_size = 1;
};

}  // namespace weft::recipes
