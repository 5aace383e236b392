// The claims of the communicator that need processes: run by mpirun, "mpi_ranks CLAIM RANKS". Exit
// code 0 and a line "ok CLAIM RANKS" from rank 0 when it holds.
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <thread>

#include "core/base/log.h"
#include "parallel/world.h"
#include "tests/parallel/collectives.h"

namespace weft {
namespace {

using parallel::Communicator;
using parallel::Work;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double cpu_seconds() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& t) { return t.tv_sec + 1e-6 * t.tv_usec; };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

void collectives(Communicator& world) {
  test::check_collectives(world);
  test::check_split(world);
  test::check_overlap(world);
}

// The caller computes and calls nothing; the reduction finishes all the same.
void progress(Communicator& world) {
  const int64_t n = int64_t{16} << 20;  // 64 MiB a rank
  const Tensor input = Tensor::zeros({n}, DType::f32);
  const Tensor output = Tensor::empty({n / world.size()}, DType::f32);
  if (n % world.size() != 0) fail(ErrorKind::internal, "choose 2 or 4 ranks");
  world.barrier();
  const Clock::time_point alone_begin = Clock::now();
  world.reduce_scatter(input, output).wait();
  const double alone = seconds_since(alone_begin);

  world.barrier();
  const Clock::time_point begin = Clock::now();
  const Work work = world.reduce_scatter(input, output);
  volatile double busy = 1;
  bool done = false;
  while (!done && seconds_since(begin) < 60) {
    for (int i = 0; i < 100000; ++i) busy = busy * 1.0000001;
    done = work.done();
  }
  if (!done) fail(ErrorKind::internal, "no progress in 60 s of computing");
  const double beside = seconds_since(begin);
  work.wait();
  if (world.rank() == 0)
    std::printf("64 MiB a rank: %.0f MB/s alone, %.0f MB/s beside computing\n", 67.1 / alone,
                67.1 / beside);
}

// Waiting costs next to no processor time, with an operation under way or without.
void idle(Communicator& world) {
  world.barrier();
  const double before = cpu_seconds();
  if (world.rank() == 1) sleep(2);
  world.barrier();
  const double busy = cpu_seconds() - before;
  std::printf("rank %d: %.0f ms of processor in 2 s of waiting\n", world.rank(), 1e3 * busy);
  if (busy > 0.5) fail(ErrorKind::internal, "{} s of processor in 2 s of waiting", busy);
}

// One rank fails in the middle of an operation that the others wait for.
void failure(Communicator& world) {
  const auto group = world.split(0, 0, "group");
  const Tensor x = Tensor::zeros({1 << 20}, DType::f32);
  group->all_reduce(x, parallel::Reduce::sum).wait();
  if (world.rank() == 1) fail(ErrorKind::io, "writing a checkpoint: disk full");
  for (;;) group->all_reduce(x, parallel::Reduce::sum).wait();
}

void all_fail(Communicator&) {
  fail(ErrorKind::usage, "unknown key: lrr");
}

void disagreement(Communicator& world) {
  const Tensor x = Tensor::zeros({1000 + world.rank()}, DType::f32);
  world.all_reduce(x, parallel::Reduce::sum).wait();
}

const std::map<std::string, std::function<void(Communicator&)>> kClaims = {
    {"collectives", collectives}, {"progress", progress},         {"idle", idle},
    {"failure", failure},         {"disagreement", disagreement}, {"all_fail", all_fail}};

int run(const std::string& claim, int ranks) {
  const auto world = parallel::make_world(/*under_mpi=*/true);
  log::configure(log::Level::info, world->rank(), world->size());
  try {
    if (world->size() != ranks)
      fail(ErrorKind::internal, "{} ranks run, {} expected", world->size(), ranks);
    kClaims.at(claim)(*world);
    world->barrier();
  } catch (const Error& error) {
    world->abort(error.exit_code(), error.what());
  }
  if (world->rank() == 0) std::printf("ok %s %d\n", claim.c_str(), ranks);
  return 0;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  return weft::run(argv[1], std::atoi(argv[2]));
}
