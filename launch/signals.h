// SIGINT, SIGTERM and SIGUSR1 ask the run to end: the step ends, a checkpoint is committed, exit
// code 75. A second SIGINT ends the process at once with 130; the last checkpoint stays whole.
// SIGPIPE and SIGXFSZ are ignored: a closed pipe or a file past its limit is a failed write.
//
// Open MPI's mpirun, when it is told to end, sends its ranks SIGCONT at once, SIGTERM after
// odls_base_sigkill_timeout seconds (1) and SIGKILL after as many more: a SIGCONT from mpirun
// already asks the run to end. SIGUSR1 is what mpirun just passes on.
#pragma once

namespace weft::launch {

// Once, before any thread starts.
void install_signal_handlers();

// Also takes SIGCONT from the parent process for a request to stop.
void heed_mpirun();

}  // namespace weft::launch
