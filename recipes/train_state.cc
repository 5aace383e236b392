#include "recipes/train_state.h"

#include <cmath>

#include "recipes/model.h"

namespace weft::recipes {

Json TrainState::to_json() const {
  Json json;
  json.set("step", step);
  json.set("updates", updates);
  json.set("loss_scale", loss_scale);
  json.set("updates_at_scale", updates_at_scale);
  json.set("tokens", tokens);
  json.set("skipped", skipped);
  json.set("bad_in_a_row", bad_in_a_row);
  json.set("best_loss", std::isfinite(best_loss) ? Json(best_loss) : Json());
  json.set("best_step", best_step);
  json.set("evaluations_since_best", evaluations_since_best);
  json.set("seconds", seconds);
  json.set("data_hash", data_hash);
  return json;
}

TrainState TrainState::from_json(const Json& json) {
  TrainState state;
  state.step = json.at("step").as_int();
  state.updates = json.at("updates").as_int();
  if (json.contains("loss_scale")) {
    state.loss_scale = json.at("loss_scale").as_double();
    state.updates_at_scale = json.at("updates_at_scale").as_int();
  }
  state.tokens = json.at("tokens").as_int();
  state.skipped = json.at("skipped").as_int();
  state.bad_in_a_row = json.at("bad_in_a_row").as_int();
  if (!json.at("best_loss").is_null()) state.best_loss = json.at("best_loss").as_double();
  state.best_step = json.at("best_step").as_int();
  state.evaluations_since_best = json.at("evaluations_since_best").as_int();
  state.seconds = json.at("seconds").as_double();
  state.data_hash = json.at("data_hash").as_string();
  return state;
}

std::vector<checkpoint::Piece> pieces_of(const std::vector<nn::StatePiece>& states) {
  std::vector<checkpoint::Piece> pieces;
  for (const nn::StatePiece& s : states)
    checkpoint::append(pieces, {.kind = s.part,
                                .name = s.segment.name,
                                .shape = s.segment.shape,
                                .begin = s.segment.begin,
                                .value = s.data.to({})});
  return pieces;
}

void read_pieces(const checkpoint::NativeCheckpoint& saved,
                 const std::vector<nn::StatePiece>& states) {
  for (const nn::StatePiece& s : states)
    fill_through_host(s.data, [&](const Tensor& host) {
      saved.read_range(s.part, s.segment.name, s.segment.shape, s.segment.begin, host);
    });
}

}  // namespace weft::recipes
