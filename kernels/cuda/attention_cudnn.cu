// Which calls cuDNN takes, and how a call becomes runs of its plans. Documents of one length are a
// dense batch; others are ragged: a plan is built for a bucket of sizes, and the lengths and starts
// of the documents are given to it, so that no work is spent across documents.
#include <mutex>
#include <set>

#include "core/base/log.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_cudnn_plan.h"

namespace weft::ops::cuda::cudnn {
namespace {

// A plan takes longer to build than it saves for fewer rows.
constexpr int64_t kLeastRows = 512;
constexpr int64_t kMaxDim = 128;  // cuDNN 9.14 computes wrong gradients of wider ragged heads
constexpr int64_t kTile = 128;    // rows; cuDNN pads lengths that are not a multiple
// The backward's workspace is quadratic in the length where it is deterministic. It runs over a
// part of the documents, or of the heads, at a time that needs about this share of the GPU's
// memory; where one document of one kv head needs more than kMostBytes, our own kernels are used.
constexpr int64_t kPartShare = 64;
constexpr int64_t kMostBytes = int64_t{4} << 30;

void log_once(const std::string& line) {
  static std::mutex mutex;
  static auto& written = *new std::set<std::string>;
  const std::lock_guard lock(mutex);
  if (written.insert(line).second) log::info("{}", line);
}

void log_choice(const AttentionArgs& args, const std::string& why_not) {
  const std::string what = fmt::format("{}, head_dim {}", name_of(args.dtype), args.shape.head_dim);
  if (why_not.empty())
    log_once(fmt::format("attention: cuDNN {} ({})", version(), what));
  else
    log_once(fmt::format("attention: own kernel ({}): {}", what, why_not));
}

bool all_aligned(const AttentionArgs& args, std::initializer_list<HeadsView> views) {
  return std::all_of(views.begin(), views.end(), [&](const HeadsView& view) {
    const int64_t row_bytes = view.row_stride * static_cast<int64_t>(size_of(args.dtype));
    return reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && row_bytes % 16 == 0;
  });
}

// One after the other, and each with all of its keys: none in a cache from an earlier call.
std::string why_not_documents(const std::vector<AttentionDocument>& documents) {
  int64_t rows = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    const AttentionDocument& d = documents[i];
    if (d.q_len != d.kv_len) return "keys of earlier calls";
    if (i > 0 && (d.q_begin != documents[i - 1].q_begin + documents[i - 1].q_len ||
                  d.kv_begin < documents[i - 1].kv_begin + documents[i - 1].kv_len))
      return "documents that do not follow one another";
    rows += d.q_len;
  }
  return rows < kLeastRows ? fmt::format("fewer than {} rows", kLeastRows) : "";
}

// The rule. Empty: cuDNN takes the call, unless it refuses the graph.
std::string why_not(const AttentionArgs& args, std::initializer_list<HeadsView> views) {
  if (args.dtype != DType::bf16 && args.dtype != DType::f16) return "cuDNN takes bf16 and f16";
  if (!why_unavailable().empty()) return why_unavailable();
  if (args.shape.head_dim % 8 != 0 || args.shape.head_dim > kMaxDim)
    return fmt::format("cuDNN takes a head_dim that is a multiple of 8 up to {}", kMaxDim);
  if (!all_aligned(args, views)) return "heads do not lie at multiples of 16 bytes";
  return why_not_documents(*args.documents);
}

// n or a little more, two values for each doubling past 4 * least: a plan may take a second to
// build, and other lists of documents should meet the same ones.
int64_t bucket(int64_t n, int64_t least) {
  int64_t step = least;
  while (step * 4 < n) step *= 2;
  return divide_up(n, step) * step;
}

// Documents of one length, equally far apart, whose rows of lse begin at multiples of 16 bytes.
bool is_dense(const std::vector<AttentionDocument>& documents) {
  const AttentionDocument& first = documents[0];
  if (first.q_len % kTile != 0 || first.q_begin % 4 != 0) return false;
  const AttentionDocument& second = documents[documents.size() > 1 ? 1 : 0];
  for (size_t i = 0; i < documents.size(); ++i) {
    const AttentionDocument& d = documents[i];
    const int64_t n = static_cast<int64_t>(i);
    if (d.q_len != first.q_len || d.q_begin != first.q_begin + n * first.q_len ||
        d.kv_begin != first.kv_begin + n * (second.kv_begin - first.kv_begin))
      return false;
  }
  return true;
}

// What one plan does: some documents, and the query heads of some kv heads.
struct Part {
  std::vector<AttentionDocument> documents;
  bool dense = false;
  int64_t batch = 0, length = 0;  // of the plan
  int64_t first_kv_head = 0, num_kv_heads = 0;
};

bool of_keys(size_t operand) {
  return operand == kK || operand == kV || operand == kDk || operand == kDv;
}

// The call as cuDNN sees it.
class Call {
 public:
  explicit Call(const AttentionArgs& args) : args_(args) {
    views_[kQ] = args.q;
    views_[kK] = args.k;
    views_[kV] = args.v;
    views_[kO] = args.o;
    lse_ = args.lse;
    if (lse_.defined()) return;
    // The plan is the same with and without: so are its bits.
    const AttentionDocument& last = args.documents->back();
    lse_ = Tensor::empty({last.q_begin + last.q_len, args.shape.num_heads}, DType::f32, args.device,
                         MemoryTag::workspace);
  }
  explicit Call(const AttentionBackwardArgs& args) : Call(args.forward) {
    backward_ = true;
    deterministic_ = args.deterministic;
    views_[kDout] = args.dout;
    views_[kDq] = args.dq;
    views_[kDk] = args.dk;
    views_[kDv] = args.dv;
  }

  // Empty: done, on the stream.
  std::string run(cudaStream_t stream);

 private:
  int64_t group() const { return args_.shape.num_heads / args_.shape.num_kv_heads; }
  size_t operands() const { return backward_ ? kOperands : kLse + 1; }
  int64_t part_bytes() const;
  int64_t workspace_estimate(int64_t batch, int64_t length, int64_t num_kv_heads) const;
  int64_t kv_heads_at_once(int64_t length) const;
  std::vector<Part> parts() const;
  void add_parts(std::vector<Part>& all, std::vector<AttentionDocument> documents, bool dense,
                 int64_t batch, int64_t length) const;
  bool starts_fit(const Part& part) const;
  OperandStrides strides(const Part& part, size_t operand) const;
  PlanKey key(const Part& part) const;
  KeptList starts(const Part& part, const PlanKey& key, cudaStream_t stream) const;
  Tensor lse_of(const Part& part, PlanOperands& operands, cudaStream_t stream);
  void run_part(const Part& part, const PlanKey& key, const Plan& plan, cudaStream_t stream);

  const AttentionArgs& args_;
  bool backward_ = false;
  bool deterministic_ = true;
  std::array<HeadsView, kOperands> views_;
  Tensor lse_;     // [rows, num_heads]
  Tensor packed_;  // dense backward: lse as [documents, num_heads, length]
};

// Bytes of the backward: scores' gradients in 16 bits where it is deterministic, else dq in f32;
// with several query heads to a kv head, dk and dv of each query head.
int64_t Call::workspace_estimate(int64_t batch, int64_t length, int64_t num_kv_heads) const {
  const int64_t row = (deterministic_ ? 2 * length : 4 * args_.shape.head_dim) +
                      (group() > 1 ? 4 * args_.shape.head_dim : 0);
  return batch * length * num_kv_heads * group() * row;
}

int64_t Call::part_bytes() const {
  return static_cast<int64_t>(device_memory::total_bytes(args_.device.index)) / kPartShare;
}

// The most that divide them all, so that plans are alike.
int64_t Call::kv_heads_at_once(int64_t length) const {
  const int64_t all = args_.shape.num_kv_heads;
  if (!backward_) return all;
  for (int64_t heads = all; heads > 1; --heads)
    if (all % heads == 0 && workspace_estimate(1, length, heads) <= part_bytes()) return heads;
  return 1;
}

void Call::add_parts(std::vector<Part>& all, std::vector<AttentionDocument> documents, bool dense,
                     int64_t batch, int64_t length) const {
  const int64_t heads = kv_heads_at_once(length);
  for (int64_t head = 0; head < args_.shape.num_kv_heads; head += heads)
    all.push_back({documents, dense, batch, length, head, heads});
}

// Forward: one. Backward: of as many documents as the workspace allows; ragged ones in the order of
// their lengths, so that what is padded is little, and each part's in the order of their rows.
std::vector<Part> Call::parts() const {
  std::vector<AttentionDocument> left = *args_.documents;
  const bool dense = is_dense(left);
  if (!dense)
    std::stable_sort(left.begin(), left.end(),
                     [](const auto& a, const auto& b) { return a.q_len > b.q_len; });
  std::vector<Part> all;
  for (auto from = left.begin(); from != left.end();) {
    const int64_t count = left.end() - from;
    const int64_t length = dense ? from->q_len : bucket(from->q_len, kTile);
    int64_t batch = dense ? count : bucket(count, 1), taken = count;
    if (backward_) {
      const int64_t one = workspace_estimate(1, length, args_.shape.num_kv_heads);
      const int64_t most = std::max<int64_t>(1, part_bytes() / one);  // 1: or some heads of it
      if (dense) {
        batch = taken = divide_up(count, divide_up(count, most));
      } else {
        while (taken > 1 && bucket(taken, 1) > most) --taken;
        batch = bucket(taken, 1);
      }
    }
    std::vector<AttentionDocument> documents(from, from + taken);
    std::sort(documents.begin(), documents.end(),
              [](const auto& a, const auto& b) { return a.q_begin < b.q_begin; });
    add_parts(all, std::move(documents), dense, batch, length);
    from += taken;
  }
  return all;
}

// In 32 bits, in which plans take them.
bool Call::starts_fit(const Part& part) const {
  const AttentionDocument& last = part.documents.back();
  for (size_t i = 0; i < operands(); ++i) {
    const int64_t rows = of_keys(i) ? last.kv_begin + last.kv_len : last.q_begin + last.q_len;
    if (rows * strides(part, i).row >= int64_t{1} << 31) return false;
  }
  return true;
}

OperandStrides Call::strides(const Part& part, size_t operand) const {
  const AttentionDocument& first = part.documents.front();
  const bool several = part.dense && part.documents.size() > 1;
  const int64_t rows =
      several && of_keys(operand) ? part.documents[1].kv_begin - first.kv_begin : part.length;
  if (operand != kLse) {
    const int64_t row = views_[operand].row_stride;
    return {rows * row, row, args_.shape.head_dim};
  }
  const int64_t heads = part.num_kv_heads * group();
  if (backward_ && part.dense) return {heads * part.length, 1, part.length};
  const int64_t row = backward_ ? heads : args_.shape.num_heads;
  return {rows * row, row, 1};
}

PlanKey Call::key(const Part& part) const {
  PlanKey key{.backward = backward_,
              .deterministic = !backward_ || deterministic_,
              .ragged = !part.dense,
              .dtype = args_.dtype,
              .batch = part.batch,
              .length = part.length,
              .num_heads = part.num_kv_heads * group(),
              .num_kv_heads = part.num_kv_heads,
              .head_dim = args_.shape.head_dim,
              .scale = args_.shape.scale,
              .strides = {},
              .gpu = args_.device.index};
  for (size_t i = 0; i < operands(); ++i) key.strides[i] = strides(part, i);
  return key;
}

// Indices of one of a ragged plan's lists, so that each begins at a multiple of 16 bytes.
int64_t room_for(int64_t batch) {
  return divide_up(batch + 1, 4) * 4;
}

// The lengths, then the starts of each operand. The documents that a plan has room for and that do
// not exist have no rows.
KeptList Call::starts(const Part& part, const PlanKey& plan, cudaStream_t stream) const {
  KeptLists::Key key =
      KeptLists::key_of(args_.device, KeptLists::cudnn_starts, {part.batch}, part.documents);
  for (size_t i = 0; i < operands(); ++i) key.push_back(plan.strides[i].row);
  return KeptLists::get(key, stream, [&] {
    const int64_t room = room_for(part.batch);
    std::vector<int32_t> list(static_cast<size_t>(room) * (1 + operands()));
    for (size_t d = 0; d < part.documents.size(); ++d)
      list[d] = static_cast<int32_t>(part.documents[d].q_len);
    for (size_t i = 0; i < operands(); ++i) {
      int32_t* to = list.data() + static_cast<size_t>(room) * (1 + i);
      for (size_t d = 0; d <= static_cast<size_t>(part.batch); ++d) {
        const bool is_there = d < part.documents.size();
        const AttentionDocument& document = is_there ? part.documents[d] : part.documents.back();
        const int64_t begin = of_keys(i) ? document.kv_begin : document.q_begin;
        const int64_t row = begin + (is_there ? 0 : document.q_len);
        to[d] = static_cast<int32_t>(row * plan.strides[i].row);
      }
    }
    return list;
  });
}

// packed[document, head, row] = lse[first + document * length + row, head].
__global__ void pack_lse_kernel(const float* lse, float* packed, int64_t heads, int64_t length,
                                int64_t count) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const int64_t head = i / length % heads, document = i / length / heads;
    packed[i] = lse[(document * length + i % length) * heads + head];
  }
}

// Sets the operand. The backward reads it densely packed: transposed where documents are dense, and
// where they are not, of the part's heads alone. What is returned must live until the plan has run.
Tensor Call::lse_of(const Part& part, PlanOperands& operands, cudaStream_t stream) {
  const int64_t all = args_.shape.num_heads, heads = part.num_kv_heads * group();
  const int64_t first_head = part.first_kv_head * group();
  const int64_t first_row = args_.documents->front().q_begin;
  float* lse = pointer<float>(lse_);
  if (!backward_ || (!part.dense && heads == all)) {
    operands.data[kLse] = lse + (part.dense ? part.documents.front().q_begin * all : 0);
    return lse_;
  }
  if (!part.dense) {
    const Tensor mine =
        Tensor::empty({lse_.dim(0), heads}, DType::f32, args_.device, MemoryTag::workspace);
    const size_t width = static_cast<size_t>(heads) * sizeof(float);
    check(cudaMemcpy2DAsync(mine.raw(), width, lse + first_head,
                            static_cast<size_t>(all) * sizeof(float), width,
                            static_cast<size_t>(lse_.dim(0)), cudaMemcpyDeviceToDevice, stream),
          "attention_backward");
    operands.data[kLse] = mine.raw();
    return mine;
  }
  if (!packed_.defined()) {
    const int64_t count = static_cast<int64_t>(args_.documents->size()) * all * part.length;
    packed_ = Tensor::empty({count}, DType::f32, args_.device, MemoryTag::workspace);
    pack_lse_kernel<<<blocks_for(count), kThreads, 0, stream>>>(
        lse + first_row * all, pointer<float>(packed_), all, part.length, count);
    check(cudaGetLastError(), "attention_backward");
  }
  // Some heads only are of one document.
  const int64_t rows_before = part.documents.front().q_begin - first_row;
  operands.data[kLse] = pointer<float>(packed_) + rows_before * all + first_head * part.length;
  return packed_;
}

void Call::run_part(const Part& part, const PlanKey& key, const Plan& plan, cudaStream_t stream) {
  PlanOperands operands;
  const AttentionDocument& first = part.documents.front();
  for (size_t i = 0; i < this->operands(); ++i) {
    const int64_t row = !part.dense ? 0 : of_keys(i) ? first.kv_begin : first.q_begin;
    const int64_t head = part.first_kv_head * (of_keys(i) ? 1 : group());
    const int64_t element = row * views_[i].row_stride + head * args_.shape.head_dim;
    operands.data[i] =
        static_cast<char*>(views_[i].data) + element * static_cast<int64_t>(size_of(args_.dtype));
  }
  const Tensor lse = lse_of(part, operands, stream);
  KeptList list;
  if (!part.dense) {
    list = starts(part, key, stream);
    operands.lengths = list.data<int32_t>();
    for (size_t i = 0; i < this->operands(); ++i)
      operands.starts[i] = operands.lengths + room_for(part.batch) * (1 + static_cast<int64_t>(i));
  }
  const Tensor workspace =
      Tensor::empty({plan.workspace_bytes()}, DType::u8, args_.device, MemoryTag::workspace);
  plan.execute(operands, workspace.raw());
}

std::string Call::run(cudaStream_t stream) {
  const std::vector<Part> parts = this->parts();
  std::vector<PlanKey> keys;
  std::vector<const Plan*> plans;
  for (const Part& part : parts) {
    if (backward_ && workspace_estimate(1, part.length, part.num_kv_heads) > kMostBytes)
      return fmt::format("the backward's workspace for a document of {} tokens", part.length);
    if (!part.dense && !starts_fit(part)) return "starts of documents past 2^31 elements";
    keys.push_back(key(part));
    const PlanOrReason& made = plan_for(keys.back());
    if (!made.plan) return made.why_not;
    plans.push_back(made.plan.get());
  }
  for (size_t i = 0; i < parts.size(); ++i) run_part(parts[i], keys[i], *plans[i], stream);
  return "";
}

}  // namespace

bool forward(const AttentionArgs& args, cudaStream_t stream) {
  std::string reason = why_not(args, {args.q, args.k, args.v, args.o});
  if (reason.empty()) reason = Call(args).run(stream);
  log_choice(args, reason);
  return reason.empty();
}

bool backward(const AttentionBackwardArgs& args, cudaStream_t stream) {
  const AttentionArgs& f = args.forward;
  std::string reason = why_not(f, {f.q, f.k, f.v, f.o, args.dout, args.dq, args.dk, args.dv});
  if (reason.empty()) reason = Call(args).run(stream);
  log_choice(f, reason);
  return reason.empty();
}

}  // namespace weft::ops::cuda::cudnn
