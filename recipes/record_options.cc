#include "recipes/record_options.h"

#include "recipes/run_config.h"

namespace weft::recipes {

data::RecordConfig RecordOptions::resolve(const Json* run_config) const {
  RunConfig run;
  if (!config.empty()) {
    ConfigVisitor visitor = config_detail::visit(run);
    config_detail::read(visitor, config, {});  // unchecked: only `data:` matters here
  } else if (run_config) {
    run = config_from_json<RunConfig>(*run_config, "the run's config");
  }
  apply_overrides(run.data.record, values);
  return run.data.record;
}

}  // namespace weft::recipes
