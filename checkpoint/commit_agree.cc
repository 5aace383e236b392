#include "checkpoint/commit_agree.h"

#include <fmt/format.h>

#include <exception>

#include "checkpoint/native_shard.h"

namespace weft::checkpoint {
namespace {

constexpr size_t kFailuresNamed = 4;

void throw_outcome(const Outcome& outcome) {
  if (outcome.kind == Outcome::Kind::damaged) throw DamagedCheckpoint(outcome.text);
  if (outcome.kind == Outcome::Kind::failed) throw Error(outcome.error, outcome.text);
}

}  // namespace

std::string Outcome::encode() const {
  return std::string{static_cast<char>(kind), static_cast<char>(error)} + text;
}

Outcome Outcome::decode(const std::string& bytes) {
  CHECK(bytes.size() >= 2, "an outcome of {} bytes", bytes.size());
  return {static_cast<Kind>(bytes[0]), static_cast<ErrorKind>(bytes[1]), bytes.substr(2)};
}

Outcome outcome_of(const std::function<std::string()>& attempt) {
  try {
    return {Outcome::Kind::done, ErrorKind::internal, attempt()};
  } catch (const DamagedCheckpoint& error) {
    return {Outcome::Kind::damaged, error.kind(), error.what()};
  } catch (const Error& error) {
    return {Outcome::Kind::failed, error.kind(), error.what()};
  } catch (const std::exception& error) {
    return {Outcome::Kind::failed, ErrorKind::internal, error.what()};
  }
}

std::string decide_on_rank_0(parallel::Communicator& comm,
                             const std::function<std::string()>& decide) {
  std::string encoded;
  if (comm.rank() == 0) encoded = outcome_of(decide).encode();
  Outcome outcome = Outcome::decode(comm.broadcast_bytes(encoded, 0, "checkpoint"));
  throw_outcome(outcome);
  return std::move(outcome.text);
}

std::vector<Outcome> gather_outcomes(parallel::Communicator& comm, const Outcome& mine) {
  const std::vector<std::string> all = comm.gather_bytes(mine.encode(), "checkpoint");
  std::vector<Outcome> outcomes;
  if (comm.rank() != 0) return outcomes;
  for (const std::string& bytes : all) outcomes.push_back(Outcome::decode(bytes));
  return outcomes;
}

void throw_failures(const std::vector<Outcome>& outcomes, const std::string& what) {
  std::string causes;
  size_t failures = 0;
  ErrorKind kind = ErrorKind::internal;
  for (size_t rank = 0; rank < outcomes.size(); ++rank) {
    const Outcome& outcome = outcomes[rank];
    if (outcome.kind == Outcome::Kind::done) continue;
    if (failures == 0) kind = outcome.error;
    if (++failures <= kFailuresNamed)
      causes += fmt::format("{}rank {}: {}", failures > 1 ? "; " : "", rank, outcome.text);
  }
  if (failures > kFailuresNamed)
    causes += fmt::format("; and {} more ranks", failures - kFailuresNamed);
  if (failures > 0) fail(kind, "{}: {}", what, causes);
}

}  // namespace weft::checkpoint
