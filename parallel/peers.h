// The processes of a group's ranks, so that a rank that waits can say who is gone.
#pragma once

#include <string>
#include <vector>

namespace weft::parallel {

class Communicator;

std::string host_name();

enum class ProcessState { alive, stopped, gone };  // a zombie is gone
ProcessState state_of_process(int pid);            // of this host

class Peers {
 public:
  explicit Peers(Communicator& group);  // collective

  // "rank 2 (process 4242) is gone", of the ranks on this host; empty when none is.
  std::string gone() const { return those(ProcessState::gone, "gone"); }
  std::string stopped() const { return those(ProcessState::stopped, "stopped"); }

 private:
  struct Peer {
    int rank = 0, pid = 0;
  };
  std::string those(ProcessState state, const char* what) const;

  std::vector<Peer> here_;  // on this host, this rank itself left out
};

}  // namespace weft::parallel
