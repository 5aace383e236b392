// How the records of a file given on the command line become text: options that verbs share.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/data/data_config.h"

namespace weft::recipes {

struct RecordOptions {
  std::string config;               // a run's YAML file whose `data:` section applies; empty: none
  std::vector<std::string> values;  // "prompt_field=question", on top

  // Starts from `config`; else from the resolved config of the run that the model came from, where
  // there is one (else nullptr); else from the defaults.
  data::RecordConfig resolve(const Json* run_config) const;
};

}  // namespace weft::recipes
