// The claims of the communicator that need processes: run by mpirun, "mpi_ranks CLAIM RANKS". Exit
// code 0 and a line "ok CLAIM RANKS" from rank 0 when it holds.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <thread>

#include "core/base/log.h"
#include "core/ops/elementwise.h"
#include "core/tensor/device_memory.h"
#include "parallel/nccl_communicator.h"
#include "parallel/peers.h"
#include "parallel/watchdog.h"
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

// Rank 1 dies where its launcher does not mind; a call of rank 0 waits for it.
void gone(Communicator& world) {
  struct Endless : parallel::Watchdog::Call {
    bool running() override { return true; }
    bool finished() override { return false; }
  };
  const parallel::Peers peers(world);
  world.barrier();
  if (world.rank() == 1) raise(SIGKILL);
  parallel::Watchdog watchdog({.who = "[test] rank 0",
                               .limit_seconds = 60,
                               .patience_seconds = 1,
                               .log = world.shared_log(),
                               .gone = [&] { return peers.gone(); },
                               .end_run = [&](const std::string& text) { world.abort(69, text); }});
  watchdog.watch(std::make_shared<Endless>(), world.shared_log()->add({.op = "endless"}), "a call");
  sleep(60);
}

// Rank r on GPU r; null where there are not enough.
std::shared_ptr<Communicator> nccl_world(Communicator& world, double timeout_seconds) {
  const int gpus = device_memory::count();
  if (gpus < world.size()) {
    if (world.rank() == 0)
      std::printf("skipped: needs %d GPUs, %d here%s%s\n", world.size(), gpus, gpus ? "" : ": ",
                  gpus ? "" : device_memory::why_none());
    return nullptr;
  }
  const std::shared_ptr<Communicator> borrowed(&world, [](Communicator*) {});
  return parallel::make_nccl(borrowed, {DeviceKind::cuda, world.rank()},
                             {.timeout_seconds = timeout_seconds});
}

void nccl(Communicator& world) {
  const auto group = nccl_world(world, 50);
  const Device gpu{DeviceKind::cuda, world.rank()};
  if (!group) return;
  test::check_collectives(*group, gpu);
  test::check_split(*group, gpu);
  test::check_overlap(*group, gpu);
}

// What is dropped while it is under way is not overwritten by what takes its memory next.
void nccl_memory(Communicator& world) {
  const auto group = nccl_world(world, 50);
  if (!group) return;
  const Device gpu{DeviceKind::cuda, world.rank()};
  const int64_t n = int64_t{64} << 20;
  const Tensor sum = Tensor::empty({n / world.size()}, DType::f32, gpu);
  for (int round = 0; round < 20; ++round) {
    {
      const Tensor input = Tensor::empty({n}, DType::f32, gpu);
      ops::fill(input, 1);
      group->reduce_scatter(input, sum, "dropped");
    }
    const Tensor other = Tensor::zeros({n}, DType::f32, gpu);  // the same block
    const Tensor here = sum.to({});
    for (int64_t i = 0; i < here.numel(); i += 997)
      if (here.data<float>()[i] != static_cast<float>(world.size()))
        fail(ErrorKind::internal, "round {}: element {} is {}", round, i, here.data<float>()[i]);
  }
}

// Bytes a second of what a step does: a reduce-scatter and an all-gather of 1 GiB.
void nccl_speed(Communicator& world) {
  const auto group = nccl_world(world, 50);
  if (!group) return;
  const Device gpu{DeviceKind::cuda, world.rank()};
  const int64_t n = int64_t{512} << 20;
  const Tensor x = Tensor::zeros({n}, DType::bf16, gpu);
  const Tensor part = x.flat(world.rank() * (n / world.size()), {n / world.size()});
  for (int round = 0; round < 5; ++round) {
    device_memory::synchronize(gpu.index);
    world.barrier();
    const Clock::time_point begin = Clock::now();
    group->reduce_scatter(x, part).wait();
    group->all_gather(part, x).wait();
    device_memory::synchronize(gpu.index);
    const double seconds = seconds_since(begin);
    const double moved = 2.0 * x.bytes() * (world.size() - 1) / world.size();
    if (world.rank() == 0)
      std::printf("1 GiB summed and gathered in %.2f ms: %.0f GB/s a GPU each way\n", 1e3 * seconds,
                  1e-9 * moved / seconds);
  }
}

// Rank 1 does something to itself where rank 0 waits for it.
void nccl_without_rank_1(Communicator& world, const std::function<void()>& what) {
  const auto group = nccl_world(world, 8);
  if (!group) fail(ErrorKind::unavailable, "skipped: too few GPUs");
  const Device gpu{DeviceKind::cuda, world.rank()};
  const Tensor x = Tensor::zeros({1 << 20}, DType::f32, gpu);
  const Tensor part = x.flat(world.rank() * (x.numel() / world.size()), {x.numel() / world.size()});
  group->reduce_scatter(x, part, "warm").wait();
  device_memory::synchronize(gpu.index);
  if (world.rank() == 1) what();
  group->reduce_scatter(x, part, "model.layers.3").wait();
  device_memory::synchronize(gpu.index);
}
void nccl_hang(Communicator& world) {
  nccl_without_rank_1(world, [] { sleep(600); });
}
void nccl_stop(Communicator& world) {
  nccl_without_rank_1(world, [] { raise(SIGSTOP); });
}
void nccl_kill(Communicator& world) {
  nccl_without_rank_1(world, [] { raise(SIGKILL); });
}
void nccl_error(Communicator& world) {
  nccl_without_rank_1(world, [] { fail(ErrorKind::io, "writing a checkpoint: disk full"); });
}

const std::map<std::string, std::function<void(Communicator&)>> kClaims = {
    {"collectives", collectives},
    {"progress", progress},
    {"idle", idle},
    {"failure", failure},
    {"disagreement", disagreement},
    {"all_fail", all_fail},
    {"gone", gone},
    {"nccl_gone", nccl_kill},
    {"nccl", nccl},
    {"nccl_memory", nccl_memory},
    {"nccl_speed", nccl_speed},
    {"nccl_hang", nccl_hang},
    {"nccl_stop", nccl_stop},
    {"nccl_kill", nccl_kill},
    {"nccl_error", nccl_error}};

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
  setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);  // as launch/ does
  return weft::run(argv[1], std::atoi(argv[2]));
}
