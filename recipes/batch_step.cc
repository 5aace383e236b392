#include "recipes/batch_step.h"

namespace weft::recipes {

nn::Step make_step(const data::Batch& batch, nn::Mode mode, const Model& model) {
  nn::Step step;
  step.mode = mode;
  step.ids = batch.ids.to(model.device);
  step.positions = batch.positions.to(model.device);
  step.labels = batch.labels;
  step.sample_ids = batch.sample_ids.to(model.device);
  step.documents = batch.documents;
  model.decoder->prepare(step);
  return step;
}

}  // namespace weft::recipes
