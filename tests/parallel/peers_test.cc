// The processes of a host, as a rank that waits sees them.
#include "parallel/peers.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "parallel/thread_communicator.h"

namespace weft::parallel {
namespace {

bool becomes(int pid, ProcessState state) {
  for (int i = 0; i < 500 && state_of_process(pid) != state; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  return state_of_process(pid) == state;
}

TEST(Peers, AProcessIsAliveStoppedOrGone) {
  EXPECT_EQ(state_of_process(getpid()), ProcessState::alive);
  const pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  EXPECT_TRUE(becomes(child, ProcessState::alive));
  kill(child, SIGSTOP);
  EXPECT_TRUE(becomes(child, ProcessState::stopped));
  kill(child, SIGKILL);
  EXPECT_TRUE(becomes(child, ProcessState::gone));  // a zombie
  waitpid(child, nullptr, 0);
  EXPECT_EQ(state_of_process(child), ProcessState::gone);
}

TEST(Peers, RanksThatAreThereAreNotNamed) {
  run_ranks(3, [](Communicator& group) {
    const Peers peers(group);
    EXPECT_EQ(peers.gone() + peers.stopped(), "");
  });
}

}  // namespace
}  // namespace weft::parallel
