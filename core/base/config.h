// Configuration: one description of a struct serves reading, dumping, comparing and documenting.
//
//   struct LoraConfig {
//     int64_t rank = 16;
//     void visit(ConfigVisitor& v) { v.field("rank", rank, "rank of an adapter").at_least(1); }
//   };
//   auto config = read_config<RunConfig>("run.yaml", {"train.lr=1e-4"});
//
// A struct may also have `void check() const` for rules that join several fields; it throws usage.
#pragma once

#include <string>
#include <vector>

#include "core/base/config_field.h"
#include "core/base/json.h"

namespace weft {

// What reading works on; the template functions below are thin wrappers over these.
namespace config_detail {
void read(ConfigVisitor& visitor, const std::string& path,
          const std::vector<std::string>& overrides);
void read_json(ConfigVisitor& visitor, const Json& json, const std::string& where);
Json to_json(const std::vector<ConfigField>& fields);
std::string to_yaml(const std::vector<ConfigField>& fields);
std::string to_markdown(const std::vector<ConfigField>& fields);

template <class T>
void check(const T& config) {
  if constexpr (requires { config.check(); }) config.check();
}
template <class T>
ConfigVisitor visit(T& config) {
  ConfigVisitor visitor;
  config.visit(visitor);
  return visitor;
}
}  // namespace config_detail

// Reads `path` (empty: only the defaults) and then applies "key.sub=value" overrides in order.
// Throws usage with "file:line:column" or the override's text: unknown key (with the nearest known
// one), ill-typed or out-of-range value, duplicate key, broken YAML, no 'key=value'. Throws
// no_input when the file is missing.
template <class T>
T read_config(const std::string& path, const std::vector<std::string>& overrides = {}) {
  T config;
  ConfigVisitor visitor = config_detail::visit(config);
  config_detail::read(visitor, path, overrides);
  config_detail::check(config);
  return config;
}

// The same on top of what `config` holds; no check.
template <class T>
void apply_overrides(T& config, const std::vector<std::string>& overrides) {
  ConfigVisitor visitor = config_detail::visit(config);
  config_detail::read(visitor, "", overrides);
}

// The inverse of config_json, e.g. from a checkpoint's manifest. `where` names the source in
// errors.
template <class T>
T config_from_json(const Json& json, const std::string& where) {
  T config;
  ConfigVisitor visitor = config_detail::visit(config);
  config_detail::read_json(visitor, json, where);
  return config;
}

// Every key with its value, defaults included. Reading the text gives the same struct again.
template <class T>
Json config_json(T config) {
  return config_detail::to_json(config_detail::visit(config).fields());
}
template <class T>
std::string config_yaml(T config) {
  return config_detail::to_yaml(config_detail::visit(config).fields());
}

// One Markdown table a section: key, type, default, what it means, whether it may change on resume.
template <class T>
std::string config_markdown() {
  T defaults;
  return config_detail::to_markdown(config_detail::visit(defaults).fields());
}

// A key whose value differs between two configs of the same type.
struct ConfigDifference {
  std::string key;  // "train.lr"
  std::string before, after;
  bool may_change = false;  // on resume
};

namespace config_detail {
std::vector<ConfigDifference> differences(const std::vector<ConfigField>& before,
                                          const std::vector<ConfigField>& after);
}

template <class T>
std::vector<ConfigDifference> config_differences(T before, T after) {
  return config_detail::differences(config_detail::visit(before).fields(),
                                    config_detail::visit(after).fields());
}

// Throws usage with every key that must not change on resume and did, with both values. `where`
// names the checkpoint.
void check_resume(const std::vector<ConfigDifference>& differences, const std::string& where);

}  // namespace weft
