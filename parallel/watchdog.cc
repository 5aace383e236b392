#include "parallel/watchdog.h"

#include <algorithm>
#include <chrono>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"

namespace weft::parallel {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kEvery{20};
// A longer time between two looks says that this process itself stood still (a debugger, a stopped
// job): no call may be blamed for it.
constexpr double kLongestLook = 1;
constexpr double kStopMentionedAfter = 0.3;  // mpirun kills a second after it has asked
constexpr size_t kLinesShown = 24;

}  // namespace

Watchdog::Watchdog(Options options) : options_(std::move(options)) {
  thread_ = std::thread([this] { loop(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    wake_.notify_all();
  }
  thread_.join();
}

void Watchdog::watch(std::shared_ptr<Call> call, uint64_t record_id, std::string name) {
  const std::lock_guard lock(mutex_);
  calls_.push_back({std::move(call), record_id, std::move(name)});
  if (calls_.size() == 1) wake_.notify_all();
}

void Watchdog::loop() {
  if (options_.begin_thread) options_.begin_thread();
  for (Clock::time_point last = Clock::now();;) {
    {
      std::unique_lock lock(mutex_);
      const bool idle = calls_.empty();
      wake_.wait(lock, [&] { return stop_ || !calls_.empty(); });
      if (!idle) wake_.wait_for(lock, kEvery, [&] { return stop_; });
      if (idle) last = Clock::now();
      if (stop_) return;
    }
    const Clock::time_point now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - last).count();
    last = now;
    if (!look(std::min(seconds, kLongestLook))) return;
  }
}

bool Watchdog::look(double seconds) {
  for (;;) {
    Watched* oldest = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (calls_.empty()) return true;
      oldest = &calls_.front();  // stays where it is while others are added
    }
    try {
      if (!oldest->call->finished()) return judge(*oldest, seconds);
    } catch (const std::exception& error) {
      return end(*oldest, error.what());
    }
    options_.log->set_state(oldest->record_id, CallState::done);
    const std::lock_guard lock(mutex_);
    calls_.pop_front();
  }
}

bool Watchdog::judge(Watched& oldest, double seconds) {
  if (!oldest.call->running()) {
    oldest.seconds = 0;
    return true;
  }
  if (!oldest.running) options_.log->set_state(oldest.record_id, CallState::running);
  oldest.seconds += oldest.running ? seconds : 0;
  oldest.running = true;
  const auto say = [](const std::function<std::string()>& ask) { return ask ? ask() : ""; };
  if (const std::string why = say(options_.broken); !why.empty()) return end(oldest, why);
  if (oldest.seconds > options_.patience_seconds)
    if (const std::string why = say(options_.gone); !why.empty()) return end(oldest, why);
  if (oldest.seconds > options_.limit_seconds)
    return end(oldest,
               "did a rank die or hang? Its own last lines say more (parallel.timeout is the limit "
               "for one call)");
  if (stop_requested() && oldest.seconds > kStopMentionedAfter) mention_stop(oldest);
  return true;
}

bool Watchdog::end(const Watched& call, const std::string& why) {
  options_.log->set_state(call.record_id, CallState::failed);
  log::warn("{}: its last calls, oldest first:\n{}", options_.who, options_.log->text(kLinesShown));
  try {
    options_.end_run(
        fmt::format("{}: {} has not ended for {:.0f} s: {}. The same command goes on from the last "
                    "checkpoint",
                    options_.who, call.name, call.seconds, why));
  } catch (const std::exception&) {
    // A test's world throws where a real one ends the process.
  }
  return false;
}

// mpirun asks every rank to end when one has died, and kills those that wait for it a second later:
// its own message names the rank, this one what the others were waiting for.
void Watchdog::mention_stop(const Watched& call) {
  if (stop_mentioned_) return;
  stop_mentioned_ = true;
  log::warn("{} was asked to stop and waits in {} ({:.1f} s so far)", options_.who, call.name,
            call.seconds);
}

}  // namespace weft::parallel
