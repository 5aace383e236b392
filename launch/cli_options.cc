#include "launch/cli_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "core/base/config.h"
#include "core/base/error.h"
#include "core/telemetry/log_config.h"

namespace weft::launch {
namespace {

template <class E, size_t N>
void add_choice(CLI::App* verb, const char* name, E& value, const EnumName<E> (&names)[N],
                const char* what) {
  std::map<std::string, E> choices;
  std::string list;
  for (const auto& entry : names) {
    choices[entry.name] = entry.value;
    list += (list.empty() ? "" : "|") + std::string(entry.name);
  }
  verb->add_option_function<std::string>(
          name,
          [choices, &value, name, list](const std::string& text) {
            const auto found = choices.find(text);
            if (found == choices.end())
              fail(ErrorKind::usage, "{}: '{}' is none of {}", name, text, list);
            value = found->second;
          },
          what)
      ->type_name(list);
}

}  // namespace

void add_model(CLI::App* verb, std::string& model, std::string& adapter) {
  verb->add_option("model", model, "Hugging Face folder, .gguf file, run folder or checkpoint")
      ->required()
      ->type_name("MODEL");
  verb->add_option("--adapter", adapter, "PEFT adapter on top of the model");
}

void add_json(CLI::App* verb, bool& json) {
  verb->add_flag("--json", json, "print the figures as one JSON object");
}

void add_too_long(CLI::App* verb, data::TooLong& value) {
  add_choice(verb, "--too-long", value, data::kTooLongNames, "records longer than --seq-len");
}

void add_device(CLI::App* verb, recipes::Precision& dtype, recipes::DeviceChoice& device) {
  add_choice(verb, "--dtype", dtype, recipes::kPrecisionNames, "of weights and activations");
  add_choice(verb, "--device", device, recipes::kDeviceNames, "where it is computed");
}

void add_record(CLI::App* verb, recipes::RecordOptions& record) {
  verb->add_option("--config", record.config,
                   "run's YAML file whose `data:` section says how records become text; else that "
                   "of the run that the model came from")
      ->group("Records");
  data::RecordConfig defaults;
  ConfigVisitor visitor = config_detail::visit(defaults);
  for (const ConfigField& field : visitor.fields()) {
    std::string option = "--" + field.name;
    std::replace(option.begin(), option.end(), '_', '-');
    verb->add_option_function<std::string>(
            option,
            [&record, name = field.name](const std::string& value) {
              record.values.push_back(name + "=" + value);
            },
            field.doc)
        ->group("Records");
  }
}

void add_log_level(CLI::App* verb, log::Level& level) {
  add_choice(verb, "--log-level", level, telemetry::kLevelNames, "least important line shown");
}

}  // namespace weft::launch
