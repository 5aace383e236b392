// Which algorithm cuBLASLt takes for a product: the table's, its own first guess, or the winner of
// a race.
#include "core/ops/product_algorithms.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "core/base/log.h"
#include "core/tensor/tensor.h"
#include "kernels/cuda/product.cuh"

namespace weft::ops::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{64} << 20;  // at most, of an algorithm
constexpr int kCandidates = 8;
constexpr int kRounds = 5;               // in which each candidate is timed once
constexpr float kClearlyFaster = 0.99f;  // of the time of one that the library likes better

// The parts of a split depth are summed in f32 and in order. The preference below asks for no
// other.
bool is_reproducible(const cublasLtMatmulAlgo_t& algorithm) {
  uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  size_t written = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(
      &algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &written);
  return status != CUBLAS_STATUS_SUCCESS || scheme == CUBLASLT_REDUCTION_SCHEME_NONE ||
         scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

// What the library would take with so much workspace, best guess first.
std::vector<AlgorithmChoice> guesses(Product& product, const ProductKind& kind,
                                     size_t most_workspace) {
  cublasLtMatmulPreferenceOpaque_t preference;
  check(cublasLtMatmulPreferenceInit(&preference), "describe a preference");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value),
          "take a preference");
  };
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{most_workspace});
  for (auto matrix :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(matrix, static_cast<uint32_t>(kind.alignment));
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      product.handle, &product.operation, &product.first, &product.second, product.added(),
      &product.out, &preference, kCandidates, results.data(), &found);
  std::vector<AlgorithmChoice> choices;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < found; ++i)
    if (results[i].state == CUBLAS_STATUS_SUCCESS && is_reproducible(results[i].algo))
      choices.push_back({results[i].algo, results[i].workspaceSize});
  return choices;
}

// A workspace of a few bytes is a counter by which blocks share out the tiles: cuBLASLt clears it
// with a launch of its own, 3 us before the product. An algorithm that the library lists without
// one too has no need of it.
class Counters {
 public:
  Counters(Product& product, const ProductKind& kind) : product_(product), kind_(kind) {}

  void drop(AlgorithmChoice& choice) {
    constexpr size_t kMostBytes = 256;
    if (choice.workspace_bytes == 0 || choice.workspace_bytes > kMostBytes) return;
    if (!without_) without_ = guesses(product_, kind_, 0);
    for (const AlgorithmChoice& other : *without_)
      if (std::memcmp(&other.algorithm, &choice.algorithm, sizeof choice.algorithm) == 0)
        choice.workspace_bytes = 0;
  }

 private:
  Product& product_;
  const ProductKind& kind_;
  std::optional<std::vector<AlgorithmChoice>> without_;
};

std::vector<AlgorithmChoice> candidates(Product& product, const ProductKind& kind) {
  std::vector<AlgorithmChoice> choices = guesses(product, kind, kWorkspaceBytes);
  Counters counters(product, kind);
  for (AlgorithmChoice& choice : choices) counters.drop(choice);
  return choices;
}

// An algorithm of the table, which was chosen for nearly the same sizes; false: it cannot do these.
bool take_from_table(Product& product, const ProductKind& kind, const ProductAlgorithm& words) {
  cublasLtMatmulAlgo_t algorithm;
  static_assert(sizeof algorithm == sizeof words);
  std::memcpy(&algorithm, words.data(), sizeof algorithm);
  for (auto matrix :
       {CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES, CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_C_BYTES, CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES}) {
    uint32_t needed = 0;
    size_t written = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoCapGetAttribute(&algorithm, matrix, &needed, sizeof needed, &written);
    if (status == CUBLAS_STATUS_SUCCESS && needed > static_cast<uint32_t>(kind.alignment))
      return false;
  }
  cublasLtMatmulHeuristicResult_t result{};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(product.handle, &product.operation, &product.first, &product.second,
                              product.added(), &product.out, &algorithm, &result);
  if (status != CUBLAS_STATUS_SUCCESS || result.workspaceSize > kWorkspaceBytes) return false;
  product.choice = {algorithm, result.workspaceSize};
  Counters(product, kind).drop(product.choice);
  return true;
}

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "making an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "recording an event"); }
  float milliseconds_until(const Event& end) const {
    float time = 0;
    check(cudaEventElapsedTime(&time, event_, end.event_), "timing");
    return time;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// Times the choices in turn, several rounds, each with nothing in the cache. Drops those that do
// not run. The operands' output is overwritten.
class Race {
 public:
  Race(Product& product, const ProductKey& key, const ProductOperands& operands,
       cudaStream_t stream)
      : product_(product),
        operands_(operands),
        stream_(stream),
        workspace_(Tensor::empty({static_cast<int64_t>(kWorkspaceBytes)}, DType::u8,
                                 {DeviceKind::cuda, key.gpu}, MemoryTag::workspace)) {
    describe_operation(operation_, key.kind, operands.bias);
  }

  AlgorithmChoice winner(std::vector<AlgorithmChoice> choices) {
    const AlgorithmChoice first = choices.front();
    std::erase_if(choices, [&](const AlgorithmChoice& choice) {  // this also loads its code
      return multiply(product_, &operation_, operands_, choice, workspace_.raw(), stream_) !=
             CUBLAS_STATUS_SUCCESS;
    });
    cudaGetLastError();  // of those
    if (choices.empty()) return first;
    std::vector<Event> begins(choices.size() * kRounds), ends(begins.size());
    for (size_t i = 0; i < begins.size(); ++i) run(choices[i % choices.size()], begins[i], ends[i]);
    check(cudaStreamSynchronize(stream_), "timing");
    AlgorithmChoice best = choices[0];
    float best_time = 0;
    for (size_t c = 0; c < choices.size(); ++c) {
      std::array<float, kRounds> times;
      for (size_t r = 0; r < kRounds; ++r) {
        const size_t i = r * choices.size() + c;
        times[r] = begins[i].milliseconds_until(ends[i]);
      }
      std::sort(times.begin(), times.end());
      const float median = times[kRounds / 2];
      if (c > 0 && median >= kClearlyFaster * best_time) continue;
      best = choices[c];
      best_time = median;
    }
    return best;
  }

 private:
  void run(const AlgorithmChoice& choice, Event& begin, Event& end) {
    // Empties the cache, and keeps the GPU busy until the product is queued.
    check(cudaMemsetAsync(workspace_.raw(), 0, kWorkspaceBytes, stream_), "timing");
    begin.record(stream_);
    check(multiply(product_, &operation_, operands_, choice, workspace_.raw(), stream_),
          "multiply");
    end.record(stream_);
  }

  Product& product_;
  ProductOperands operands_;
  cudaStream_t stream_;
  Tensor workspace_;
  cublasLtMatmulDescOpaque_t operation_;
};

// c is about to be overwritten and serves as the output; where it is added to, a scratch does.
AlgorithmChoice time_choices(Product& product, const ProductKey& key, ProductOperands operands,
                             const std::vector<AlgorithmChoice>& choices, cudaStream_t stream) {
  const ProductKind& p = key.kind;
  try {
    Tensor scratch;
    if (p.sum == ProductSum::accumulate) {
      scratch = Tensor::zeros({(p.m - 1) * key.ldc + p.n}, p.out, {DeviceKind::cuda, key.gpu},
                              MemoryTag::workspace);
      operands.out = scratch.raw();
      operands.added = operands.out;
    }
    return Race(product, key, operands, stream).winner(choices);
  } catch (const OutOfMemory&) {
    log::info(
        "a product of {} x {} x {} is not timed: there is no memory for it beside the run's own",
        p.m, p.n, p.k);
    return choices.front();
  } catch (const Error& error) {
    log::warn("a product of {} x {} x {} takes cuBLASLt's first guess, for it cannot be timed: {}",
              p.m, p.n, p.k, error.what());
    return choices.front();
  }
}

ProductAlgorithm words_of(const cublasLtMatmulAlgo_t& algorithm) {
  ProductAlgorithm words;
  std::memcpy(words.data(), &algorithm, sizeof algorithm);
  return words;
}

}  // namespace

void choose_algorithm(Product& product, const ProductKey& key, const ProductOperands& operands,
                      cudaStream_t stream) {
  const ProductKind& p = key.kind;
  const ProductKind table_kind = rounded(p);
  const std::optional<ProductAlgorithm> known = find_product_algorithm(table_kind);
  if (known && take_from_table(product, p, *known)) return;
  const std::vector<AlgorithmChoice> choices = candidates(product, p);
  product.refuses_bias = choices.empty() && p.bias;
  if (product.refuses_bias) return;
  if (choices.empty())
    fail(ErrorKind::unavailable, "[matmul] cuBLASLt has no algorithm for {} x {} x {} in {} to {}",
         p.m, p.n, p.k, name_of(p.in), name_of(p.out));
  product.choice = choices.front();
  if (known || !times_products()) return;
  product.choice = time_choices(product, key, operands, choices, stream);
  keep_product_algorithm(table_kind, words_of(product.choice.algorithm));
}

ProductLibrary product_library(int gpu) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, gpu), "asking for the GPU's name");
  return {properties.name, fmt::format("cublaslt {}", cublasLtGetVersion())};
}

}  // namespace weft::ops::cuda
