#include "parallel/nccl_communicator.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/tensor/device_memory.h"
#include "parallel/peers.h"
#include "parallel/watchdog.h"

namespace weft::parallel {
namespace {

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fail(ErrorKind::unavailable, "[nccl] {}: {} ({})", what, cudaGetErrorString(status),
       cudaGetErrorName(status));
}

std::string explain(ncclResult_t result, ncclComm_t comm) {
  const char* last = ncclGetLastError(comm);
  return fmt::format("{}{}{}", ncclGetErrorString(result), last && *last ? ": " : "",
                     last ? last : "");
}

void check_nccl(ncclResult_t result, ncclComm_t comm, const std::string& what) {
  if (result == ncclSuccess) return;
  fail(ErrorKind::unavailable, "[nccl] {}: {}. NCCL_DEBUG=WARN in the environment says more", what,
       explain(result, comm));
}

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::bf16:
      return ncclBfloat16;
    case DType::f16:
      return ncclFloat16;
    case DType::f64:
      return ncclFloat64;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
    case DType::u8:
      return ncclUint8;
  }
  return ncclUint8;
}

// An event that is not there yet is no error; the driver remembers it as one all the same.
bool reached(cudaEvent_t event) {
  const cudaError_t status = cudaEventQuery(event);
  if (status != cudaErrorNotReady) check_cuda(status, "a call on the GPU");
  if (status == cudaErrorNotReady) cudaGetLastError();
  return status == cudaSuccess;
}

// Events are made once and used again. Thread-safe.
class EventPool {
 public:
  EventPool() = default;
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;
  ~EventPool() {
    for (cudaEvent_t event : free_) cudaEventDestroy(event);
  }
  cudaEvent_t take() {
    const std::lock_guard lock(mutex_);
    cudaEvent_t event = nullptr;
    if (free_.empty()) {
      check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
    } else {
      event = free_.back();
      free_.pop_back();
    }
    return event;
  }
  void give(cudaEvent_t event) {
    const std::lock_guard lock(mutex_);
    free_.push_back(event);
  }

 private:
  std::mutex mutex_;
  std::vector<cudaEvent_t> free_;
};

// What the GPU is asked to do in one call: between two events. Its clock runs while the host hands
// it over (NCCL connects ranks in their first calls) and from when the stream comes to it.
class Flight : public Watchdog::Call {
 public:
  explicit Flight(std::shared_ptr<EventPool> pool)
      : pool_(std::move(pool)), begin_(pool_->take()), end_(pool_->take()) {}
  ~Flight() override {
    pool_->give(begin_);
    pool_->give(end_);
  }
  void begin(cudaStream_t stream) { check_cuda(cudaEventRecord(begin_, stream), "marking a call"); }
  void end(cudaStream_t stream) {
    check_cuda(cudaEventRecord(end_, stream), "marking a call");
    handed_over_ = true;
  }
  bool running() override { return !handed_over_ || reached(begin_); }
  bool finished() override { return handed_over_ && reached(end_); }
  cudaEvent_t event() const { return end_; }

 private:
  std::shared_ptr<EventPool> pool_;
  cudaEvent_t begin_, end_;
  std::atomic<bool> handed_over_ = false;
};

// What blocks the host: joining and leaving a group.
class Moment : public Watchdog::Call {
 public:
  void end() { over_ = true; }
  bool running() override { return true; }
  bool finished() override { return over_; }

 private:
  std::atomic<bool> over_ = false;
};

// Holds the call's tensors. Their memory is used again in the order of the compute stream, so that
// stream is put behind the call before they go.
class NcclWork : public Work::State {
 public:
  NcclWork(parallel::Call call, std::shared_ptr<Flight> flight, cudaStream_t compute)
      : call_(std::move(call)), flight_(std::move(flight)), compute_(compute) {}
  ~NcclWork() override {
    if (!waited_) cudaStreamWaitEvent(compute_, flight_->event(), 0);
  }
  void wait() override {
    if (!waited_)
      check_cuda(cudaStreamWaitEvent(compute_, flight_->event(), 0), "waiting for a call");
    waited_ = true;
  }
  bool done() const override { return flight_->finished(); }

 private:
  parallel::Call call_;
  std::shared_ptr<Flight> flight_;
  cudaStream_t compute_;
  bool waited_ = false;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<Communicator> host, Device device, const NcclOptions& options)
      : Communicator(host->rank(), host->size(), host->name(), host->shared_log()),
        host_(std::move(host)),
        device_(device),
        options_(options),
        events_(std::make_shared<EventPool>()) {
    if (size() == 1) return;
    use_gpu();
    int least = 0, greatest = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities");
    check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest),
               "making a stream");
    check_cuda(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming), "making an event");
    peers_ = std::make_unique<Peers>(*host_);
    watchdog_ = std::make_unique<Watchdog>(watchdog_options());
    join();
  }

  // Leaving takes all ranks. One that unwinds has its peers elsewhere, perhaps still reading from
  // this GPU: it leaves everything to the end of its process.
  ~NcclCommunicator() override {
    if (!comm_) return;
    const bool together = std::uncaught_exceptions() == 0 && leave();
    watchdog_.reset();
    if (!together) return;
    ncclCommDestroy(comm_);
    cudaEventDestroy(ready_);
    cudaStreamDestroy(stream_);
  }

  std::vector<std::string> gather_bytes(std::string_view bytes, std::string_view tag) override {
    return host_->gather_bytes(bytes, tag);
  }
  std::string broadcast_bytes(std::string_view bytes, int root, std::string_view tag) override {
    return host_->broadcast_bytes(bytes, root, tag);
  }
  void barrier(std::string_view tag) override { host_->barrier(tag); }
  void* stream() const override { return stream_; }
  std::shared_ptr<Communicator> split(int color, int key, const std::string& name) override {
    return make_nccl(host_->split(color, key, name), device_, options_);
  }
  [[noreturn]] void abort(int exit_code, const std::string& message) override {
    host_->abort(exit_code, message);
    throw Error(ErrorKind::internal, "[nccl] abort returned");
  }

 protected:
  Work start(Call call) override;

 private:
  void use_gpu() const { check_cuda(cudaSetDevice(device_.index), "choosing a GPU"); }
  cudaStream_t compute() const {
    return static_cast<cudaStream_t>(device_memory::stream(device_.index));
  }
  Watchdog::Options watchdog_options();
  template <class F>
  void guarded(const char* what, F&& f);  // the watchdog looks at what blocks this thread
  void join();
  bool leave() noexcept;
  void require_here(const Tensor& t) const;
  void issue(const Call& call);
  void exchange(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives,
                const Call& call);
  void check(ncclResult_t result, const Call& call) const {
    if (result != ncclSuccess) check_nccl(result, comm_, label(call));
  }
  static std::string label(const Call& call) {
    return fmt::format("{}{}{} (call {})", name_of(call.op), call.tag.empty() ? "" : " of ",
                       call.tag, call.sequence);
  }

  std::shared_ptr<Communicator> host_;
  Device device_;
  NcclOptions options_;
  std::shared_ptr<EventPool> events_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t ready_ = nullptr;
  ncclComm_t comm_ = nullptr;
  std::atomic<ncclComm_t> joined_ = nullptr;  // comm_ while the watchdog may ask it
  std::unique_ptr<Peers> peers_;
  std::unique_ptr<Watchdog> watchdog_;  // goes first: it asks the members above
};

Watchdog::Options NcclCommunicator::watchdog_options() {
  Watchdog::Options options;
  options.who = fmt::format("[nccl] rank {} of {}", rank(), size());
  options.limit_seconds = options_.timeout_seconds;
  options.log = shared_log();
  options.begin_thread = [this] {
    cudaSetDevice(device_.index);
    // Its questions are harmless to a graph that another thread captures.
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaThreadExchangeStreamCaptureMode(&mode);
  };
  options.broken = [this]() -> std::string {
    ncclResult_t result = ncclSuccess;
    const ncclComm_t comm = joined_;
    if (!comm) return "";
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &result);
    if (asked != ncclSuccess) result = asked;
    return result == ncclSuccess || result == ncclInProgress ? "" : explain(result, comm);
  };
  options.gone = [this] { return peers_->gone(); };
  // The calls on the GPU end with the process: ncclCommAbort may wait for a thread that is stuck.
  options.end_run = [this](const std::string& message) {
    const std::string stopped = peers_->stopped();
    host_->abort(static_cast<int>(ErrorKind::unavailable),
                 stopped.empty() ? message : message + ". On this host " + stopped);
  };
  return options;
}

template <class F>
void NcclCommunicator::guarded(const char* what, F&& f) {
  CallRecord record;
  record.group = fmt::format("{} {}/{}", name(), rank(), size());
  record.op = what;
  const auto moment = std::make_shared<Moment>();
  watchdog_->watch(moment, shared_log()->add(std::move(record)), what);
  f();
  moment->end();
}

void NcclCommunicator::join() {
  ncclUniqueId id{};
  if (rank() == 0) check_nccl(ncclGetUniqueId(&id), nullptr, "making the group's id");
  const std::string bytes = host_->broadcast_bytes({id.internal, sizeof id.internal}, 0, "nccl id");
  CHECK(bytes.size() == sizeof id.internal, "an id of {} bytes", bytes.size());
  std::memcpy(id.internal, bytes.data(), bytes.size());

  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 1;
  guarded("joining the group", [&] {
    check_nccl(
        ncclCommInitRankConfig(&comm_, size(), id, rank(), &config), nullptr,
        fmt::format("rank {} of {} on {} joins the group", rank(), size(), to_string(device_)));
  });
  joined_ = comm_;
  int version = 0;
  ncclGetVersion(&version);
  log::debug("[nccl] version {}, group {} of {} ranks", version, name(), size());
}

bool NcclCommunicator::leave() noexcept {
  try {
    use_gpu();
    joined_ = nullptr;
    guarded("leaving the group", [&] {
      check_cuda(cudaStreamSynchronize(stream_), "finishing");
      check_nccl(ncclCommFinalize(comm_), comm_, "leaving the group");
    });
    return true;
  } catch (const std::exception& error) {
    log::warn("{}", error.what());
    return false;
  }
}

void NcclCommunicator::require_here(const Tensor& t) const {
  if (t.defined() && !(t.device() == device_))
    fail(ErrorKind::internal, "[nccl] a tensor on {} in a group whose rank {} is on {}",
         to_string(t.device()), rank(), to_string(device_));
}

Work NcclCommunicator::start(Call call) {
  size_t bytes = call.input.defined() ? call.input.bytes() + call.output.bytes() : 0;
  require_here(call.input);
  require_here(call.output);
  for (const auto* list : {&call.sends, &call.receives})
    for (const Transfer& t : *list) {
      require_here(t.tensor);
      bytes += t.tensor.bytes();
    }
  if (bytes == 0) {
    shared_log()->set_state(call.record_id, CallState::done);
    return {};
  }
  use_gpu();
  const auto flight = std::make_shared<Flight>(events_);
  watchdog_->watch(flight, call.record_id, label(call));
  check_cuda(cudaEventRecord(ready_, compute()), "marking the compute stream");
  check_cuda(cudaStreamWaitEvent(stream_, ready_, 0), "waiting for the compute stream");
  flight->begin(stream_);
  issue(call);
  flight->end(stream_);
  return Work(std::make_shared<NcclWork>(std::move(call), flight, compute()));
}

void NcclCommunicator::issue(const Call& call) {
  const Tensor &in = call.input, &out = call.output;
  switch (call.op) {
    case CallOp::all_reduce:
      return check(
          ncclAllReduce(in.raw(), out.raw(), static_cast<size_t>(in.numel()), nccl_type(in.dtype()),
                        call.reduce == Reduce::sum ? ncclSum : ncclMax, comm_, stream_),
          call);
    case CallOp::reduce_scatter:
      return check(ncclReduceScatter(in.raw(), out.raw(), static_cast<size_t>(out.numel()),
                                     nccl_type(in.dtype()), ncclSum, comm_, stream_),
                   call);
    case CallOp::all_gather:
      return check(ncclAllGather(in.raw(), out.raw(), in.bytes(), ncclUint8, comm_, stream_), call);
    case CallOp::broadcast:
      return check(
          ncclBroadcast(in.raw(), out.raw(), in.bytes(), ncclUint8, call.root, comm_, stream_),
          call);
    case CallOp::all_to_all: {
      std::vector<Transfer> sends, receives;
      const int64_t n = in.numel() / size();
      for (int peer = 0; peer < size(); ++peer) {
        sends.push_back({peer, in.flat(peer * n, {n})});
        receives.push_back({peer, out.flat(peer * n, {n})});
      }
      return exchange(sends, receives, call);
    }
    case CallOp::send_receive:
      return exchange(call.sends, call.receives, call);
    case CallOp::barrier:
      CHECK(false, "a barrier is the host's");
  }
}

// One group: NCCL moves all of it together, and matches the messages of a pair in order.
void NcclCommunicator::exchange(const std::vector<Transfer>& sends,
                                const std::vector<Transfer>& receives, const Call& call) {
  check(ncclGroupStart(), call);
  for (const Transfer& t : sends)
    if (t.tensor.bytes() > 0)
      check(ncclSend(t.tensor.raw(), t.tensor.bytes(), ncclUint8, t.peer, comm_, stream_), call);
  for (const Transfer& t : receives)
    if (t.tensor.bytes() > 0)
      check(ncclRecv(t.tensor.raw(), t.tensor.bytes(), ncclUint8, t.peer, comm_, stream_), call);
  check(ncclGroupEnd(), call);
}

}  // namespace

std::shared_ptr<Communicator> make_nccl(std::shared_ptr<Communicator> host, Device device,
                                        const NcclOptions& options) {
  CHECK(!device.is_cpu(), "NCCL on {}", to_string(device));
  return std::make_shared<NcclCommunicator>(std::move(host), device, options);
}

}  // namespace weft::parallel
