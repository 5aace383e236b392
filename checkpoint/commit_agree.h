// How ranks come to one outcome: what fails on one is thrown on all, with the same words.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "parallel/communicator.h"

namespace weft::checkpoint {

// What became of one rank's part.
struct Outcome {
  enum class Kind : char { done = '+', damaged = 'd', failed = '-' };
  Kind kind = Kind::done;
  ErrorKind error = ErrorKind::internal;  // unless done
  std::string text;                       // what `attempt` returned, or the error's message

  std::string encode() const;
  static Outcome decode(const std::string& bytes);
};

// Runs `attempt`; whatever it throws becomes an outcome.
Outcome outcome_of(const std::function<std::string()>& attempt);

// Collective: runs `decide` on rank 0 and returns its result on every rank; what it throws, every
// rank throws.
std::string decide_on_rank_0(parallel::Communicator& comm,
                             const std::function<std::string()>& decide);

// Collective: every rank's outcome, on rank 0 (empty elsewhere).
std::vector<Outcome> gather_outcomes(parallel::Communicator& comm, const Outcome& mine);

// Throws when any failed (or was damaged): "{what}: rank 1: {cause}; rank 3: {cause}", with the
// first one's kind.
void throw_failures(const std::vector<Outcome>& outcomes, const std::string& what);

}  // namespace weft::checkpoint
