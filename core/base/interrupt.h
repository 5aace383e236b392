// The wish that the run should end. launch/ sets it from signal handlers; the trainer polls it
// between steps, commits a checkpoint and throws Error{try_again}.
#pragma once

namespace weft {

// Async-signal-safe and thread-safe. `signal` is the number of the signal, for the message.
void request_stop(int signal) noexcept;

bool stop_requested() noexcept;
int stop_signal() noexcept;  // 0: none

void clear_stop_request() noexcept;  // for tests

}  // namespace weft
