#include "parallel/units.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "core/ops/elementwise.h"
#include "parallel/boxes.h"

namespace weft::parallel {
namespace {

// Gradients that travel in another dtype are copies; as many of them are held at a time.
constexpr size_t kSumsUnderWay = 2;

MeshSizes data_only(int data) {
  MeshSizes sizes;
  sizes.data = data;
  return sizes;
}

// Elements of `part` (flat in the global tensor from `first`) by the parameter's Init.
void fill_part(const nn::Parameter& p, const Tensor& part, uint64_t seed, int64_t first) {
  switch (p.init.kind) {
    case nn::Init::Kind::zeros:
      return ops::fill(part, 0);
    case nn::Init::Kind::ones:
      return ops::fill(part, 1);
    case nn::Init::Kind::normal:
      return ops::fill_normal(part, {seed, p.name, first, 0, p.init.scale});
    case nn::Init::Kind::uniform:
      return ops::fill_uniform(part, {seed, p.name, first, -p.init.scale, p.init.scale});
  }
}

// Adds the gradients of the buffer's parameters that are `wanted` to `to`, neighbours as one range.
template <class Wanted>
void add_gradients(const FlatBuffer& buffer, const Tensor& grad, std::vector<Tensor>& to,
                   const Wanted& wanted) {
  int64_t begin = 0, end = 0;  // of the range that may go on
  const auto close = [&] {
    if (end > begin) to.push_back(grad.flat(begin, {end - begin}));
  };
  for (const FlatEntry& e : buffer.entries) {
    if (!wanted(*e.parameter)) continue;
    if (e.offset != end) {
      close();
      begin = e.offset;
    }
    end = e.offset + e.count;
  }
  close();
}

// Whether it was, and it is no longer.
bool end_stale(nn::Parameter& p) {
  return std::exchange(p.stale, false);
}

}  // namespace

Units::Units(std::vector<nn::Unit> units, std::shared_ptr<Communicator> data,
             const MeshSizes& sizes, int rank)
    : table_(std::move(units), sizes), rank_(rank), data_(std::move(data)) {
  CHECK(data_->size() == sizes.data, "a group of {} for {} data ranks", data_->size(), sizes.data);
  of_unit_.resize(table_.units().size());
  for (size_t b = 0; b < table_.buffers().size(); ++b) {
    of_unit_[table_.buffers()[b].unit].push_back(b);
    if (table_.buffers()[b].trainable) trainable_.push_back(b);
  }
}

Units::Units(std::vector<nn::Unit> units, const Mesh& mesh)
    : Units(std::move(units), mesh.group(nn::Axis::data), mesh.sizes(), mesh.rank()) {}

Units::Units(std::vector<nn::Unit> units, std::shared_ptr<Communicator> data)
    : Units(std::move(units), data, data_only(data->size()), data->rank()) {}

void Units::materialize(const UnitsOptions& options) {
  memory_.clear();
  summing_.clear();
  reduce_dtype_ = options.reduce_dtype;
  for (const FlatBuffer& buffer : table_.buffers()) {
    Memory memory;
    memory.value =
        Tensor::zeros({buffer.padded}, buffer.dtype, options.device, MemoryTag::parameter);
    if (buffer.trainable && options.gradients)
      memory.grad =
          Tensor::zeros({buffer.padded}, options.f32_gradients ? DType::f32 : buffer.dtype,
                        options.device, MemoryTag::gradient);
    for (const FlatEntry& e : buffer.entries) {
      e.parameter->value = memory.value.flat(e.offset, e.shape);
      e.parameter->grad = memory.grad.defined() ? memory.grad.flat(e.offset, e.shape) : Tensor();
    }
    memory_.push_back(std::move(memory));
  }
  begin_step();
}

void Units::begin_step() {
  ready_.assign(table_.units().size(), false);
  next_reduce_ = size() - 1;
}

void Units::init_random(uint64_t seed) {
  for (const FlatBuffer& buffer : table_.buffers())
    for (const FlatEntry& e : buffer.entries) {
      const nn::Parameter& p = *e.parameter;
      p.value.zero_();  // the padding too
      const Box held = partition_box(p, table_.sizes(), rank_);
      for (const CopyRun& run : copy_runs(whole(p.shape), held))
        fill_part(p, p.value.flat(run.destination, {run.count}), seed, run.source);
    }
}

Tensor Units::shard_of(const FlatBuffer& buffer, const Tensor& flat) const {
  const int64_t n = table_.shard_numel(buffer);
  return flat.flat(data_->rank() * n, {n});
}

void Units::gather(int unit) {
  for (size_t b : of_unit_[unit]) {
    memory_[b].publishing.wait();
    memory_[b].publishing = {};
    memory_[b].span.end();
  }
}

void Units::gather_all() {
  for (int unit = 0; unit < size(); ++unit) gather(unit);
}

void Units::release(int) {}  // stage 1: values stay

void Units::reduce(int unit) {
  CHECK(!ready_[unit], "unit {} reduced twice in a step", table_.units()[unit].name);
  ready_[unit] = true;
  start_ready();
}

void Units::start_ready() {
  const auto has_gradient = [&](size_t b) { return memory_[b].grad.defined(); };
  for (; next_reduce_ >= 0; --next_reduce_) {
    const std::vector<size_t>& buffers = of_unit_[next_reduce_];
    if (!ready_[next_reduce_] && std::any_of(buffers.begin(), buffers.end(), has_gradient)) return;
    end_spans();
    for (size_t b : buffers)
      if (has_gradient(b)) start_reduce(b);
  }
}

void Units::start_reduce(size_t b) {
  zero_stale_gradients(b);  // nothing was multiplied: this rank had no tokens
  Memory& memory = memory_[b];
  const FlatBuffer& buffer = table_.buffers()[b];
  const DType dtype = reduce_dtype_.value_or(memory.grad.dtype());
  Tensor sum = memory.grad;
  if (dtype != sum.dtype() && data_->size() > 1) {
    while (summing_.size() >= kSumsUnderWay) finish_reduce(summing_.front());
    sum = memory.sum = ops::cast(memory.grad, dtype, MemoryTag::communication);
    summing_.push_back(b);
  }
  const std::string& name = table_.units()[buffer.unit].name;
  if (data_->size() > 1) memory.span = {"reduce", name, data_->stream()};
  memory.reducing = data_->reduce_scatter(sum, shard_of(buffer, sum), name);
  memory.span.issued();
}

void Units::finish_reduce(size_t b) {
  Memory& memory = memory_[b];
  memory.reducing.wait();
  memory.reducing = {};
  memory.span.end();
  if (!memory.sum.defined()) return;
  const FlatBuffer& buffer = table_.buffers()[b];
  ops::cast(shard_of(buffer, memory.sum), shard_of(buffer, memory.grad));
  memory.sum = {};
  summing_.pop_front();  // they finish in order
}

// Threads do not say when they are done: asked now and then, while a trace is made.
void Units::end_spans() {
  if (!telemetry::tracing()) return;
  for (Memory& memory : memory_)
    if (memory.reducing.done()) memory.span.end();
}

void Units::finish_reduce() {
  ready_.assign(ready_.size(), true);
  start_ready();
  while (!summing_.empty()) finish_reduce(summing_.front());
  for (size_t b = memory_.size(); b-- > 0;) finish_reduce(b);  // as they started
}

void Units::publish() {
  for (size_t shard = 0; shard < trainable_.size(); ++shard) publish(shard);
}

void Units::publish(size_t shard) {
  const size_t b = trainable_[shard];
  const FlatBuffer& buffer = table_.buffers()[b];
  const Tensor& value = memory_[b].value;
  const std::string& name = table_.units()[buffer.unit].name;
  if (data_->size() > 1) memory_[b].span = {"publish", name, data_->stream()};
  memory_[b].publishing = data_->all_gather(shard_of(buffer, value), value, name);
  memory_[b].span.issued();
}

void Units::zero_gradients() {
  std::vector<Tensor> zeros;
  for (size_t b = 0; b < memory_.size(); ++b) {
    if (!memory_[b].grad.defined()) continue;
    add_gradients(table_.buffers()[b], memory_[b].grad, zeros, [](nn::Parameter& p) {
      p.stale = p.grad_is_product;
      return !p.stale;
    });
  }
  ops::zero(zeros);
  begin_step();
}

void Units::zero_stale_gradients() {
  std::vector<Tensor> zeros;
  for (size_t b = 0; b < memory_.size(); ++b)
    add_gradients(table_.buffers()[b], memory_[b].grad, zeros, end_stale);
  ops::zero(zeros);
}

void Units::zero_stale_gradients(size_t b) {
  std::vector<Tensor> zeros;
  add_gradients(table_.buffers()[b], memory_[b].grad, zeros, end_stale);
  ops::zero(zeros);
}

std::vector<nn::Shard> Units::shards() const {
  std::vector<nn::Shard> shards;
  for (size_t b = 0; b < memory_.size(); ++b) {
    const FlatBuffer& buffer = table_.buffers()[b];
    const Memory& memory = memory_[b];
    if (!buffer.trainable) continue;
    shards.push_back({table_.units()[buffer.unit].name, shard_of(buffer, memory.value),
                      memory.grad.defined() ? shard_of(buffer, memory.grad) : Tensor(),
                      table_.segments(buffer, data_->rank())});
  }
  return shards;
}

std::vector<nn::StatePiece> Units::value_pieces() const {
  std::vector<nn::StatePiece> pieces;
  for (const nn::Shard& shard : shards())
    for (const nn::Segment& s : shard.segments)
      pieces.push_back({"value", s, shard.value.flat(s.offset, {s.count})});
  return pieces;
}

void Units::check_replicas() {
  gather_all();
  std::vector<uint64_t> sums;
  for (const Memory& memory : memory_) {
    const Tensor value = memory.value.to({});
    sums.push_back(XXH3_64bits(value.raw(), value.bytes()));
  }
  const std::string mine(reinterpret_cast<const char*>(sums.data()), sums.size() * sizeof(sums[0]));
  const std::vector<std::string> all = data_->gather_bytes(mine, "check_replicas");
  for (size_t b = 0; b < sums.size(); ++b)
    for (int rank = 1; rank < data_->size(); ++rank) {
      const size_t at = b * sizeof(sums[0]);
      if (all[rank].compare(at, sizeof(sums[0]), all[0], at, sizeof(sums[0])) != 0)
        fail(ErrorKind::internal, "the values of unit {} on data ranks 0 and {} differ",
             table_.units()[table_.buffers()[b].unit].name, rank);
    }
}

}  // namespace weft::parallel
