// The progress thread of communicators in host memory. An operation is a plan: steps, each a round
// of messages and what follows once they have arrived (the sums). The engine keeps two rounds of an
// operation in flight, so that messages travel while sums are made, and works on the operations of
// different communicators side by side.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "parallel/call_log.h"
#include "parallel/communicator.h"

namespace weft::parallel {

struct Message {
  int peer = 0;  // rank in the group
  void* data = nullptr;
  size_t bytes = 0;
};

struct Round {
  std::vector<Message> sends, receives;
  std::function<void()> then;  // when all have arrived; rounds finish in order
};

struct Step {
  bool fenced = false;  // only after every earlier round has finished (else: all but the last one)
  std::function<Round()> make;
};
using Plan = std::vector<Step>;

// A group as the engine sees it. `channel` keeps its messages apart from those of other groups.
struct Route {
  std::vector<int> members;  // world ranks, by rank in the group
  int rank = 0;              // in the group
  int channel = 0;
};

// Moves bytes. Used on the engine's thread only.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual void open() {}   // on the engine's thread, first
  virtual void close() {}  // there, last
  // Messages of one pair and channel match in order.
  virtual int64_t send(const Route& route, const Message& message) = 0;
  virtual int64_t receive(const Route& route, const Message& message) = 0;
  // Asked again until it says true once. Throws when the message failed (its size differs, a peer
  // is gone).
  virtual bool finished(int64_t ticket) = 0;
  virtual bool needs_polling() const = 0;  // false: only new calls bring messages on
  // Between polls, and every 50 ms while there is nothing to poll for (where needs_polling).
  virtual void listen() {}
};

class Engine {
 public:
  explicit Engine(std::unique_ptr<Transport> transport);
  ~Engine();  // fails what is not finished
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  struct Job {
    std::shared_ptr<const Route> route;  // jobs of one route run in order
    Plan plan;
    std::shared_ptr<CallLog> log;
    uint64_t record_id = 0;
    Call call;  // keeps its tensors
  };
  Work submit(Job job);

  void call(std::function<void()> function);  // on the engine's thread; returns when it has run
  void fail_all(const Error& error);  // every job there is and will be; the first error stays

 private:
  class JobWork;
  struct Flight {
    Round round;
    std::vector<int64_t> tickets;
  };
  struct Active {
    Job job;
    std::shared_ptr<JobWork> work;
    size_t next_step = 0;
    std::deque<Flight> flights;
  };

  void loop();
  bool take_inbox();  // false: time to stop
  bool advance_all();
  bool advance(Active& active, bool* finished);
  Flight launch(const Active& active);
  void fail_active();
  void pause(bool moved);

  std::unique_ptr<Transport> transport_;
  std::mutex mutex_;  // of the inbox: what callers hand over
  std::condition_variable wake_;
  std::vector<Active> inbox_;
  std::vector<std::function<void()>> functions_;
  std::optional<Error> failure_;
  bool stop_ = false;
  // Of the engine's thread only.
  std::map<const Route*, std::deque<Active>> queues_;
  std::vector<Active> abandoned_;  // messages may still arrive in their tensors
  int idle_polls_ = 0;
  std::thread thread_;
};

}  // namespace weft::parallel
