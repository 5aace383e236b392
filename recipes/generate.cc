#include "recipes/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <set>

#include "core/base/error.h"
#include "core/text/chat_template.h"
#include "recipes/generator.h"

namespace weft::recipes {
namespace {

// Whatever the model's files call an end: of the sequence or of a turn.
std::vector<int32_t> stop_ids(const Model& model) {
  std::set<int32_t> ids;
  const auto add = [&](const Json* value) {
    if (!value) return;
    if (value->is_int()) ids.insert(static_cast<int32_t>(value->as_int()));
    if (value->is_array())
      for (const Json& id : value->as_array()) ids.insert(static_cast<int32_t>(id.as_int()));
  };
  add(model.description.config.find("eos_token_id"));
  add(model.description.generation_config.find("eos_token_id"));
  if (const int32_t eos = model.special_ids().eos; eos >= 0) ids.insert(eos);
  return {ids.begin(), ids.end()};
}

std::vector<int32_t> prompt_ids(const Model& model, const GenerateOptions& options) {
  const text::Tokenizer& tokenizer = *model.description.tokenizer;
  const text::TokenizerConfig& config = model.description.tokenizer_config;
  if (options.raw || config.chat_template.empty()) {
    std::vector<int32_t> ids = tokenizer.encode(options.prompt);
    const text::SpecialIds special = model.special_ids();
    if (special.add_bos && special.bos >= 0 && (ids.empty() || ids[0] != special.bos))
      ids.insert(ids.begin(), special.bos);
    return ids;
  }
  Json::Array messages;
  const auto message = [&](const char* role, const std::string& content) {
    Json m;
    m.set("role", role);
    m.set("content", content);
    messages.push_back(m);
  };
  if (!options.system.empty()) message("system", options.system);
  message("user", options.prompt);
  const text::ChatTemplate chat(config.chat_template, text::special_token_texts(config),
                                options.model + ": chat template");
  return tokenizer.encode(chat.render(messages, {.add_generation_prompt = true}));
}

// Text as it comes; ends the sequence at one of the stop texts.
class Streamer {
 public:
  Streamer(const text::Tokenizer& tokenizer, const GenerateOptions& options)
      : decoder_(tokenizer, /*skip_special=*/true), options_(options) {}

  bool push(int32_t id) { return add(decoder_.push(id)); }
  void finish() {
    add(decoder_.finish());
    print(text_.size());
  }
  const std::string& text() const { return text_; }

 private:
  bool add(const std::string& piece) {
    if (stopped_) return false;
    text_ += piece;
    size_t held = 0;  // what may be the beginning of a stop text is not printed yet
    for (const std::string& stop : options_.stop) {
      if (const size_t at = text_.find(stop); at != std::string::npos) {
        text_.resize(at);
        stopped_ = true;
        return false;
      }
      held = std::max(held, std::min(stop.size() - 1, text_.size()));
    }
    print(text_.size() - held);
    return true;
  }
  void print(size_t end) {
    if (options_.json || end <= printed_) return;
    std::fwrite(text_.data() + printed_, 1, end - printed_, stdout);
    std::fflush(stdout);
    printed_ = end;
  }

  text::StreamDecoder decoder_;
  const GenerateOptions& options_;
  std::string text_;
  size_t printed_ = 0;
  bool stopped_ = false;
};

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// When tokens came. The first one's time is the prompt's; the others' is that of decoding.
class Stopwatch {
 public:
  void token() {
    last_ = Clock::now();
    if (++tokens_ == 1) first_ = last_;
  }
  void report(Json& json) const {
    if (tokens_ > 0) json.set("prompt_seconds", seconds_between(begin_, first_));
    const double decoding = seconds_between(first_, last_);
    if (tokens_ < 2 || decoding <= 0) return;
    json.set("decode_ms_per_token", 1e3 * decoding / static_cast<double>(tokens_ - 1));
    json.set("decode_tokens_per_second", static_cast<double>(tokens_ - 1) / decoding);
  }

 private:
  Clock::time_point begin_ = Clock::now(), first_{}, last_{};
  int64_t tokens_ = 0;
};

}  // namespace

void run_generate(const GenerateOptions& options) {
  for (const std::string& stop : options.stop)
    if (stop.empty()) fail(ErrorKind::usage, "--stop: an empty text");
  const Model model = load_for_inference({.path = options.model,
                                          .adapter = options.adapter,
                                          .dtype = options.dtype,
                                          .device = device_of(options.device)});
  Streamer streamer(*model.description.tokenizer, options);
  GenerateRequest request{.prompt = prompt_ids(model, options),
                          .max_new_tokens = options.max_tokens,
                          .sampling = {.temperature = options.temperature,
                                       .top_p = options.top_p,
                                       .top_k = options.top_k,
                                       .seed = static_cast<uint64_t>(options.seed)}};
  const std::vector<int32_t> stops = stop_ids(model);
  Stopwatch stopwatch;
  request.on_token = [&](int32_t id) {
    stopwatch.token();
    return std::find(stops.begin(), stops.end(), id) != stops.end() || streamer.push(id);
  };
  const auto begin = Clock::now();
  const Generated result = Generator(model, stops).generate({request})[0];
  const double seconds = seconds_between(begin, Clock::now());
  streamer.finish();
  if (!options.json) return void(fmt::print("\n"));
  Json json;
  json.set("text", streamer.text());
  json.set("ids", Json::Array(result.ids.begin(), result.ids.end()));
  json.set("finish", name_of(result.finish));
  json.set("prompt_tokens", request.prompt.size());
  json.set("new_tokens", result.ids.size());
  json.set("seconds", seconds);
  json.set("tokens_per_second", static_cast<double>(result.ids.size()) / seconds);
  stopwatch.report(json);
  fmt::print("{}\n", json.dump());
}

}  // namespace weft::recipes
