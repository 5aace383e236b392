// This process on its host: which rank it is, and which cores are its own. The only reader of the
// environment.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace weft::launch {

struct Process {
  bool under_mpi = false;  // started by mpirun: MPI must be initialised, even for one rank
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;  // among the ranks of this host
  int local_size = 1;
  std::string cache_folder;  // $XDG_CACHE_HOME/weft, else ~/.cache/weft; empty: neither is known
};

using Environment = std::function<std::optional<std::string>(const char* name)>;

// The process's own environment.
std::optional<std::string> read_environment(const char* name);

// Settings of libraries that Weft needs other than they are; those of the user stay. To be called
// before any thread is started.
void set_library_defaults();

// Understands Open MPI's mpirun and srun with PMIx. Throws usage on values that make no sense.
Process find_process(const Environment& environment);

struct Cpu {
  int id = 0;       // as the kernel numbers them
  int package = 0;  // socket
  int core = 0;     // CPUs of the same core are hyper-threads
};

// The share of one of `local_size` ranks: neighbours in the machine, hyper-threads of a core
// together. With fewer CPUs than ranks, ranks share CPUs.
std::vector<int> share_of_cpus(std::vector<Cpu> cpus, int local_rank, int local_size);

// "200000 100000" (cgroup's cpu.max) -> 2; "max ..." or anything else: no limit.
std::optional<int> cpu_quota(const std::string& cpu_max);

// Binds this process to its share of the host and returns how many threads suit it. mpirun binds a
// rank to one core otherwise.
int take_share_of_host(const Process& process);

}  // namespace weft::launch
