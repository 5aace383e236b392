// Options that several verbs have: one name, one meaning. What they fill in must outlive the parse.
#pragma once

#include <string>

#include "core/base/log.h"
#include "recipes/data.h"
#include "recipes/record_options.h"
#include "recipes/train_config.h"

namespace CLI {
class App;
}

namespace weft::launch {

void add_model(CLI::App* verb, std::string& model, std::string& adapter);
void add_json(CLI::App* verb, bool& json);
void add_log_level(CLI::App* verb, log::Level& level);
void add_too_long(CLI::App* verb, data::TooLong& value);
void add_device(CLI::App* verb, recipes::Precision& dtype, recipes::DeviceChoice& device);
// The keys of data::RecordConfig as options: prompt_field is --prompt-field.
void add_record(CLI::App* verb, recipes::RecordOptions& record);

}  // namespace weft::launch
