#include "launch/report.h"

#include <chrono>
#include <cstdio>
#include <new>
#include <thread>

#include "core/base/error.h"
#include "core/base/interrupt.h"

namespace weft::launch {
namespace {

void print(const Failure& failure, const Process& process) {
  const std::string rank = process.world_size > 1
                               ? fmt::format(" (rank {} of {})", process.rank, process.world_size)
                               : "";
  const std::string line = fmt::format("weft{}: {}\n", rank, failure.message);
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

// Before the ranks can talk, most errors (a typo in the config) happen to all of them alike. Rank 0
// speaks at once and mpirun then stops the others, which may take it several seconds; whoever is
// still there after kPatience failed alone.
constexpr std::chrono::seconds kPatience{20};

bool someone_else_spoke(const Process& process) {
  using namespace std::chrono_literals;
  if (process.rank == 0) return false;
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < until && !stop_requested())
    std::this_thread::sleep_for(50ms);
  return stop_requested();
}

}  // namespace

Failure describe(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return {e.exit_code(), e.what()};
  } catch (const std::bad_alloc&) {
    return {static_cast<int>(ErrorKind::unavailable),
            "out of memory: lower train.micro_batch or data.seq_len, or set train.recompute=full"};
  } catch (const std::exception& e) {
    return {
        static_cast<int>(ErrorKind::internal),
        fmt::format("unexpected error: {}. This is a bug in weft: please report it.", e.what())};
  } catch (...) {
    return {static_cast<int>(ErrorKind::internal),
            "unexpected error of an unknown type. This is a bug in weft: please report it."};
  }
}

int report(const Failure& failure, const World& world, const Process& process) {
  const bool all_agree = failure.exit_code == static_cast<int>(ErrorKind::try_again);
  if (process.world_size == 1 || (all_agree && process.rank == 0)) {
    print(failure, process);
  } else if (all_agree) {
    // Interrupted: every rank has committed its part of the checkpoint and ends by itself.
  } else if (world) {
    world->abort(failure.exit_code, failure.message);
  } else if (!someone_else_spoke(process)) {
    print(failure, process);
  }
  return failure.exit_code;
}

}  // namespace weft::launch
