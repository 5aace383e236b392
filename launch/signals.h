// SIGINT, SIGTERM and SIGUSR1 ask the run to end: the step ends, a checkpoint is committed, exit
// code 75. A second SIGINT ends the process at once with 130; the last checkpoint stays whole.
// SIGPIPE and SIGXFSZ are ignored: a closed pipe or a file past its limit is a failed write.
#pragma once

namespace weft::launch {

// Once, before any thread starts.
void install_signal_handlers();

}  // namespace weft::launch
