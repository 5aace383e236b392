#include "launch/signals.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>

#include "core/base/interrupt.h"

namespace weft::launch {
namespace {

void say(const char* text, size_t length) {
  const ssize_t ignored = write(STDERR_FILENO, text, length);
  static_cast<void>(ignored);
}

// Only async-signal-safe calls here.
void on_stop(int signal, siginfo_t*, void*) {
  const int saved_errno = errno;
  constexpr char kAtOnce[] = "\nweft: interrupted twice: ending at once, without a checkpoint\n";
  if (signal == SIGINT && stop_signal() == SIGINT) {
    say(kAtOnce, sizeof(kAtOnce) - 1);
    _exit(128 + SIGINT);
  }
  request_stop(signal);
  errno = saved_errno;
}

void on_continue(int signal, siginfo_t* info, void*) {
  if (info->si_pid == getppid()) request_stop(signal);
}

void handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_RESTART | SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

void ignore_write_signals() {
  for (int signal : {SIGPIPE, SIGXFSZ}) ::signal(signal, SIG_IGN);
}

void catch_stop_signals(bool under_mpi) {
  for (int signal : {SIGINT, SIGTERM, SIGUSR1}) handle(signal, on_stop);
  if (under_mpi) handle(SIGCONT, on_continue);
}

}  // namespace weft::launch
