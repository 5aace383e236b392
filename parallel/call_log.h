// The last calls of the communicators of one rank: what a watchdog prints when a rank hangs.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace weft::parallel {

enum class CallState { queued, running, done, failed };
const char* name_of(CallState state);

struct CallRecord {
  uint64_t id = 0;        // counts all calls of this rank
  std::string group;      // the communicator's name and this rank in it: "data 1/4"
  uint64_t sequence = 0;  // counts the calls of that communicator: equal on all of its ranks
  std::string op;         // "reduce_scatter"
  std::string tag;        // what for: "model.layers.3"
  std::string what;       // "f32[4096] -> f32[1024]"
  CallState state = CallState::queued;
  std::chrono::steady_clock::time_point since;  // when it got into that state
};

// A ring; thread-safe.
class CallLog {
 public:
  explicit CallLog(size_t capacity = 256) : ring_(capacity) {}

  uint64_t add(CallRecord record);  // fills id and since
  void set_state(uint64_t id, CallState state);

  std::vector<CallRecord> records() const;         // oldest first
  double oldest_unfinished_seconds() const;        // 0 when every call is done
  std::string text(size_t last = SIZE_MAX) const;  // a line for each of the last, oldest first
  Json json() const;

 private:
  mutable std::mutex mutex_;
  std::vector<CallRecord> ring_;
  uint64_t next_ = 0;
};

}  // namespace weft::parallel
