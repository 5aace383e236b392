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
void on_stop(int signal) {
  const int saved_errno = errno;
  constexpr char kAtOnce[] = "\nweft: interrupted twice: ending at once, without a checkpoint\n";
  if (signal == SIGINT && stop_signal() == SIGINT) {
    say(kAtOnce, sizeof(kAtOnce) - 1);
    _exit(128 + SIGINT);
  }
  request_stop(signal);
  errno = saved_errno;
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

void install_signal_handlers() {
  for (int signal : {SIGINT, SIGTERM, SIGUSR1}) handle(signal, on_stop);
  for (int signal : {SIGPIPE, SIGXFSZ}) handle(signal, SIG_IGN);
}

}  // namespace weft::launch
