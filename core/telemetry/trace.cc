#include "core/telemetry/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <vector>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/tensor/device_memory.h"
#include "core/tensor/device_timer.h"

namespace weft::telemetry {

namespace trace_detail {
constinit thread_local Tracer::State* active = nullptr;
}

namespace {

using Clock = std::chrono::steady_clock;
using trace_detail::active;

// Of the thread, whether or not it traces now.
constinit thread_local Tracer::State* installed = nullptr;

// Rows of the picture ("tid").
enum class Row {
  thread = 0,
  compute = 1,
  communication = static_cast<int>(SideRow::communication),
  copies = static_cast<int>(SideRow::copies),
};

struct Entry {
  std::string name;
  Clock::time_point begin, end;
  std::optional<SideRow> side = {};
  bool open = true;
  void* stream = nullptr;        // of work on a stream: where
  void* gpu_begin = nullptr;     // on the compute stream
  void* stream_begin = nullptr;  // side work: on its stream; it begins when both have passed
  void* gpu_end = nullptr;
};

struct Times {
  double begin = 0, end = 0;  // seconds since the trace began
};

std::string path_of_rank(const std::string& path, int rank) {
  if (rank == 0) return path;
  const std::filesystem::path p(path);
  const std::string name =
      fmt::format("{}.rank{}{}", p.stem().string(), rank, p.extension().string());
  return (p.parent_path() / name).string();
}

Json metadata(const char* what, int rank, int row, const std::string& name) {
  return Json::Object{{"ph", "M"},
                      {"name", what},
                      {"pid", rank},
                      {"tid", row},
                      {"args", Json::Object{{"name", name}}}};
}

}  // namespace

struct Tracer::State {
  TraceOptions options;
  int64_t seen = 0;  // steps
  bool done = false;
  Clock::time_point start;
  void* gpu_start = nullptr;
  std::vector<Entry> entries;
  std::vector<void*> events;  // all that were made

  bool on_gpu() const { return !options.device.is_cpu(); }

  void* mark(void* stream) {
    void* event = device_timer::make(options.device.index);
    events.push_back(event);
    return device_timer::record(event, stream, options.device.index) ? event : nullptr;
  }
  void* mark_compute() {
    return on_gpu() ? mark(device_memory::stream(options.device.index)) : nullptr;
  }

  void begin() {
    if (on_gpu()) device_memory::synchronize(options.device.index);
    gpu_start = mark_compute();
    start = Clock::now();
    active = this;
  }
  size_t open(std::string name) {
    entries.push_back({.name = std::move(name), .begin = Clock::now(), .end = {}});
    return entries.size() - 1;
  }
  void finish() noexcept;
  void write();
  Times thread_times(const Entry& entry) const;
  Times gpu_times(const Entry& entry) const;
  Json event_of(const Entry& entry, Row row, const Times& times) const;
  Json to_json() const;
};

// A trace that cannot be had does not end the run.
void Tracer::State::finish() noexcept {
  if (active == this) active = nullptr;
  if (done || entries.empty()) return;
  done = true;
  try {
    write();
  } catch (const std::exception& e) {
    log::warn("log.trace: {}; the run goes on without the trace", e.what());
  }
  for (void* event : events) device_timer::give(event);
  events.clear();
  entries.clear();
}

void Tracer::State::write() {
  const Clock::time_point now = Clock::now();
  for (Entry& entry : entries)
    if (entry.open) entry.end = now;  // the trace ends inside it
  const std::string path = path_of_rank(options.path, options.rank);
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder);
  std::ofstream out(path, std::ios::trunc);
  out << to_json().dump() << "\n";
  out.close();
  if (!out) fail(ErrorKind::io, "{} cannot be written", path);
  log::info("trace of {} step(s) in {} (open it in ui.perfetto.dev)",
            std::clamp<int64_t>(seen - options.after, 0, options.steps), path);
}

Times Tracer::State::thread_times(const Entry& entry) const {
  const auto since_start = [this](Clock::time_point t) {
    return std::chrono::duration<double>(t - start).count();
  };
  return {since_start(entry.begin), since_start(entry.end)};
}

Times Tracer::State::gpu_times(const Entry& entry) const {
  Times times{device_timer::seconds(gpu_start, entry.gpu_begin),
              device_timer::seconds(gpu_start, entry.gpu_end)};
  if (entry.stream_begin)
    times.begin = std::max(times.begin, device_timer::seconds(gpu_start, entry.stream_begin));
  return times;
}

Json Tracer::State::event_of(const Entry& entry, Row row, const Times& times) const {
  return Json::Object{
      {"name", entry.name},      {"ph", "X"},
      {"pid", options.rank},     {"tid", static_cast<int>(row)},
      {"ts", times.begin * 1e6}, {"dur", std::max(0.0, times.end - times.begin) * 1e6}};
}

Json Tracer::State::to_json() const {
  Json::Array events;
  const std::string where =
      on_gpu() ? device_timer::gpu_name(options.device.index) : std::string("CPU");
  events.push_back(
      metadata("process_name", options.rank, 0, fmt::format("rank {}, {}", options.rank, where)));
  const std::pair<Row, const char*> rows[] = {{Row::thread, "training thread"},
                                              {Row::compute, "compute stream"},
                                              {Row::communication, "communication"},
                                              {Row::copies, "copies"}};
  const bool copies = std::any_of(entries.begin(), entries.end(),
                                  [](const Entry& e) { return e.side == SideRow::copies; });
  for (const auto& [row, name] : rows)
    if ((on_gpu() || row != Row::compute) && (copies || row != Row::copies))
      events.push_back(metadata("thread_name", options.rank, static_cast<int>(row), name));
  std::map<SideRow, double> side_ends;  // side work of a row is done one after the other
  for (const Entry& entry : entries) {
    const bool timed_on_gpu = gpu_start && entry.gpu_begin && entry.gpu_end;
    if (entry.side) {
      Times times = timed_on_gpu ? gpu_times(entry) : thread_times(entry);
      double& side_end = side_ends[*entry.side];
      times.begin = std::max(times.begin, side_end);
      side_end = times.end = std::max(times.begin, times.end);
      events.push_back(event_of(entry, static_cast<Row>(*entry.side), times));
      continue;
    }
    events.push_back(event_of(entry, Row::thread, thread_times(entry)));
    if (timed_on_gpu) events.push_back(event_of(entry, Row::compute, gpu_times(entry)));
  }
  return Json::Object{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}};
}

Tracer::Tracer(const TraceOptions& options) : state_(std::make_unique<State>()) {
  state_->options = options;
  if (options.path.empty()) return;
  CHECK(!installed, "two tracers on one thread");
  installed = state_.get();
}

Tracer::~Tracer() {
  state_->finish();
  if (installed == state_.get()) installed = nullptr;
}

int64_t StepSpan::next_step() {
  Tracer::State* state = installed;
  if (!state || state->done) return -1;
  const TraceOptions& options = state->options;
  if (state->seen == options.after) state->begin();
  if (state->seen == options.after + options.steps) state->finish();
  return ++state->seen;
}

void Span::open(std::string_view name, int64_t index) {
  owner_ = active;
  entry_ = owner_->open(index < 0 ? std::string(name) : fmt::format("{} {}", name, index));
  owner_->entries[entry_].gpu_begin = owner_->mark_compute();
}

void Span::close() noexcept {
  if (owner_ != active) return;  // the trace is over
  Entry& entry = owner_->entries[entry_];
  entry.open = false;
  entry.end = Clock::now();
  try {
    entry.gpu_end = owner_->mark_compute();
  } catch (const std::exception&) {  // the GPU failed, and what it did next says so
  }
}

SideSpan::SideSpan(std::string_view what, std::string_view name, void* stream, SideRow row) {
  if (!tracing()) return;
  owner_ = active;
  entry_ = owner_->open(fmt::format("{} {}", what, name));
  Entry& entry = owner_->entries[entry_];
  entry.side = row;
  if (!stream || !owner_->on_gpu()) return;
  entry.stream = stream;
  entry.gpu_begin = owner_->mark_compute();
  entry.stream_begin = owner_->mark(stream);
}

void SideSpan::issued() {
  if (!owner_ || owner_ != active || !owner_->entries[entry_].stream) return;
  owner_->entries[entry_].gpu_end = owner_->mark(owner_->entries[entry_].stream);
  end();
}

void SideSpan::end() {
  if (owner_ && owner_ == active && owner_->entries[entry_].open) {
    owner_->entries[entry_].open = false;
    owner_->entries[entry_].end = Clock::now();
  }
  owner_ = nullptr;
}

}  // namespace weft::telemetry
