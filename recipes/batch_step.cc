#include "recipes/batch_step.h"

namespace weft::recipes {

nn::Step make_step(const data::Batch& batch, nn::Mode mode, const models::Decoder& decoder) {
  nn::Step step;
  step.mode = mode;
  step.ids = batch.ids;
  step.positions = batch.positions;
  step.labels = batch.labels;
  step.sample_ids = batch.sample_ids;
  step.documents = batch.documents;
  decoder.prepare(step);
  return step;
}

}  // namespace weft::recipes
