#include "parallel/communicator.h"

#include <cstring>

namespace weft::parallel {
namespace {

bool sums(DType dtype) {
  return dtype != DType::u8;
}

Tensor bytes_tensor(size_t bytes) {
  return Tensor::empty({static_cast<int64_t>(bytes)}, DType::u8, {}, MemoryTag::communication);
}

Tensor bytes_tensor(std::string_view bytes) {
  Tensor t = bytes_tensor(bytes.size());
  if (!bytes.empty()) std::memcpy(t.raw(), bytes.data(), bytes.size());
  return t;
}

std::string to_bytes(const Tensor& t) {
  return {static_cast<const char*>(t.raw()), t.bytes()};
}

// What a call means in a group of one.
void copy_to_self(const Call& call) {
  if (call.output.defined() && call.input.raw() != call.output.raw())
    call.output.copy_from(call.input);
  for (size_t i = 0; i < call.receives.size(); ++i)
    call.receives[i].tensor.copy_from(call.sends[i].tensor);
}

}  // namespace

const char* name_of(CallOp op) {
  static constexpr const char* kNames[] = {"all_reduce", "reduce_scatter", "all_gather",
                                           "all_to_all", "broadcast",      "send_receive",
                                           "barrier"};
  return kNames[static_cast<int>(op)];
}

std::string describe(const Call& call) {
  const auto piece = [](const Tensor& t) {
    return fmt::format("{}{}", name_of(t.dtype()), t.shape().to_string());
  };
  std::string text = call.input.defined() ? piece(call.input) : "";
  if (call.output.defined() && call.output.numel() != call.input.numel())
    text += " -> " + piece(call.output);
  if (call.op == CallOp::all_reduce) text += call.reduce == Reduce::sum ? " sum" : " max";
  if (call.op == CallOp::broadcast) text += fmt::format(" from {}", call.root);
  for (const Transfer& t : call.sends) text += fmt::format(" {} to {}", piece(t.tensor), t.peer);
  for (const Transfer& t : call.receives)
    text += fmt::format(" {} from {}", piece(t.tensor), t.peer);
  return text;
}

Work Communicator::submit(Call call, std::string_view tag) {
  call.sequence = sequence_++;
  CallRecord record;
  record.group = fmt::format("{} {}/{}", name_, rank_, size_);
  record.sequence = call.sequence;
  record.op = name_of(call.op);
  record.tag = tag;
  call.tag = tag;
  record.what = describe(call);
  call.record_id = log_->add(std::move(record));
  if (size_ > 1) return start(std::move(call));
  copy_to_self(call);
  log_->set_state(call.record_id, CallState::done);
  return {};
}

Work Communicator::all_reduce(const Tensor& x, Reduce reduce, std::string_view tag) {
  CHECK(sums(x.dtype()), "[all_reduce] {} tensor", name_of(x.dtype()));
  return submit({.op = CallOp::all_reduce, .reduce = reduce, .input = x, .output = x}, tag);
}

Work Communicator::reduce_scatter(const Tensor& input, const Tensor& output, std::string_view tag) {
  CHECK(sums(input.dtype()), "[reduce_scatter] {} tensor", name_of(input.dtype()));
  CHECK(input.dtype() == output.dtype() && input.numel() == output.numel() * size_,
        "[reduce_scatter] {} elements to {} on each of {} ranks", input.numel(), output.numel(),
        size_);
  return submit({.op = CallOp::reduce_scatter, .input = input, .output = output}, tag);
}

Work Communicator::all_gather(const Tensor& input, const Tensor& output, std::string_view tag) {
  CHECK(input.dtype() == output.dtype() && output.numel() == input.numel() * size_,
        "[all_gather] {} elements of each of {} ranks to {}", input.numel(), size_, output.numel());
  return submit({.op = CallOp::all_gather, .input = input, .output = output}, tag);
}

Work Communicator::all_to_all(const Tensor& input, const Tensor& output, std::string_view tag) {
  CHECK(input.dtype() == output.dtype() && input.numel() == output.numel() &&
            input.numel() % size_ == 0,
        "[all_to_all] {} elements to {} over {} ranks", input.numel(), output.numel(), size_);
  return submit({.op = CallOp::all_to_all, .input = input, .output = output}, tag);
}

Work Communicator::broadcast(const Tensor& x, int root, std::string_view tag) {
  CHECK(0 <= root && root < size_, "[broadcast] root {} of {} ranks", root, size_);
  return submit({.op = CallOp::broadcast, .input = x, .output = x, .root = root}, tag);
}

Work Communicator::send_receive(std::vector<Transfer> sends, std::vector<Transfer> receives,
                                std::string_view tag) {
  for (const auto* list : {&sends, &receives})
    for (const Transfer& t : *list)
      CHECK(0 <= t.peer && t.peer < size_, "[send_receive] peer {} of {} ranks", t.peer, size_);
  CHECK(size_ > 1 || sends.size() == receives.size(), "[send_receive] to itself: {} sent, {} due",
        sends.size(), receives.size());
  Call call{.op = CallOp::send_receive};
  call.sends = std::move(sends);
  call.receives = std::move(receives);
  return submit(std::move(call), tag);
}

std::vector<std::string> Communicator::gather_bytes(std::string_view bytes, std::string_view tag) {
  const Tensor size = Tensor::empty({1}, DType::i64);
  const Tensor sizes = Tensor::empty({size_}, DType::i64);
  *size.data<int64_t>() = static_cast<int64_t>(bytes.size());
  all_gather(size, sizes, tag).wait();

  const Tensor mine = bytes_tensor(bytes);
  std::vector<Transfer> sends, receives;
  std::vector<Tensor> parts;
  for (int peer = 0; peer < size_; ++peer) {
    parts.push_back(peer == rank_ ? mine : bytes_tensor(sizes.data<int64_t>()[peer]));
    if (peer == rank_) continue;
    if (!bytes.empty()) sends.push_back({peer, mine});
    if (parts.back().numel() > 0) receives.push_back({peer, parts.back()});
  }
  send_receive(std::move(sends), std::move(receives), tag).wait();
  std::vector<std::string> all;
  for (const Tensor& part : parts) all.push_back(to_bytes(part));
  return all;
}

std::string Communicator::broadcast_bytes(std::string_view bytes, int root, std::string_view tag) {
  const Tensor size = Tensor::empty({1}, DType::i64);
  *size.data<int64_t>() = static_cast<int64_t>(bytes.size());
  broadcast(size, root, tag).wait();
  const Tensor payload = rank_ == root ? bytes_tensor(bytes) : bytes_tensor(*size.data<int64_t>());
  broadcast(payload, root, tag).wait();
  return to_bytes(payload);
}

void Communicator::barrier(std::string_view tag) {
  submit({.op = CallOp::barrier}, tag).wait();
}

}  // namespace weft::parallel
