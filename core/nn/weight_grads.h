// The queue of weight-gradient products. Its order is the policy: at once (data parallel only: a
// unit's reduction starts early), or when flushed (zero-bubble schedules).
#pragma once

#include <deque>
#include <functional>

namespace weft::nn {

class WeightGrads {
 public:
  enum class Order { immediate, deferred };
  explicit WeightGrads(Order order = Order::immediate) : order_(order) {}

  // `product` accumulates (+=) into gradients; it owns the tensors that it reads.
  void push(std::function<void()> product) {
    if (order_ == Order::immediate) return product();
    queue_.push_back(std::move(product));
  }
  // Runs what is queued, first in first out.
  void flush() {
    for (; !queue_.empty(); queue_.pop_front()) queue_.front()();
  }
  bool empty() const { return queue_.empty(); }

 private:
  Order order_;
  std::deque<std::function<void()>> queue_;
};

}  // namespace weft::nn
