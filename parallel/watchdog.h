// Ends a run that stands still. A thread looks at the calls of one communicator that end by
// themselves (on a GPU's stream, say) and keeps their states in the log; a call that is not over in
// time ends the run with a message that names it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "parallel/call_log.h"

namespace weft::parallel {

class Watchdog {
 public:
  // A call under way, as the watchdog's thread sees it.
  class Call {
   public:
    virtual ~Call() = default;
    virtual bool running() = 0;  // its turn has come: its clock runs
    virtual bool finished() = 0;
  };
  // What it needs to know; the functions are called on its thread.
  struct Options {
    std::string who;                      // "[nccl] rank 1 of 4"
    double limit_seconds = 50;            // for which a call may run
    double patience_seconds = 5;          // the same, once a rank is known to be gone
    std::shared_ptr<CallLog> log;         // its last lines are shown before the run ends
    std::function<void()> begin_thread;   // first
    std::function<std::string()> broken;  // what is wrong with the group; empty: nothing known
    std::function<std::string()> gone;    // "rank 2 (process 7) is gone"; empty: nothing known
    std::function<void(const std::string& message)> end_run;  // once; may not return
  };
  explicit Watchdog(Options options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Calls run in the order in which they are handed over. `name`: "reduce_scatter of layer 3".
  void watch(std::shared_ptr<Call> call, uint64_t record_id, std::string name);

 private:
  struct Watched {
    std::shared_ptr<Call> call;
    uint64_t record_id = 0;
    std::string name;
    bool running = false;
    double seconds = 0;  // for which it has been seen running
  };
  void loop();
  bool look(double seconds);  // since the last look; false: the run has been ended
  bool judge(Watched& oldest, double seconds);
  bool end(const Watched& call, const std::string& why);
  void mention_stop(const Watched& call);

  Options options_;
  bool stop_mentioned_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Watched> calls_;  // the first is touched by the thread only, the list under the mutex
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace weft::parallel
