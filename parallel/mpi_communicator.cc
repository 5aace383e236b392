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

constexpr std::chrono::milliseconds kSpeakAfterRankZero{400};

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
  }

  void close() override {
    if (!requests_.empty()) {  // finalising would wait for ranks that may never come
      log::error("[mpi] {} messages were under way when the run ended", requests_.size());
      MPI_Abort(MPI_COMM_WORLD, static_cast<int>(ErrorKind::internal));
    }
    MPI_Finalize();
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
  int64_t keep(const Pending& pending) {
    requests_.emplace(next_ticket_, pending);
    return next_ticket_++;
  }

  int rank_ = 0, size_ = 1;
  std::unordered_map<int64_t, Pending> requests_;
  int64_t next_ticket_ = 0;
};

// One message for one failure: when all ranks fail alike (a wrong config), rank 0 speaks and ends
// the others before their turn comes. SIGTERM, which mpirun sends then, must end them even if the
// run had a handler for it.
[[noreturn]] void abort_run(Engine& engine, int rank, int exit_code, const std::string& message) {
  if (rank > 0) {
    std::signal(SIGTERM, SIG_DFL);
    std::this_thread::sleep_for(kSpeakAfterRankZero);
  }
  log::error("{}", message);
  engine.call([exit_code] { MPI_Abort(MPI_COMM_WORLD, exit_code); });
  std::_Exit(exit_code);
}

}  // namespace

std::shared_ptr<Communicator> make_mpi_world() {
  auto transport = std::make_unique<MpiTransport>();
  const MpiTransport& mpi = *transport;
  auto engine = std::make_shared<Engine>(std::move(transport));
  const int rank = mpi.rank();
  return std::make_shared<HostCommunicator>(
      engine, rank, mpi.size(), [engine, rank](int exit_code, const std::string& message) {
        abort_run(*engine, rank, exit_code, message);
      });
}

}  // namespace weft::parallel
