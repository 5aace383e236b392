#include "launch/process.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <map>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "launch/signals.h"

namespace weft::launch {
namespace {

Environment environment(std::map<std::string, std::string> values) {
  return [values](const char* name) -> std::optional<std::string> {
    const auto found = values.find(name);
    return found == values.end() ? std::nullopt : std::optional(found->second);
  };
}

TEST(Process, WithoutALauncherItIsAlone) {
  const Process process = find_process(environment({}));
  EXPECT_FALSE(process.under_mpi);
  EXPECT_EQ(process.world_size, 1);
}

TEST(Process, KeepsItsCacheWhereTheUserKeepsCaches) {
  using Values = std::map<std::string, std::string>;
  const auto folder = [](const Values& values) {
    return find_process(environment(values)).cache_folder;
  };
  EXPECT_EQ(folder({{"XDG_CACHE_HOME", "/fast"}, {"HOME", "/home/ada"}}), "/fast/weft");
  EXPECT_EQ(folder({{"HOME", "/home/ada"}}), "/home/ada/.cache/weft");
  EXPECT_EQ(folder({{"XDG_CACHE_HOME", "relative"}, {"HOME", "/home/ada"}}),
            "/home/ada/.cache/weft");
  EXPECT_EQ(folder({}), "");
}

TEST(Process, UnderstandsMpirun) {
  const Process process = find_process(environment({{"OMPI_COMM_WORLD_SIZE", "8"},
                                                    {"OMPI_COMM_WORLD_RANK", "5"},
                                                    {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                                    {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}}));
  EXPECT_TRUE(process.under_mpi);
  EXPECT_EQ(process.rank, 5);
  EXPECT_EQ(process.world_size, 8);
  EXPECT_EQ(process.local_rank, 1);
  EXPECT_EQ(process.local_size, 4);
}

TEST(Process, UnderstandsSrunWithPmix) {
  const Process process = find_process(environment({{"PMIX_RANK", "3"},
                                                    {"SLURM_NTASKS", "4"},
                                                    {"SLURM_LOCALID", "1"},
                                                    {"SLURM_NTASKS_PER_NODE", "2"}}));
  EXPECT_EQ(process.rank, 3);
  EXPECT_EQ(process.local_size, 2);
}

TEST(Process, NonsenseInTheEnvironmentIsRefused) {
  EXPECT_THROW(find_process(environment({{"OMPI_COMM_WORLD_SIZE", "many"}})), Error);
  EXPECT_THROW(
      find_process(environment({{"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_RANK", "2"}})),
      Error);
}

TEST(Process, RanksShareTheHostWithoutOverlap) {
  std::vector<Cpu> cpus;  // two sockets, two cores each, hyper-threads numbered as Linux does
  for (int i = 0; i < 8; ++i) cpus.push_back({i, (i / 2) % 2, i % 2});
  EXPECT_EQ(share_of_cpus(cpus, 0, 2), (std::vector<int>{0, 4, 1, 5}));
  EXPECT_EQ(share_of_cpus(cpus, 1, 2), (std::vector<int>{2, 6, 3, 7}));
  for (int ranks : {1, 2, 3, 5, 8}) {
    std::vector<int> all;
    for (int rank = 0; rank < ranks; ++rank)
      for (int id : share_of_cpus(cpus, rank, ranks)) all.push_back(id);
    std::sort(all.begin(), all.end());
    EXPECT_EQ(all, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7})) << ranks;
  }
}

TEST(Process, MoreRanksThanCpusShareThem) {
  EXPECT_EQ(share_of_cpus({{0, 0, 0}, {1, 0, 1}}, 3, 4), std::vector<int>{1});
}

TEST(Process, AContainersQuotaLimitsTheThreads) {
  EXPECT_EQ(cpu_quota("200000 100000"), 2);
  EXPECT_EQ(cpu_quota("150000 100000"), 2);
  EXPECT_EQ(cpu_quota("50000 100000"), 1);
  EXPECT_FALSE(cpu_quota("max 100000"));
  EXPECT_FALSE(cpu_quota(""));
  EXPECT_GE(take_share_of_host({}), 1);
}

TEST(Signals, AskTheRunToEnd) {
  catch_stop_signals(false);
  for (int signal : {SIGTERM, SIGUSR1, SIGINT}) {
    clear_stop_request();
    EXPECT_FALSE(stop_requested());
    raise(signal);
    EXPECT_TRUE(stop_requested());
    EXPECT_EQ(stop_signal(), signal);
  }
  clear_stop_request();
}

TEST(SignalsDeathTest, TwoInterruptsEndAtOnce) {
  EXPECT_EXIT(
      {
        catch_stop_signals(false);
        raise(SIGINT);
        raise(SIGINT);
      },
      ::testing::ExitedWithCode(130), "ending at once");
}

TEST(Signals, OnlyAContinueFromTheParentAsksTheRunToEnd) {
  catch_stop_signals(true);
  clear_stop_request();
  raise(SIGCONT);
  EXPECT_FALSE(stop_requested());
}

TEST(Signals, AClosedPipeDoesNotKill) {
  ignore_write_signals();
  raise(SIGPIPE);
}

}  // namespace
}  // namespace weft::launch
