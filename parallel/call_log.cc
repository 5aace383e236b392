#include "parallel/call_log.h"

#include <fmt/core.h>

#include <algorithm>

namespace weft::parallel {
namespace {

double seconds_since(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

bool unfinished(const CallRecord& record) {
  return record.state == CallState::queued || record.state == CallState::running;
}

}  // namespace

const char* name_of(CallState state) {
  static constexpr const char* kNames[] = {"queued", "running", "done", "failed"};
  return kNames[static_cast<int>(state)];
}

uint64_t CallLog::add(CallRecord record) {
  std::lock_guard lock(mutex_);
  record.id = next_++;
  record.since = std::chrono::steady_clock::now();
  CallRecord& slot = ring_[record.id % ring_.size()];
  slot = std::move(record);
  return slot.id;
}

void CallLog::set_state(uint64_t id, CallState state) {
  std::lock_guard lock(mutex_);
  CallRecord& slot = ring_[id % ring_.size()];
  if (slot.id != id) return;  // overwritten since
  slot.state = state;
  slot.since = std::chrono::steady_clock::now();
}

std::vector<CallRecord> CallLog::records() const {
  std::lock_guard lock(mutex_);
  std::vector<CallRecord> records;
  const uint64_t count = std::min<uint64_t>(next_, ring_.size());
  for (uint64_t id = next_ - count; id < next_; ++id) records.push_back(ring_[id % ring_.size()]);
  return records;
}

double CallLog::oldest_unfinished_seconds() const {
  double oldest = 0;
  for (const CallRecord& record : records())
    if (unfinished(record)) oldest = std::max(oldest, seconds_since(record.since));
  return oldest;
}

std::string CallLog::text(size_t last) const {
  std::string text;
  const std::vector<CallRecord> all = records();
  for (size_t i = all.size() - std::min(last, all.size()); i < all.size(); ++i) {
    const CallRecord& r = all[i];
    text += fmt::format("#{} {} call {}: {} {} {}, {} for {:.3f} s\n", r.id, r.group, r.sequence,
                        r.op, r.tag, r.what, name_of(r.state), seconds_since(r.since));
  }
  return text;
}

Json CallLog::json() const {
  Json::Array calls;
  for (const CallRecord& r : records())
    calls.push_back(Json::Object{{"id", static_cast<int64_t>(r.id)},
                                 {"group", r.group},
                                 {"sequence", static_cast<int64_t>(r.sequence)},
                                 {"op", r.op},
                                 {"tag", r.tag},
                                 {"what", r.what},
                                 {"state", name_of(r.state)},
                                 {"seconds", seconds_since(r.since)}});
  return calls;
}

}  // namespace weft::parallel
