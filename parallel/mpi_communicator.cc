#include "parallel/mpi_communicator.h"

#define OMPI_SKIP_MPICXX 1  // the C interface only
#include <mpi.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <unordered_map>

#include "core/base/log.h"
#include "parallel/host_communicator.h"

namespace weft::parallel {
namespace {

// How long a failed rank leaves it to rank 0 to end the run: Open MPI may need several seconds.
constexpr std::chrono::seconds kPatience{20};

// What a failed rank tells rank 0.
struct Obituary {
  int32_t exit_code = 0;
  char message[4092] = "";  // ends with 0
};

void check_mpi(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail(ErrorKind::unavailable, "[mpi] {}: {}", what, std::string(text, length));
}

class MpiTransport : public Transport {
 public:
  void open() override {
    int initialized = 0, provided = 0;
    MPI_Initialized(&initialized);
    if (initialized) fail(ErrorKind::internal, "[mpi] MPI cannot be started twice in a process");
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "starting MPI");
    if (provided < MPI_THREAD_FUNNELED)
      fail(ErrorKind::unavailable, "[mpi] this MPI knows no threads (level {})", provided);
    check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "error handler");
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "rank");
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "size");
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &failures_), "a communicator for failures");
    if (rank_ == 0)
      check_mpi(
          MPI_Irecv(&heard_, sizeof heard_, MPI_BYTE, MPI_ANY_SOURCE, 0, failures_, &hearing_),
          "listening for failures");
  }

  void close() override {
    if (!requests_.empty()) {  // finalising would wait for ranks that may never come
      log::error("[mpi] {} messages were under way when the run ended", requests_.size());
      MPI_Abort(MPI_COMM_WORLD, static_cast<int>(ErrorKind::internal));
    }
    if (hearing_ != MPI_REQUEST_NULL) {
      MPI_Cancel(&hearing_);
      MPI_Wait(&hearing_, MPI_STATUS_IGNORE);
    }
    MPI_Finalize();
  }

  // Rank 0 speaks for a rank that failed and ends the run.
  void listen() override {
    if (hearing_ == MPI_REQUEST_NULL) return;
    int heard = 0;
    MPI_Status status;
    check_mpi(MPI_Test(&hearing_, &heard, &status), "listening for failures");
    if (heard) end_run(status.MPI_SOURCE, heard_);
  }

  // One message for a failure, whoever and however many fail: rank 0's engine thread prints the
  // first that it knows of and never returns. Another rank tells rank 0, waits to be stopped, and
  // speaks itself only where rank 0 cannot.
  void fail_run(int exit_code, const std::string& message) {
    Obituary mine{.exit_code = exit_code};
    message.copy(mine.message, sizeof mine.message - 1);
    if (rank_ > 0) {
      MPI_Request told;
      MPI_Isend(&mine, sizeof mine, MPI_BYTE, 0, 0, failures_, &told);
      const auto until = std::chrono::steady_clock::now() + kPatience;
      for (int done = 0; std::chrono::steady_clock::now() < until;) {
        MPI_Test(&told, &done, MPI_STATUS_IGNORE);
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
      }
    }
    end_run(rank_, mine);
  }

  int64_t send(const Route& route, const Message& message) override {
    Pending pending{.route = &route, .message = message, .receives = false};
    check_mpi(
        MPI_Isend(message.data, static_cast<int>(message.bytes), MPI_BYTE,
                  route.members[message.peer], route.channel, MPI_COMM_WORLD, &pending.request),
        "sending");
    return keep(pending);
  }

  int64_t receive(const Route& route, const Message& message) override {
    Pending pending{.route = &route, .message = message, .receives = true};
    check_mpi(
        MPI_Irecv(message.data, static_cast<int>(message.bytes), MPI_BYTE,
                  route.members[message.peer], route.channel, MPI_COMM_WORLD, &pending.request),
        "receiving");
    return keep(pending);
  }

  bool finished(int64_t ticket) override {
    Pending& pending = requests_.at(ticket);
    int done = 0, bytes = 0;
    MPI_Status status;
    check_mpi(MPI_Test(&pending.request, &done, &status), "moving a message");
    if (!done) return false;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    if (pending.receives && static_cast<size_t>(bytes) != pending.message.bytes)
      fail(ErrorKind::internal, "[communicator] rank {} sent {} bytes where rank {} waits for {}",
           pending.message.peer, bytes, pending.route->rank, pending.message.bytes);
    requests_.erase(ticket);
    return true;
  }

  bool needs_polling() const override { return true; }
  int rank() const { return rank_; }
  int size() const { return size_; }

 private:
  struct Pending {
    const Route* route;
    Message message;
    bool receives;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  [[noreturn]] static void end_run(int rank, const Obituary& failure) {
    log::error_of(rank, failure.message);
    MPI_Abort(MPI_COMM_WORLD, failure.exit_code);
    std::_Exit(failure.exit_code);
  }
  int64_t keep(const Pending& pending) {
    requests_.emplace(next_ticket_, pending);
    return next_ticket_++;
  }

  int rank_ = 0, size_ = 1;
  std::unordered_map<int64_t, Pending> requests_;
  int64_t next_ticket_ = 0;
  MPI_Comm failures_ = MPI_COMM_NULL;
  MPI_Request hearing_ = MPI_REQUEST_NULL;  // of rank 0
  Obituary heard_;
};

}  // namespace

std::shared_ptr<Communicator> make_mpi_world() {
  auto transport = std::make_unique<MpiTransport>();
  MpiTransport* mpi = transport.get();  // lives as long as the engine
  auto engine = std::make_shared<Engine>(std::move(transport));
  return std::make_shared<HostCommunicator>(
      engine, mpi->rank(), mpi->size(), [engine, mpi](int exit_code, const std::string& message) {
        // mpirun ends the ranks by SIGTERM, for which the run may have had a handler.
        std::signal(SIGTERM, SIG_DFL);
        engine->call([&] { mpi->fail_run(exit_code, message); });
      });
}

}  // namespace weft::parallel
