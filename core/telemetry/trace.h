// Where the time of a few steps goes, as a file for ui.perfetto.dev or chrome://tracing.
//
// Spans say what the training thread does and nest. On a GPU each is seen twice: when the thread
// issued the work, and when the compute stream did it, by events that are read once the traced
// steps are over. Nothing waits inside them, and while nothing is traced a span is one comparison.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/tensor/device.h"

namespace weft::telemetry {

struct TraceOptions {
  std::string path;   // JSON file; rank N > 0 writes NAME.rankN.EXTENSION. Empty: no trace
  int64_t after = 5;  // steps before the first traced one
  int64_t steps = 3;
  int rank = 0;
  Device device;  // of the work
};

// Traces the steps of the thread that makes it, from then on. One a thread.
class Tracer {
 public:
  explicit Tracer(const TraceOptions& options);
  ~Tracer();  // writes what was traced, where the run ended before the last traced step
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

namespace trace_detail {
extern constinit thread_local Tracer::State* active;  // null: this thread traces nothing now
}
inline bool tracing() {
  return trace_detail::active != nullptr;
}

// From here to the end of the scope: "NAME" or "NAME INDEX".
class Span {
 public:
  explicit Span(std::string_view name, int64_t index = -1) {
    if (tracing()) open(name, index);
  }
  ~Span() {
    if (owner_) close();
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  void open(std::string_view name, int64_t index);
  void close() noexcept;

  Tracer::State* owner_ = nullptr;
  size_t entry_ = 0;
};

// One turn of the training loop. The trace begins and ends where one begins.
class StepSpan {
 public:
  StepSpan() : span_("step", next_step()) {}

 private:
  static int64_t next_step();  // starts or ends the trace where it is time

  Span span_;
};

// Rows of the work beside the compute stream. That of a row is done one after the other.
enum class SideRow { communication = 2, copies = 3 };

// Work that goes on beside the compute stream. Copies of a SideSpan refer to the same work.
class SideSpan {
 public:
  SideSpan() = default;  // none
  // Named "WHAT NAME". The work is issued to `stream` behind what the compute stream has been given
  // so far; null: it is done by a thread, and ends when end() is called.
  SideSpan(std::string_view what, std::string_view name, void* stream,
           SideRow row = SideRow::communication);
  void issued();  // all of it is on its stream; without a stream nothing happens
  void end();     // it was seen to be done; later calls do nothing

 private:
  Tracer::State* owner_ = nullptr;
  size_t entry_ = 0;
};

}  // namespace weft::telemetry
