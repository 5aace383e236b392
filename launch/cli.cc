#include "launch/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/nearest.h"
#include "core/base/threads.h"
#include "launch/cli_options.h"
#include "launch/report.h"
#include "launch/signals.h"
#include "recipes/export_config.h"

namespace weft::launch {
namespace {

// One object a process: the parser, what it fills in, and what it starts.
class CommandLine {
 public:
  CommandLine(const Verbs& verbs, const Process& process, int threads)
      : verbs_(verbs), process_(process), threads_(threads) {
    app_.require_subcommand(1);
    app_.set_version_flag("--version", "weft " WEFT_VERSION);
    app_.footer(
        "`weft VERB --help` explains a verb. Exit codes are those of sysexits.h: 64 wrong\n"
        "command line or config, 65 bad data, 66 missing input, 69 not possible here, 70 bug,\n"
        "74 input/output, 75 interrupted with a checkpoint committed: start again to go on.");
    add_train();
    add_bench();
    add_eval();
    add_generate();
    add_export();
    add_inspect();
    add_data();
    add_tokenize();
  }

  int run(std::vector<std::string> arguments) {
    check_verb(arguments);
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    try {
      app_.parse(arguments);
    } catch (const CLI::ParseError& e) {
      if (e.get_exit_code() == 0) return app_.exit(e);  // --help, --version
      fail(ErrorKind::usage, "{} (see weft{} --help)", e.what(), verb_name());
    }
    log::configure(level_, process_.rank, process_.world_size);
    set_num_threads(threads_);
    start_();
    std::cout.flush();
    if (std::fflush(stdout) != 0 || std::ferror(stdout) || !std::cout)
      fail(ErrorKind::io, "standard output: {}", std::strerror(errno));
    return 0;
  }

  const World& world() const { return world_; }

 private:
  using Start = std::function<void()>;

  CLI::App* add_verb(const char* name, const char* what, const char* examples, Start start) {
    CLI::App* verb = app_.add_subcommand(name, what);
    verb->footer(std::string("Examples:\n") + examples);
    verb->callback([this, start = std::move(start)] { start_ = start; });
    return verb;
  }

  void add_train() {
    CLI::App* verb = add_verb(
        "train", "Train as a config file says; start it again to go on from the last checkpoint",
        "  weft train configs/quickstart.yaml\n"
        "  mpirun -n 2 weft train configs/quickstart.yaml train.lr=1e-4 log.every=1\n"
        "  weft train --keys                  # every key of a config, as Markdown\n"
        "  weft train run.yaml --print-config # what the run would use, defaults included\n",
        [this] { train(); });
    verb->add_option("config", config_, "YAML file of the run")->type_name("CONFIG");
    verb->add_option("overrides", overrides_, "replace values of the file")->type_name("KEY=VALUE");
    verb->add_flag("--keys", keys_, "print every key with type, default and meaning, and end");
    verb->add_flag("--print-config", print_config_, "print the resolved config, and end");
    add_json(verb, train_.json);
  }

  void add_bench() {
    CLI::App* verb = add_verb(
        "bench", "What this machine can do for a run's model, and how much of it the step reaches",
        "  weft bench configs/quickstart.yaml train.micro_batch=8\n"
        "  weft bench model.config=config.json recipe=sft data.seq_len=4096 --json\n"
        "  mpirun -n 2 weft bench run.yaml log.trace=trace.json --no-floor\n",
        [this] { bench(); });
    verb->add_option("config", overrides_, "YAML file of a run, keys that replace its values")
        ->type_name("[CONFIG] [KEY=VALUE]");
    verb->add_option("--steps", bench_.steps, "steps that are timed")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    verb->add_option("--warmup", bench_.warmup, "steps before them")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    verb->add_flag("!--no-floor", bench_.floor, "do not measure the pieces of a step");
    verb->add_flag("!--no-step", bench_.step, "do not run the step");
    add_json(verb, bench_.json);
  }

  void add_eval() {
    CLI::App* verb = add_verb(
        "eval", "Loss, perplexity and, for labelled sets, accuracy of a model on held-out data",
        "  weft eval exports/hf data/held_out.jsonl\n"
        "  weft eval runs/quickstart data/held_out.jsonl --limit 400 --json\n"
        "  weft eval model.gguf gsm8k_test.jsonl --prompt-field question --completion-field "
        "answer\n",
        [this] { eval(); });
    add_model(verb, eval_.model, eval_.adapter);
    verb->add_option("data", eval_.files, "records")->required()->type_name("FILE");
    verb->add_option("--limit", eval_.limit, "records used, from the first; 0: all")
        ->check(CLI::NonNegativeNumber);
    verb->add_option("--batch", eval_.batch, "records computed at once")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    verb->add_option("--seq-len", eval_.seq_len, "longest record in tokens; 0: the model's limit")
        ->check(CLI::NonNegativeNumber);
    verb->add_flag("--accuracy", eval_.accuracy,
                   "let the model answer and compare, also where records have no labels");
    verb->add_option("--answer-tokens", eval_.answer_tokens,
                     "longest answer; 0: as long as the longest label")
        ->check(CLI::NonNegativeNumber);
    add_too_long(verb, eval_.too_long);
    add_device(verb, eval_.dtype, eval_.device);
    add_record(verb, eval_.record);
    add_common(verb, eval_.json);
  }

  void add_generate() {
    CLI::App* verb =
        add_verb("generate", "Text from a model, through its chat template where it has one",
                 "  weft generate exports/model-q8_0.gguf --prompt \"What is a tensor?\"\n"
                 "  weft generate exports/hf --raw --prompt \"Once upon a time\" --temperature 0.8 "
                 "--seed 7\n"
                 "  echo \"Hello\" | weft generate runs/quickstart --json\n",
                 [this] { alone("generate"), verbs_.generate(generate_); });
    add_model(verb, generate_.model, generate_.adapter);
    verb->add_option("--prompt", generate_.prompt, "the text; else standard input, all of it");
    verb->add_option("--system", generate_.system, "system message");
    verb->add_flag("--raw", generate_.raw, "the prompt as it is, without the chat template");
    verb->add_option("--max-tokens", generate_.max_tokens, "longest answer")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    verb->add_option("--temperature", generate_.temperature, "0: always the likeliest token")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    verb->add_option("--top-p", generate_.top_p, "sample from the likeliest with this probability")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    verb->add_option("--top-k", generate_.top_k, "sample from the k likeliest; 0: all")
        ->check(CLI::NonNegativeNumber);
    verb->add_option("--seed", generate_.seed, "of sampling")->capture_default_str();
    verb->add_option("--stop", generate_.stop, "text that ends the answer (may be repeated)");
    add_device(verb, generate_.dtype, generate_.device);
    add_common(verb, generate_.json);
  }

  void add_export() {
    CLI::App* verb =
        add_verb("export", "Write what was trained in formats that others read",
                 "  weft export runs/quickstart --format hf --format gguf:q8_0\n"
                 "  weft export runs/quickstart --step best --format peft --out adapters/best\n"
                 "  weft export model.gguf --format hf --out models/model   # conversion\n",
                 [this] { alone("export"), export_run(); });
    verb->add_option("source", export_.source,
                     "run folder, checkpoint, Hugging Face folder or .gguf file")
        ->required();
    verb->add_option("--format", export_.formats,
                     "hf, peft, gguf:f32, gguf:f16, gguf:bf16 or gguf:q8_0 (may be repeated)")
        ->required()
        ->type_name("FORMAT")
        ->allow_extra_args(false);
    verb->add_option("--out", export_.output_dir, "folder; else `export` in the run folder");
    verb->add_option("--step", export_.step, "of a run: last, best, or a number")
        ->default_val("last");
    verb->add_option("--adapter", export_.adapter, "PEFT adapter to merge into the source");
    verb->add_flag("--overwrite", export_.overwrite, "replace files that are there");
    add_common(verb, export_.json);
  }

  void add_inspect() {
    CLI::App* verb = add_verb("inspect", "What a model, GGUF, checkpoint, run or dataset holds",
                              "  weft inspect runs/quickstart\n"
                              "  weft inspect model.gguf --tensors\n"
                              "  weft inspect runs/quickstart/step_000500 --verify --json\n",
                              [this] { alone("inspect"), verbs_.inspect(inspect_); });
    verb->add_option("path", inspect_.path, "file or folder")->required();
    verb->add_flag("--tensors", inspect_.tensors, "list every tensor");
    verb->add_flag("--verify", inspect_.verify, "read everything and compare checksums");
    add_common(verb, inspect_.json);
  }

  void add_data() {
    CLI::App* verb =
        add_verb("data", "Tokenise records once, show what is trained on, count",
                 "  weft data train.jsonl --tokenizer models/SmolLM2 --show 3\n"
                 "  weft data train.jsonl --tokenizer model.gguf --seq-len 1024 --stats\n"
                 "  weft data a.jsonl b.jsonl --tokenizer models/SmolLM2 --out data.h5\n",
                 [this] { alone("data"), data(); });
    verb->add_option("files", data_.files, "records")->required()->type_name("FILE");
    verb->add_option("--tokenizer", data_.tokenizer, "model folder, .gguf file or tokenizer.json")
        ->required();
    verb->add_option("--out", data_.output, "HDF5 file to write");
    verb->add_option("--show", data_.show, "print the first N records, marking what is trained on")
        ->check(CLI::NonNegativeNumber);
    verb->add_flag("--stats", data_.stats,
                   "histogram of lengths, useful share after packing, cost of other lengths");
    verb->add_option("--seq-len", data_.seq_len, "longest record in tokens")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    add_too_long(verb, data_.too_long);
    add_record(verb, data_.record);
    add_common(verb, data_.json);
  }

  void add_tokenize() {
    CLI::App* verb =
        add_verb("tokenize", "Texts to token ids, a line at a time; --decode the other way",
                 "  echo '{\"text\": \"Hello\"}' | weft tokenize models/SmolLM2\n"
                 "  echo '[19556]' | weft tokenize model.gguf --decode\n",
                 [this] { alone("tokenize"), verbs_.tokenize(tokenize_); });
    verb->add_option("model", tokenize_.model, "model folder, .gguf file or tokenizer.json")
        ->required();
    verb->add_flag("--decode", tokenize_.decode, "read arrays of ids, write {\"text\": ...}");
  }

  void add_common(CLI::App* verb, bool& json) {
    add_json(verb, json);
    verb->add_option("--threads", threads_, "threads; else this process's share of the cores")
        ->check(CLI::PositiveNumber);
    add_log_level(verb, level_);
  }

  void train() {
    if (keys_) return print(recipes::config_document());
    if (config_.empty()) fail(ErrorKind::usage, "weft train: no config file given");
    train_.config = recipes::read_run_config(config_, overrides_);
    if (print_config_) return print(config_yaml(train_.config));
    log::configure(train_.config.log.level, process_.rank, process_.world_size);
    if (train_.config.train.threads > 0)
      set_num_threads(static_cast<int>(train_.config.train.threads));
    catch_stop_signals(process_.under_mpi);
    train_.cache_folder = process_.cache_folder;
    join_world();
    train_.local_rank = process_.local_rank;
    verbs_.train(train_, world_);
  }

  void eval() {
    join_world();
    eval_.local_rank = process_.local_rank;
    verbs_.eval(eval_, world_);
  }

  void bench() {
    bench_.config = recipes::read_bench_config(overrides_);
    log::configure(bench_.config.log.level, process_.rank, process_.world_size);
    if (bench_.config.train.threads > 0)
      set_num_threads(static_cast<int>(bench_.config.train.threads));
    join_world();
    bench_.local_rank = process_.local_rank;
    bench_.cache_folder = process_.cache_folder;
    verbs_.bench(bench_, world_);
  }

  void data() {
    if (data_.output.empty() && data_.show == 0 && !data_.stats)
      fail(ErrorKind::usage, "weft data: nothing to do: give --out, --show or --stats");
    verbs_.data(data_);
  }

  void print(const std::string& text) {
    if (process_.rank == 0 && std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
      fail(ErrorKind::io, "standard output: write failed");
  }

  void join_world() { world_ = verbs_.make_world(process_.under_mpi); }

  void export_run() {
    for (const std::string& format : export_.formats)
      recipes::check_export_format(format, "--format");
    verbs_.export_(export_);
  }

  void alone(const char* verb) {
    if (process_.world_size > 1)
      fail(ErrorKind::usage, "weft {} is one process: start it without mpirun", verb);
  }

  std::string verb_name() const {
    for (const CLI::App* verb : app_.get_subcommands()) return " " + verb->get_name();
    return "";
  }

  void check_verb(const std::vector<std::string>& arguments) {
    std::vector<std::string> names;
    for (const CLI::App* verb : app_.get_subcommands(nullptr)) names.push_back(verb->get_name());
    const std::string list = fmt::format("{}", fmt::join(names, ", "));
    if (arguments.empty()) fail(ErrorKind::usage, "which verb? One of {} (see --help)", list);
    const std::string& first = arguments.front();
    if (first[0] == '-' || std::find(names.begin(), names.end(), first) != names.end()) return;
    fail(ErrorKind::usage, "unknown verb '{}'; the nearest of {} is '{}'", first, list,
         nearest(first, names));
  }

  const Verbs& verbs_;
  const Process& process_;
  int threads_;
  World world_;
  log::Level level_ = log::Level::info;
  CLI::App app_{"Weft trains, fine-tunes and exports language models.", "weft"};
  Start start_;

  std::string config_;
  std::vector<std::string> overrides_;
  bool keys_ = false, print_config_ = false;
  recipes::TrainOptions train_;
  recipes::BenchOptions bench_;
  recipes::EvalOptions eval_;
  recipes::GenerateOptions generate_;
  recipes::ExportOptions export_;
  recipes::InspectOptions inspect_;
  recipes::DataOptions data_;
  recipes::TokenizeOptions tokenize_;
};

}  // namespace

int run_command(const std::vector<std::string>& arguments, const Verbs& verbs,
                const Process& process, int threads) {
  std::unique_ptr<CommandLine> line;
  try {
    line = std::make_unique<CommandLine>(verbs, process, threads);
    return line->run(arguments);
  } catch (...) {
    return report(describe(std::current_exception()), line ? line->world() : nullptr, process);
  }
}

}  // namespace weft::launch
