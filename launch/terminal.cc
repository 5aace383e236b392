#include "launch/terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace weft::launch {

int find_terminal(const Process& process, const Environment& environment) {
  const std::string type = environment("TERM").value_or("dumb");
  if (type == "dumb" || type.empty()) return -1;
  if (isatty(STDERR_FILENO)) return STDERR_FILENO;
  if (!process.under_mpi) return -1;
  // mpirun reads our standard error through a pipe and writes it to its own.
  const std::string path = fmt::format("/proc/{}/fd/2", getppid());
  const int fd = open(path.c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || isatty(fd)) return fd;
  close(fd);
  return -1;
}

}  // namespace weft::launch
