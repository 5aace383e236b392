#include "parallel/thread_communicator.h"

#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>

#include "parallel/host_communicator.h"

namespace weft::parallel {
namespace {

// Ranks share memory: a message is a copy, made when both of its ends are known.
class ThreadTransport : public Transport {
 public:
  int64_t send(const Route& route, const Message& message) override {
    const int me = route.members[route.rank], peer = route.members[message.peer];
    return post(boxes_[{route.channel, me, peer}].sends, {route.channel, me, peer}, message);
  }
  int64_t receive(const Route& route, const Message& message) override {
    const int me = route.members[route.rank], peer = route.members[message.peer];
    return post(boxes_[{route.channel, peer, me}].receives, {route.channel, peer, me}, message);
  }
  bool finished(int64_t ticket) override {
    const auto error = errors_.find(ticket);
    if (error != errors_.end()) throw Error(ErrorKind::internal, error->second);
    return !waiting_.contains(ticket);
  }
  bool needs_polling() const override { return false; }

 private:
  using Key = std::tuple<int, int, int>;  // channel, from, to
  struct End {
    Message message;
    int64_t ticket;
  };
  struct MailBox {
    std::deque<End> sends, receives;
  };

  int64_t post(std::deque<End>& ends, const Key& key, const Message& message) {
    const int64_t ticket = next_ticket_++;
    waiting_.insert(ticket);
    ends.push_back({message, ticket});
    MailBox& box = boxes_[key];
    while (!box.sends.empty() && !box.receives.empty()) {
      deliver(key, box.sends.front(), box.receives.front());
      box.sends.pop_front();
      box.receives.pop_front();
    }
    return ticket;
  }

  void deliver(const Key& key, const End& from, const End& to) {
    if (from.message.bytes == to.message.bytes)
      std::memcpy(to.message.data, from.message.data, from.message.bytes);
    else
      errors_[to.ticket] = errors_[from.ticket] =
          fmt::format("[communicator] rank {} sent {} bytes where rank {} waits for {}",
                      std::get<1>(key), from.message.bytes, std::get<2>(key), to.message.bytes);
    waiting_.erase(from.ticket);
    waiting_.erase(to.ticket);
  }

  std::map<Key, MailBox> boxes_;
  std::set<int64_t> waiting_;
  std::map<int64_t, std::string> errors_;
  int64_t next_ticket_ = 0;
};

Error error_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    return Error(ErrorKind::internal, error.what());
  } catch (...) {
    return Error(ErrorKind::internal, "an unknown exception");
  }
}

}  // namespace

std::vector<std::shared_ptr<Communicator>> make_thread_world(int size) {
  auto engine = std::make_shared<Engine>(std::make_unique<ThreadTransport>());
  std::vector<std::shared_ptr<Communicator>> world;
  for (int rank = 0; rank < size; ++rank)
    world.push_back(std::make_shared<HostCommunicator>(
        engine, rank, size, [engine, rank](int exit_code, const std::string& message) {
          const ErrorKind kind = static_cast<ErrorKind>(exit_code);
          engine->fail_all(Error(kind, fmt::format("rank {} failed: {}", rank, message)));
          throw Error(kind, message);
        }));
  return world;
}

void run_ranks(int size, const std::function<void(Communicator&)>& body) {
  const std::vector<std::shared_ptr<Communicator>> world = make_thread_world(size);
  std::mutex mutex;
  std::exception_ptr first;
  const auto run = [&](int rank) {
    try {
      body(*world[rank]);
    } catch (...) {
      const std::exception_ptr exception = std::current_exception();
      {
        std::lock_guard lock(mutex);
        if (!first) first = exception;
      }
      try {
        const Error error = error_of(exception);
        world[rank]->abort(error.exit_code(), error.what());
      } catch (const Error&) {  // the others know
      }
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back(run, rank);
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace weft::parallel
