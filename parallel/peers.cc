#include "parallel/peers.h"

#include <unistd.h>

#include <fstream>

#include "core/base/json.h"
#include "parallel/communicator.h"

namespace weft::parallel {

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

// The state is the letter behind the name in brackets, which may hold anything itself.
ProcessState state_of_process(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(in, line)) return ProcessState::gone;
  const size_t name_end = line.rfind(')');
  const char state = name_end + 2 < line.size() ? line[name_end + 2] : 'X';
  if (state == 'Z' || state == 'X' || state == 'x') return ProcessState::gone;
  return state == 'T' || state == 't' ? ProcessState::stopped : ProcessState::alive;
}

Peers::Peers(Communicator& group) {
  const Json mine = Json::Object{{"host", host_name()}, {"pid", static_cast<int64_t>(getpid())}};
  const std::vector<std::string> all = group.gather_bytes(mine.dump(), "processes");
  for (int rank = 0; rank < group.size(); ++rank) {
    const Json peer = Json::parse(all[rank], "a rank's process");
    if (rank == group.rank() || peer.at("host").as_string() != host_name()) continue;
    const int pid = static_cast<int>(peer.at("pid").as_int());
    // A rank in a container of its own may share the host's name and none of its process ids.
    if (state_of_process(pid) != ProcessState::gone) here_.push_back({rank, pid});
  }
}

std::string Peers::those(ProcessState state, const char* what) const {
  std::string text;
  for (const Peer& peer : here_)
    if (state_of_process(peer.pid) == state)
      text += fmt::format("{}rank {} (process {}) is {}", text.empty() ? "" : ", ", peer.rank,
                          peer.pid, what);
  return text;
}

}  // namespace weft::parallel
