// How an error leaves the process: one line on standard error and an exit code.
#pragma once

#include <exception>
#include <string>

#include "launch/cli.h"

namespace weft::launch {

struct Failure {
  int exit_code;
  std::string message;
};

// Error: its kind. Out of memory: unavailable. Anything else: internal.
Failure describe(const std::exception_ptr& error);

// Prints the failure and tells the other ranks, when there are any: `world` is null before it
// exists. Returns the exit code of this process; does not return where ending the run ends it.
int report(const Failure& failure, const World& world, const Process& process);

}  // namespace weft::launch
