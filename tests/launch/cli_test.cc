#include "launch/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/base/error.h"
#include "core/base/threads.h"
#include "parallel/communicator.h"
#include "tests/support/test_data.h"

namespace weft::launch {
namespace {

using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::CaptureStdout;
using ::testing::internal::GetCapturedStderr;
using ::testing::internal::GetCapturedStdout;

// Runs a command line with verbs that only remember what they were given.
struct CommandLineTest : ::testing::Test {
  CommandLineTest() {
    verbs.make_world = [this](bool mpi) {
      under_mpi = mpi;
      return nullptr;
    };
    verbs.train = [this](const recipes::TrainOptions& o, const World&) { train = o; };
    verbs.bench = [this](const recipes::BenchOptions& o, const World&) { bench = o; };
    verbs.eval = [this](const recipes::EvalOptions& o, const World&) { eval = o; };
    verbs.generate = [this](const recipes::GenerateOptions& o) { generate = o; };
    verbs.export_ = [this](const recipes::ExportOptions& o) { export_ = o; };
    verbs.inspect = [this](const recipes::InspectOptions& o) { inspect = o; };
    verbs.data = [this](const recipes::DataOptions& o) { data = o; };
    verbs.tokenize = [this](const recipes::TokenizeOptions& o) { tokenize = o; };
  }

  int run(const std::vector<std::string>& arguments) {
    CaptureStdout();
    CaptureStderr();
    const int code = run_command(arguments, verbs, process, 1);
    out = GetCapturedStdout();
    err = GetCapturedStderr();
    return code;
  }

  Verbs verbs;
  Process process;
  bool under_mpi = false;
  std::string out, err;
  recipes::TrainOptions train;
  recipes::BenchOptions bench;
  recipes::EvalOptions eval;
  recipes::GenerateOptions generate;
  recipes::ExportOptions export_;
  recipes::InspectOptions inspect;
  recipes::DataOptions data;
  recipes::TokenizeOptions tokenize;
};

TEST_F(CommandLineTest, TrainReadsTheConfigAndOverrides) {
  test::TempDir dir;
  std::ofstream(dir.file("run.yaml")) << "model: {path: m}\ndata: {train: d.jsonl}\n";
  process.under_mpi = true;
  ASSERT_EQ(run({"train", dir.file("run.yaml"), "train.lr=1e-4", "lora.rank=4"}), 0) << err;
  EXPECT_EQ(train.config.train.lr, 1e-4);
  EXPECT_EQ(train.config.lora.rank, 4);
  EXPECT_EQ(train.config.output_dir, "runs/run");
  EXPECT_TRUE(under_mpi);
}

TEST_F(CommandLineTest, PrintConfigShowsEveryKeyAndRunsNothing) {
  test::TempDir dir;
  std::ofstream(dir.file("run.yaml")) << "model: {path: m}\ndata: {train: d.jsonl}\n";
  ASSERT_EQ(run({"train", dir.file("run.yaml"), "--print-config", "train.lr=3e-4"}), 0) << err;
  EXPECT_THAT(out, HasSubstr("  lr: 0.0003\n"));
  EXPECT_TRUE(train.config.model.path.empty());
}

TEST_F(CommandLineTest, BenchNeedsNoFileNoDataAndNoTokenizer) {
  ASSERT_EQ(run({"bench", "model.config=1b.json", "recipe=lora", "train.micro_batch=4", "--steps",
                 "7", "--no-floor", "--json"}),
            0)
      << err;
  EXPECT_EQ(bench.config.model.config, "1b.json");
  EXPECT_EQ(bench.config.recipe, recipes::Recipe::lora);
  EXPECT_EQ(bench.config.train.micro_batch, 4);
  EXPECT_EQ(bench.config.train.global_batch, 0);  // one micro-batch a rank
  EXPECT_EQ(bench.steps, 7);
  EXPECT_TRUE(bench.step && !bench.floor && bench.json);
}

TEST_F(CommandLineTest, BenchTakesTheConfigOfARun) {
  test::TempDir dir;
  std::ofstream(dir.file("run.yaml")) << "model: {path: m}\ndata: {train: d.jsonl}\n"
                                         "train: {micro_batch: 2, global_batch: 8}\n";
  ASSERT_EQ(run({"bench", dir.file("run.yaml"), "train.micro_batch=4"}), 0) << err;
  EXPECT_EQ(bench.config.model.path, "m");
  EXPECT_EQ(bench.config.train.micro_batch, 4);
  EXPECT_EQ(bench.config.train.global_batch, 8);
  EXPECT_TRUE(bench.step && bench.floor);
}

TEST_F(CommandLineTest, EvalTakesRecordKeysAsOptions) {
  ASSERT_EQ(
      run({"eval", "exports/hf", "a.jsonl", "b.jsonl", "--limit", "400", "--json", "--prompt-field",
           "question", "--prompt-template", "{text} ->", "--dtype", "bf16"}),
      0)
      << err;
  EXPECT_EQ(eval.model, "exports/hf");
  EXPECT_EQ(eval.files, (std::vector<std::string>{"a.jsonl", "b.jsonl"}));
  EXPECT_EQ(eval.limit, 400);
  EXPECT_TRUE(eval.json);
  EXPECT_EQ(eval.dtype, recipes::Precision::bf16);
  const data::RecordConfig record = eval.record.resolve(nullptr);
  EXPECT_EQ(record.prompt_field, "question");
  EXPECT_EQ(record.prompt_template, "{text} ->");
}

TEST_F(CommandLineTest, RecordOptionsStandOnTheRunsConfig) {
  recipes::RunConfig run_config;
  run_config.data.record.prompt_field = "question";
  run_config.data.record.system = "be brief";
  const Json json = config_json(run_config);
  ASSERT_EQ(run({"data", "x.jsonl", "--tokenizer", "t", "--stats", "--system", "be kind"}), 0);
  EXPECT_EQ(data.record.resolve(&json).prompt_field, "question");
  EXPECT_EQ(data.record.resolve(&json).system, "be kind");
}

TEST_F(CommandLineTest, TheOtherVerbsFillTheirOptions) {
  ASSERT_EQ(run({"generate", "m.gguf", "--prompt", "hi", "--temperature", "0.5", "--stop", "a",
                 "--stop", "b", "--threads", "1"}),
            0)
      << err;
  EXPECT_EQ(generate.temperature, 0.5);
  EXPECT_EQ(generate.stop.size(), 2u);
  ASSERT_EQ(run({"export", "--format", "hf", "--format", "gguf:q8_0", "runs/x"}), 0) << err;
  EXPECT_EQ(export_.source, "runs/x");
  EXPECT_EQ(export_.formats.size(), 2u);
  EXPECT_EQ(export_.step, "last");
  ASSERT_EQ(run({"inspect", "x", "--verify"}), 0) << err;
  EXPECT_TRUE(inspect.verify);
  ASSERT_EQ(run({"tokenize", "m", "--decode"}), 0) << err;
  EXPECT_TRUE(tokenize.decode);
  ASSERT_EQ(run({"data", "x", "--tokenizer", "t", "--show", "3"}), 0) << err;
  EXPECT_EQ(data.show, 3);
}

TEST_F(CommandLineTest, EveryVerbHasHelpWithExamples) {
  for (const char* verb :
       {"train", "bench", "eval", "generate", "export", "inspect", "data", "tokenize"}) {
    EXPECT_EQ(run({verb, "--help"}), 0);
    EXPECT_THAT(out, HasSubstr("Examples:")) << verb;
    EXPECT_THAT(out, HasSubstr(fmt::format("weft {}", verb)));
  }
  EXPECT_EQ(run({"--help"}), 0);
  EXPECT_THAT(out, HasSubstr("sysexits"));
  EXPECT_EQ(run({"--version"}), 0);
  EXPECT_THAT(out, HasSubstr("weft 0."));
}

TEST_F(CommandLineTest, WrongUsageIsOneLineAndExitCode64) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{}, "which verb?"},
      {{"trian", "x"}, "the nearest of"},
      {{"train"}, "no config file given"},
      {{"eval", "m"}, "required"},
      {{"bench"}, "model.config"},
      {{"bench", "model.config=a", "model.path=b"}, "give one of"},
      {{"bench", "model.config=a", "train.micro_batch=4", "train.global_batch=2"}, "larger"},
      {{"bench", "model.config=a", "train.micro_bach=4"}, "micro_batch"},
      {{"bench", "model.config=a", "--steps", "0"}, "--steps"},
      {{"eval", "m", "d", "--limit", "-3"}, "--limit"},
      {{"eval", "m", "d", "--no-such-thing"}, "--no-such-thing"},
      {{"eval", "m", "d", "--dtype", "fp8"}, "auto|fp32|bf16"},
      {{"generate", "m", "--top-p", "2"}, "--top-p"},
      {{"export", "runs/x", "--format", "gguf:q8"}, "'gguf:q8_0'"},
      {{"data", "x", "--tokenizer", "t"}, "nothing to do"},
  };
  for (const auto& [arguments, message] : cases) {
    EXPECT_EQ(run(arguments), 64);
    EXPECT_THAT(err, HasSubstr(message));
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
  }
}

TEST_F(CommandLineTest, ErrorsLeaveWithTheExitCodeOfTheirKind) {
  verbs.inspect = [](const recipes::InspectOptions&) { fail(ErrorKind::bad_data, "[x] broken"); };
  EXPECT_EQ(run({"inspect", "x"}), 65);
  EXPECT_EQ(err, "weft: [x] broken\n");
  verbs.inspect = [](const recipes::InspectOptions&) { throw std::bad_alloc(); };
  EXPECT_EQ(run({"inspect", "x"}), 69);
  EXPECT_THAT(err, HasSubstr("out of memory"));
  verbs.inspect = [](const recipes::InspectOptions&) { throw std::runtime_error("surprise"); };
  EXPECT_EQ(run({"inspect", "x"}), 70);
  EXPECT_THAT(err, HasSubstr("surprise"));
  EXPECT_EQ(run({"train", "/nonexistent.yaml"}), 66);
}

TEST_F(CommandLineTest, VerbsOfOneProcessRefuseMpirun) {
  process = {true, 0, 2, 0, 2};
  EXPECT_EQ(run({"inspect", "x"}), 64);
  EXPECT_THAT(err, HasSubstr("without mpirun"));
}

// A world of two in which a rank's error is told to the other.
struct FakeWorld : parallel::Communicator {
  explicit FakeWorld(std::string* told)
      : Communicator(1, 2, "world", std::make_shared<parallel::CallLog>()), told_(told) {}
  parallel::Work start(parallel::Call) override { throw std::logic_error("unused"); }
  std::shared_ptr<Communicator> split(int, int, const std::string&) override { return nullptr; }
  [[noreturn]] void abort(int exit_code, const std::string& message) override {
    *told_ = fmt::format("{} {}", exit_code, message);
    throw std::runtime_error("aborted");
  }
  std::string* told_;
};

TEST_F(CommandLineTest, AFailingRankTellsTheOthersAndAnInterruptedOneDoesNot) {
  std::string told;
  process = {true, 1, 2, 1, 2};
  verbs.make_world = [&](bool) { return std::make_shared<FakeWorld>(&told); };
  verbs.eval = [](const recipes::EvalOptions&, const World&) { fail(ErrorKind::io, "disk full"); };
  EXPECT_THROW(run_command({"eval", "m", "d"}, verbs, process, 1), std::runtime_error);
  EXPECT_EQ(told, "74 disk full");
  told.clear();
  verbs.eval = [](const recipes::EvalOptions&, const World&) {
    fail(ErrorKind::try_again, "interrupted");
  };
  EXPECT_EQ(run({"eval", "m", "d"}), 75);
  EXPECT_EQ(told + err, "");
}

}  // namespace
}  // namespace weft::launch
