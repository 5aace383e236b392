#include "parallel/host_engine.h"

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <algorithm>
#include <chrono>
#include <future>

namespace weft::parallel {
namespace {

constexpr size_t kRoundsInFlight = 2;
constexpr int kYieldsBeforeSleep = 50;
constexpr int kShortSleeps = 300;
constexpr std::chrono::microseconds kShortSleep{30};
constexpr std::chrono::microseconds kLongSleep{200};
constexpr std::chrono::milliseconds kListenEvery{50};  // while nothing is under way

}  // namespace

class Engine::JobWork : public Work::State {
 public:
  void wait() override {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [&] { return done_; });
    if (error_) throw *error_;
  }
  bool done() const override {
    std::lock_guard lock(mutex_);
    return done_;
  }
  void finish(std::optional<Error> error) {
    std::lock_guard lock(mutex_);
    done_ = true;
    error_ = std::move(error);
    finished_.notify_all();
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable finished_;
  bool done_ = false;
  std::optional<Error> error_;
};

Engine::Engine(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {
  std::promise<void> opened;
  std::future<void> ready = opened.get_future();
  thread_ = std::thread([this, &opened] {
    try {
      transport_->open();
    } catch (...) {
      return opened.set_exception(std::current_exception());
    }
    opened.set_value();
    loop();
    transport_->close();
  });
  try {
    ready.get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

Engine::~Engine() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    wake_.notify_all();
  }
  thread_.join();
}

Work Engine::submit(Job job) {
  auto work = std::make_shared<JobWork>();
  std::lock_guard lock(mutex_);
  if (failure_ || stop_) {
    job.log->set_state(job.record_id, CallState::failed);
    work->finish(failure_);
    return Work(work);
  }
  inbox_.push_back({std::move(job), work, 0, {}});
  wake_.notify_all();
  return Work(work);
}

void Engine::call(std::function<void()> function) {
  std::promise<void> ran;
  {
    std::lock_guard lock(mutex_);
    functions_.push_back([&] {
      function();
      ran.set_value();
    });
    wake_.notify_all();
  }
  ran.get_future().wait();
}

void Engine::fail_all(const Error& error) {
  std::lock_guard lock(mutex_);
  if (!failure_) failure_ = error;
  wake_.notify_all();
}

void Engine::loop() {
#ifdef PR_SET_TIMERSLACK
  prctl(PR_SET_TIMERSLACK, 1000);  // sleeps of microseconds, not of the default 50 more
#endif
  while (take_inbox()) {
    bool moved = false;
    try {
      transport_->listen();
      moved = advance_all();
    } catch (const Error& error) {
      fail_all(error);
    } catch (const std::exception& error) {
      fail_all(Error(ErrorKind::internal, error.what()));
    }
    pause(moved);
  }
  fail_active();
}

bool Engine::take_inbox() {
  std::vector<std::function<void()>> functions;
  bool failed;
  {
    std::unique_lock lock(mutex_);
    const auto called = [&] { return stop_ || !inbox_.empty() || !functions_.empty(); };
    if (queues_.empty() && transport_->needs_polling())
      wake_.wait_for(lock, kListenEvery, called);
    else if (queues_.empty())
      wake_.wait(lock, called);
    for (Active& active : inbox_) queues_[active.job.route.get()].push_back(std::move(active));
    inbox_.clear();
    functions.swap(functions_);
    failed = failure_.has_value();
    if (stop_) return false;
  }
  for (const auto& function : functions) function();
  if (failed) fail_active();
  return true;
}

bool Engine::advance_all() {
  bool moved = false;
  for (auto it = queues_.begin(); it != queues_.end();) {
    std::deque<Active>& queue = it->second;
    bool finished = true;
    while (!queue.empty() && finished) {
      moved |= advance(queue.front(), &finished);
      if (finished) queue.pop_front();
    }
    it = queue.empty() ? queues_.erase(it) : std::next(it);
  }
  return moved;
}

// Posts what may be posted, finishes what has arrived.
bool Engine::advance(Active& active, bool* finished) {
  bool moved = false;
  const Plan& plan = active.job.plan;
  if (active.next_step == 0 && active.flights.empty())
    active.job.log->set_state(active.job.record_id, CallState::running);
  for (;;) {
    while (active.next_step < plan.size() && active.flights.size() < kRoundsInFlight &&
           (active.flights.empty() || !plan[active.next_step].fenced)) {
      active.flights.push_back(launch(active));
      ++active.next_step;
      moved = true;
    }
    *finished = active.flights.empty();
    if (*finished) break;
    Flight& oldest = active.flights.front();
    std::erase_if(oldest.tickets, [&](int64_t t) { return transport_->finished(t); });
    if (!oldest.tickets.empty()) return moved;
    if (oldest.round.then) oldest.round.then();
    active.flights.pop_front();
    moved = true;
  }
  active.job.log->set_state(active.job.record_id, CallState::done);
  active.work->finish(std::nullopt);
  return true;
}

Engine::Flight Engine::launch(const Active& active) {
  Flight flight{active.job.plan[active.next_step].make(), {}};
  const Route& route = *active.job.route;
  for (const Message& m : flight.round.receives)
    if (m.bytes > 0) flight.tickets.push_back(transport_->receive(route, m));
  for (const Message& m : flight.round.sends)
    if (m.bytes > 0) flight.tickets.push_back(transport_->send(route, m));
  return flight;
}

void Engine::fail_active() {
  std::optional<Error> error;
  {
    std::lock_guard lock(mutex_);
    if (!failure_)
      failure_ = Error(ErrorKind::internal, "a communicator ended with operations under way");
    error = failure_;
    for (Active& active : inbox_) queues_[active.job.route.get()].push_back(std::move(active));
    inbox_.clear();
  }
  for (auto& [route, queue] : queues_)
    for (Active& active : queue) {
      active.job.log->set_state(active.job.record_id, CallState::failed);
      active.work->finish(error);
      abandoned_.push_back(std::move(active));
    }
  queues_.clear();
}

// Between polls: yields at first, as a message is often about to arrive, then sleeps, which
// leave the core to those who compute. Without anything to poll for, until the next call.
void Engine::pause(bool moved) {
  idle_polls_ = moved ? 0 : idle_polls_ + 1;
  if (moved || queues_.empty()) return;
  if (!transport_->needs_polling()) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] {
      return stop_ || failure_.has_value() || !inbox_.empty() || !functions_.empty();
    });
  } else if (idle_polls_ < kYieldsBeforeSleep) {
    std::this_thread::yield();
  } else {
    const bool patient = idle_polls_ > kYieldsBeforeSleep + kShortSleeps;
    std::this_thread::sleep_for(patient ? kLongSleep : kShortSleep);
  }
}

}  // namespace weft::parallel
