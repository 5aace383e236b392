// What signals mean to `weft`.
#pragma once

namespace weft::launch {

// SIGPIPE and SIGXFSZ: a closed pipe or a file past its limit is a failed write, not the end.
void ignore_write_signals();

// For verbs that poll stop_requested(). SIGINT, SIGTERM and SIGUSR1 ask the run to end: the step
// ends, a checkpoint is committed, exit code 75. A second SIGINT ends the process at once with 130;
// the last checkpoint stays whole.
//
// Open MPI's mpirun, when it is told to end, sends its ranks SIGCONT at once, SIGTERM after
// odls_base_sigkill_timeout seconds (1) and SIGKILL after as many more: with `under_mpi`, a SIGCONT
// from the parent process already asks the run to end. SIGUSR1 is what mpirun just passes on.
void catch_stop_signals(bool under_mpi);

}  // namespace weft::launch
