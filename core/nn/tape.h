// What forward keeps for backward: a stack, one for each micro-batch in flight.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/nn/parameter.h"

namespace weft::nn {

// Each layer's backward pops what its forward pushed, in reverse.
class Tape {
 public:
  enum class Keep {
    nothing,    // evaluation, or a forward that will be run again: push drops
    expensive,  // a tensor that is cheap to make again is made again (recompute: selective)
    everything,
  };
  // How to make a tensor again from tensors that are kept anyway. `make` owns none of these: the
  // tape may move them (nn::Offload).
  struct Recipe {
    std::vector<Tensor> from;
    std::function<Tensor(const std::vector<Tensor>& from)> make;
    ParameterPtr norm;  // not null: what is made is ops::rms_norm's y, of from = {x, rstd}
  };
  // What was pushed, or how to make it again.
  struct Kept {
    Tensor pushed;
    Recipe recipe;
    Tensor tensor() const { return recipe.make ? recipe.make(recipe.from) : pushed; }
  };
  explicit Tape(Keep keep = Keep::everything) : keep_(keep) {}

  Keep keep() const { return keep_; }
  bool records() const { return keep_ != Keep::nothing; }
  bool empty() const { return entries_.empty(); }

  void push(const Tensor& t) {
    if (keep_ == Keep::expensive) return push_origin(t);
    if (keep_ == Keep::everything) entries_.push_back({t, {}});
  }
  // Where a Rebuildable says how `t` is made, that alone is kept, in Keep::everything too: for a
  // reader that can do without `t`.
  void push_origin(const Tensor& t) {
    if (keep_ == Keep::nothing) return;
    const bool rebuildable = recipe_.make && t.raw() == rebuildable_.raw();
    entries_.push_back(rebuildable ? Kept{{}, recipe_} : Kept{t, {}});
  }

  Tensor pop() { return pop_kept().tensor(); }
  Kept pop_kept() {
    CHECK(!entries_.empty(), "backward popped more than forward pushed");
    Kept kept = std::move(entries_.back());
    entries_.pop_back();
    return kept;
  }

  // Every tensor that the tape owns, those of recipes too; visit(Tensor&) may replace it by one of
  // the same bytes.
  template <class Visit>
  void for_each(Visit visit) {
    for (Kept& kept : entries_) {
      if (kept.pushed.defined()) visit(kept.pushed);
      for (Tensor& t : kept.recipe.from) visit(t);
    }
  }

  // While a Rebuildable lives (the innermost counts), pushing `t` may keep only the recipe, which
  // makes the same bits again.
  class Rebuildable {
   public:
    Rebuildable(Tape& tape, const Tensor& t, Recipe recipe)
        : tape_(tape),
          outer_tensor_(std::exchange(tape.rebuildable_, t)),
          outer_recipe_(std::exchange(tape.recipe_, std::move(recipe))) {}
    ~Rebuildable() {
      tape_.rebuildable_ = std::move(outer_tensor_);
      tape_.recipe_ = std::move(outer_recipe_);
    }
    Rebuildable(const Rebuildable&) = delete;
    Rebuildable& operator=(const Rebuildable&) = delete;

   private:
    Tape& tape_;
    Tensor outer_tensor_;
    Recipe outer_recipe_;
  };

 private:
  Keep keep_;
  std::vector<Kept> entries_;
  Tensor rebuildable_;
  Recipe recipe_;
};

}  // namespace weft::nn
