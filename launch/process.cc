#include "launch/process.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <tuple>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/units.h"

namespace weft::launch {
namespace {

// The first of the variables that is set, as a number of at least 0.
std::optional<int> first_number(const Environment& environment,
                                std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto text = environment(name);
    if (!text) continue;
    const auto value = parse_integer(*text);
    if (!value || *value < 0 || *value > 1000000)
      fail(ErrorKind::usage, "environment variable {}='{}' is no rank or size", name, *text);
    return static_cast<int>(*value);
  }
  return std::nullopt;
}

int topology(int cpu, const char* what) {
  std::ifstream in(fmt::format("/sys/devices/system/cpu/cpu{}/topology/{}", cpu, what));
  int value = 0;
  return in >> value ? value : 0;
}

// The CPUs that process `pid` may run on (0: this one); empty where that cannot be asked.
std::vector<Cpu> cpus_of(pid_t pid) {
  constexpr int kMaxCpus = 8192;
  std::vector<Cpu> cpus;
  cpu_set_t* set = CPU_ALLOC(kMaxCpus);
  if (!set) return cpus;
  const size_t size = CPU_ALLOC_SIZE(kMaxCpus);
  CPU_ZERO_S(size, set);
  if (sched_getaffinity(pid, size, set) == 0)
    for (int i = 0; i < kMaxCpus; ++i)
      if (CPU_ISSET_S(i, size, set))
        cpus.push_back({i, topology(i, "physical_package_id"), topology(i, "core_id")});
  CPU_FREE(set);
  return cpus;
}

bool bind_to(const std::vector<int>& ids) {
  const int count = *std::max_element(ids.begin(), ids.end()) + 1;
  cpu_set_t* set = CPU_ALLOC(count);
  if (!set) return false;
  const size_t size = CPU_ALLOC_SIZE(count);
  CPU_ZERO_S(size, set);
  for (int id : ids) CPU_SET_S(id, size, set);
  const bool done = sched_setaffinity(0, size, set) == 0;
  CPU_FREE(set);
  return done;
}

// The XDG Base Directory Specification: a relative path is as none.
std::string cache_folder(const Environment& environment) {
  const std::string cache = environment("XDG_CACHE_HOME").value_or("");
  if (cache.starts_with('/')) return cache + "/weft";
  const std::string home = environment("HOME").value_or("");
  return home.starts_with('/') ? home + "/.cache/weft" : "";
}

}  // namespace

std::optional<std::string> read_environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? std::optional<std::string>(value) : std::nullopt;
}

// NVLS: sums in NVLink's switch, whose order is the switch's own; and they need multicast, which
// containers and shared machines often refuse.
void set_library_defaults() {
  setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
}

Process find_process(const Environment& environment) {
  Process process;
  process.cache_folder = cache_folder(environment);
  process.under_mpi = environment("OMPI_COMM_WORLD_SIZE") || environment("PMIX_RANK");
  if (!process.under_mpi) return process;
  process.rank = first_number(environment, {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}).value_or(0);
  process.world_size =
      first_number(environment, {"OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"}).value_or(1);
  process.local_rank =
      first_number(environment, {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"}).value_or(0);
  process.local_size =
      first_number(environment, {"OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"})
          .value_or(1);
  if (process.rank >= process.world_size || process.local_rank >= process.local_size)
    fail(ErrorKind::usage,
         "the launcher's environment contradicts itself: rank {} of {}, local rank {} of {}",
         process.rank, process.world_size, process.local_rank, process.local_size);
  return process;
}

std::vector<int> share_of_cpus(std::vector<Cpu> cpus, int local_rank, int local_size) {
  std::sort(cpus.begin(), cpus.end(), [](const Cpu& a, const Cpu& b) {
    return std::tie(a.package, a.core, a.id) < std::tie(b.package, b.core, b.id);
  });
  const size_t count = cpus.size();
  size_t begin = count * local_rank / local_size;
  size_t end = count * (local_rank + 1) / local_size;
  if (count < static_cast<size_t>(local_size)) {
    begin = local_rank % count;
    end = begin + 1;
  }
  std::vector<int> ids;
  for (size_t i = begin; i < end; ++i) ids.push_back(cpus[i].id);
  return ids;
}

std::optional<int> cpu_quota(const std::string& cpu_max) {
  std::istringstream in(cpu_max);
  double quota = 0, period = 0;
  if (!(in >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return std::max(1, static_cast<int>(std::ceil(quota / period)));
}

int take_share_of_host(const Process& process) {
  std::string cpu_max;
  std::ifstream in("/sys/fs/cgroup/cpu.max");
  std::getline(in, cpu_max);
  // mpirun has bound this process, but not itself: its CPUs are those of all local ranks.
  std::vector<Cpu> cpus = cpus_of(process.under_mpi ? getppid() : 0);
  if (cpus.empty()) cpus = cpus_of(0);
  if (cpus.empty()) return 1;
  const int available = static_cast<int>(cpus.size());
  const std::vector<int> share =
      share_of_cpus(std::move(cpus), process.local_rank, process.local_size);
  if (process.under_mpi && !bind_to(share))
    log::debug("this rank cannot be bound to its {} CPUs; it stays where it is", share.size());
  const int quota = cpu_quota(cpu_max).value_or(available);
  const int by_quota = std::max(1, quota / process.local_size);
  return std::min(static_cast<int>(share.size()), by_quota);
}

}  // namespace weft::launch
