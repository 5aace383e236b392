#include "core/data/loader.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "core/base/error.h"
#include "core/data/batch.h"
#include "core/data/plan.h"

namespace weft::data {
namespace {

constexpr size_t kStepsAhead = 2;

void check_layout(const PlanOptions& plan, const LoaderLayout& layout) {
  const int64_t rows = layout.size * layout.micro_batch;
  if (plan.global_batch >= rows && plan.global_batch % rows == 0) return;
  const int64_t below = plan.global_batch / rows * rows;
  fail(ErrorKind::usage,
       "train.global_batch = {} is not a multiple of {} ranks x micro_batch {}: use {}{}, or "
       "another "
       "micro_batch",
       plan.global_batch, layout.size, layout.micro_batch,
       below > 0 ? std::to_string(below) + " or " : "", below + rows);
}

}  // namespace

class Loader::Impl {
 public:
  Impl(std::shared_ptr<const Dataset> dataset, const PlanOptions& plan, const LoaderLayout& layout)
      : dataset_(std::move(dataset)), options_(plan), layout_(layout) {
    check_layout(plan, layout);
    input_ = plan_input(*dataset_);
    if (input_.lengths.empty()) fail(ErrorKind::bad_data, "the training data has no records");
    int64_t trained = 0;
    for (int64_t i = 0; i < dataset_->size(); ++i) {
      const ExampleView example = dataset_->example(i);
      trained += trained_tokens(example);
      if (static_cast<int64_t>(example.ids.size()) > plan.seq_len)
        fail(ErrorKind::bad_data, "record {} has {} tokens, data.seq_len is {}", i,
             example.ids.size(), plan.seq_len);
    }
    if (trained == 0) fail(ErrorKind::bad_data, "no token of the training data has a loss");
    same_epochs_ = std::all_of(input_.weights.begin(), input_.weights.end(),
                               [](double weight) { return weight == std::floor(weight); });
    thread_ = std::thread([this] { work(); });
  }

  ~Impl() {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  int64_t steps_in(double epochs) {
    std::lock_guard lock(planning_);
    const double whole = std::floor(epochs);
    int64_t steps = 0;
    for (int64_t e = 0; e < static_cast<int64_t>(whole); ++e) steps += steps_of(e);
    if (epochs > whole)
      steps += static_cast<int64_t>(
          std::ceil((epochs - whole) * static_cast<double>(steps_of(static_cast<int64_t>(whole)))));
    return steps;
  }

  StepData step(int64_t number) {
    CHECK(number >= 0, "step {}", number);
    std::unique_lock lock(mutex_);
    while (!ready_.empty() && ready_.front().step < number) ready_.pop_front();
    const int64_t coming = ready_.empty() ? next_ : ready_.front().step;
    if (coming != number) {
      ready_.clear();
      next_ = number;
      error_ = nullptr;
      ++generation_;
    }
    wanted_ = number;
    wake_.notify_all();
    arrived_.wait(lock, [&] { return error_ || !ready_.empty(); });
    if (ready_.empty()) std::rethrow_exception(error_);
    StepData data = std::move(ready_.front());
    ready_.pop_front();
    wake_.notify_all();
    return data;
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] {
        return closing_ || (wanted_ >= 0 && ready_.size() < kStepsAhead && !error_);
      });
      if (closing_) return;
      const int64_t number = next_, generation = generation_;
      lock.unlock();
      StepData data;
      std::exception_ptr error;
      try {
        data = make(number);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (generation != generation_) continue;  // another step was asked for meanwhile
      if (error) {
        error_ = error;
      } else {
        ready_.push_back(std::move(data));
        next_ = number + 1;
      }
      arrived_.notify_all();
    }
  }

  int64_t steps_of(int64_t epoch) {
    const int64_t like = same_epochs_ ? 0 : epoch;
    auto known = epoch_rows_.find(like);
    if (known == epoch_rows_.end())
      known = epoch_rows_.emplace(like, plan_of(like).num_rows()).first;
    return (known->second + options_.global_batch - 1) / options_.global_batch;
  }

  const EpochPlan& plan_of(int64_t epoch) {
    if (epoch != planned_epoch_) {
      plan_ = plan_epoch(input_, options_, epoch);
      if (plan_.num_rows() == 0)
        fail(ErrorKind::bad_data, "epoch {} has no records: the weights of the files are too small",
             epoch);
      planned_epoch_ = epoch;
    }
    return plan_;
  }

  StepData make(int64_t number) {
    std::lock_guard lock(planning_);
    int64_t epoch = 0, first = 0;  // first: steps before this epoch
    auto known = epoch_begins_.upper_bound(number);
    if (known != epoch_begins_.begin()) std::tie(first, epoch) = *std::prev(known);
    for (int64_t steps = steps_of(epoch); number >= first + steps; steps = steps_of(epoch)) {
      first += steps;
      epoch_begins_[first] = ++epoch;
    }
    const EpochPlan& plan = plan_of(epoch);
    StepData data;
    data.step = number;
    const int64_t rows_begin = (number - first) * options_.global_batch;
    const int64_t rows_end = std::min(rows_begin + options_.global_batch, plan.num_rows());
    data.epoch = static_cast<double>(epoch) +
                 static_cast<double>(rows_end) / static_cast<double>(plan.num_rows());
    for (int64_t i = plan.row_begins[static_cast<size_t>(rows_begin)];
         i < plan.row_begins[static_cast<size_t>(rows_end)]; ++i) {
      const ExampleView example = dataset_->example(plan.examples[static_cast<size_t>(i)]);
      data.trained_tokens += trained_tokens(example);
      data.tokens += static_cast<int64_t>(example.ids.size());
    }
    // Rows go to ranks in turn, a micro-batch at a time, so that every rank has its share of a
    // short last step.
    const int64_t micro_steps = options_.global_batch / (layout_.size * layout_.micro_batch);
    for (int64_t m = 0; m < micro_steps; ++m) {
      const int64_t begin = rows_begin + (m * layout_.size + layout_.rank) * layout_.micro_batch;
      const int64_t from = std::min(begin, rows_end);
      const int64_t to = std::min(begin + layout_.micro_batch, rows_end);
      const auto* examples = plan.examples.data();
      data.micro_batches.push_back(
          make_batch(*dataset_, {examples + plan.row_begins[static_cast<size_t>(from)],
                                 examples + plan.row_begins[static_cast<size_t>(to)]}));
    }
    return data;
  }

  std::shared_ptr<const Dataset> dataset_;
  PlanOptions options_;
  LoaderLayout layout_;
  PlanInput input_;

  std::mutex planning_;  // the plan and what is known of epochs
  EpochPlan plan_;
  int64_t planned_epoch_ = -1;
  bool same_epochs_ = false;                 // all epochs have as many rows as the first
  std::map<int64_t, int64_t> epoch_rows_;    // of epochs planned so far
  std::map<int64_t, int64_t> epoch_begins_;  // first step -> epoch

  std::mutex mutex_;  // all below
  std::condition_variable wake_, arrived_;
  std::deque<StepData> ready_;
  int64_t next_ = 0;     // the step that the thread makes next
  int64_t wanted_ = -1;  // the last step asked for
  int64_t generation_ = 0;
  bool closing_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

Loader::Loader(std::shared_ptr<const Dataset> dataset, const PlanOptions& plan,
               const LoaderLayout& layout)
    : impl_(std::make_unique<Impl>(std::move(dataset), plan, layout)) {}
Loader::~Loader() = default;

int64_t Loader::steps_per_epoch() const {
  return impl_->steps_in(1);
}
int64_t Loader::steps_in(double epochs) const {
  return impl_->steps_in(epochs);
}
StepData Loader::step(int64_t number) {
  return impl_->step(number);
}

}  // namespace weft::data
