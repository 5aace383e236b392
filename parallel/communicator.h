// Ranks that work together. Collectives are called by every rank of the group in the same order; a
// call whose op, size, dtype or tag differs between ranks is an error on all of them.
//
// Every tensor operation is asynchronous: it returns a Work at once, holds its tensors, and must be
// waited for before its outputs are read or its inputs written. Calls of one communicator run in
// order; those of two communicators run independently of each other. One thread of a rank uses a
// communicator at a time.
//
// Sums are deterministic: in rank order, in f32 (f64 for f64, i64 for integers), rounded once to
// the storage dtype, the same bits on every rank; NCCL's have an order of their own, see make_nccl.
// In a group of one an operation is at most a copy.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor/tensor.h"
#include "parallel/call.h"
#include "parallel/call_log.h"

namespace weft::parallel {

// An operation under way. Default-made: finished. Copies refer to the same operation.
class Work {
 public:
  class State {
   public:
    virtual ~State() = default;
    virtual void wait() = 0;
    virtual bool done() const = 0;
  };
  Work() = default;
  explicit Work(std::shared_ptr<State> state) : state_(std::move(state)) {}
  // Throws what ended the operation: its own Error, or that another rank failed.
  void wait() const {
    if (state_) state_->wait();
  }
  bool done() const { return !state_ || state_->done(); }  // finished, or failed

 private:
  std::shared_ptr<State> state_;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }
  // cudaStream_t on which its calls run, one after the other; null: threads make them.
  virtual void* stream() const { return nullptr; }

  // Tensors are of any dtype, but not u8 where sums are made; their shapes do not matter, numel
  // does. `tag` says in the log what the call is for.
  Work all_reduce(const Tensor& x, Reduce reduce, std::string_view tag = "");  // in place
  // input [size * n], output [n]; the output may be this rank's n elements of the input.
  Work reduce_scatter(const Tensor& input, const Tensor& output, std::string_view tag = "");
  // input [n], output [size * n]; the input may be this rank's n elements of the output.
  Work all_gather(const Tensor& input, const Tensor& output, std::string_view tag = "");
  // input and output [size * n], distinct: part p of the input goes to rank p, which has it at part
  // `rank`.
  Work all_to_all(const Tensor& input, const Tensor& output, std::string_view tag = "");
  Work broadcast(const Tensor& x, int root, std::string_view tag = "");  // in place
  // Sends and receives of one call progress together; a pair's messages match in order. Not
  // collective.
  Work send_receive(std::vector<Transfer> sends, std::vector<Transfer> receives,
                    std::string_view tag = "");

  // Blocking, for small things, in host memory.
  virtual std::vector<std::string> gather_bytes(std::string_view bytes, std::string_view tag = "");
  virtual std::string broadcast_bytes(std::string_view bytes, int root, std::string_view tag = "");
  virtual void barrier(std::string_view tag = "");

  // Collective: ranks with the same color make a group, ordered by (key, rank). Blocking.
  virtual std::shared_ptr<Communicator> split(int color, int key, const std::string& name) = 0;
  // Ends the run on all ranks: prints one message and stops the processes with the exit code (MPI),
  // or fails every other rank's calls and throws (threads). For launch/ and run_ranks only: library
  // code throws.
  [[noreturn]] virtual void abort(int exit_code, const std::string& message) = 0;

  const CallLog& log() const { return *log_; }  // of all communicators made from one world
  const std::shared_ptr<CallLog>& shared_log() const { return log_; }

 protected:
  Communicator(int rank, int size, std::string name, std::shared_ptr<CallLog> log)
      : rank_(rank), size_(size), name_(std::move(name)), log_(std::move(log)) {}
  virtual Work start(Call call) = 0;  // size > 1

 private:
  Work submit(Call call, std::string_view tag);

  int rank_, size_;
  std::string name_;
  std::shared_ptr<CallLog> log_;
  uint64_t sequence_ = 0;
};

}  // namespace weft::parallel
