// Where the live progress line can be shown.
#pragma once

#include "launch/process.h"

namespace weft::launch {

// A file descriptor of the terminal that this process's standard error reaches, through mpirun too;
// -1: none, or one that cannot move its cursor.
int find_terminal(const Process& process, const Environment& environment);

}  // namespace weft::launch
