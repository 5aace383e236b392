#include "core/base/config.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/base/config_node.h"
#include "core/base/error.h"
#include "core/base/nearest.h"

namespace weft {
namespace {

std::string shown(const std::string& text) {
  constexpr size_t kLongest = 80;
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

// Writes one YAML value into the field that it belongs to. `key` is the full name.
class Binder {
 public:
  explicit Binder(const std::vector<ConfigField>& root) : root_(root) {}

  void bind_all(std::vector<ConfigField>& fields, ConfigNode& map, const std::string& prefix) {
    for (auto& member : map.members) {
      const std::string key = prefix + member.key;
      ConfigField* field = nullptr;
      for (ConfigField& candidate : fields)
        if (candidate.name == member.key) field = &candidate;
      if (!field) fail_unknown(fields, member, prefix);
      bind(*field, member.value, key);
    }
  }

 private:
  void bind(ConfigField& field, ConfigNode& node, const std::string& key) {
    if (node.kind == ConfigNode::Kind::null) return;  // "key:" without a value keeps the default
    key_ = key;
    place_ = node.place;
    std::visit([&](auto& value) { set(field, value, node); }, field.value);
  }

  [[noreturn]] void fail_unknown(const std::vector<ConfigField>& fields,
                                 const ConfigNode::Member& member, const std::string& prefix) {
    std::vector<std::string> names;
    for (const ConfigField& field : fields) names.push_back(field.name);
    std::string hint = fmt::format("the nearest known key is '{}'", nearest(member.key, names));
    for (const ConfigField& section : root_)
      for (const ConfigField& field : section.children)
        if (field.name == member.key && std::holds_alternative<std::monostate>(section.value))
          hint = fmt::format("did you mean '{}.{}'?", section.name, field.name);
    fail(ErrorKind::usage, "{}: unknown key '{}'; {}", member.place, prefix + shown(member.key),
         hint);
  }

  [[noreturn]] void fail_value(const ConfigNode& node, const std::string& expected) {
    std::string found = "a list";
    if (node.kind == ConfigNode::Kind::map) found = "a map";
    if (node.kind == ConfigNode::Kind::scalar) found = "'" + shown(node.text) + "'";
    fail(ErrorKind::usage, "{}: '{}' must be {}, found {}", place_, key_, expected, found);
  }

  const std::string& scalar(const ConfigNode& node, const std::string& expected) {
    if (node.kind != ConfigNode::Kind::scalar) fail_value(node, expected);
    return node.text;
  }

  void check_range(const ConfigField& field, double value, const ConfigNode& node) {
    const bool low = field.minimum_excluded ? value <= field.minimum : value < field.minimum;
    if (!low && value <= field.maximum) return;
    std::string range = fmt::format("{} {}", field.minimum_excluded ? "above" : "at least",
                                    format_exact(field.minimum));
    if (std::isinf(field.minimum)) range = "";
    if (!std::isinf(field.maximum))
      range +=
          fmt::format("{}at most {}", range.empty() ? "" : " and ", format_exact(field.maximum));
    fail_value(node, range);
  }

  void set(ConfigField& field, std::monostate&, ConfigNode& node) {
    expand_flow(node);
    if (node.kind != ConfigNode::Kind::map) fail_value(node, "a section with keys of its own");
    bind_all(field.children, node, key_ + ".");
  }
  void set(ConfigField&, bool*& value, ConfigNode& node) {
    const auto parsed = parse_boolean(scalar(node, "true or false"));
    if (!parsed) fail_value(node, "true or false");
    *value = *parsed;
  }
  void set(ConfigField& field, int64_t*& value, ConfigNode& node) {
    const std::string expected =
        field.word.empty() ? "an integer" : fmt::format("an integer or '{}'", field.word);
    const std::string& text = scalar(node, expected);
    if (!field.word.empty() && text == field.word) return void(*value = field.word_value);
    const auto parsed = parse_integer(text);
    if (!parsed) fail_value(node, expected);
    check_range(field, static_cast<double>(*parsed), node);
    *value = *parsed;
  }
  void set(ConfigField& field, double*& value, ConfigNode& node) {
    const auto parsed = parse_number(scalar(node, "a finite number"));
    if (!parsed) fail_value(node, "a finite number");
    check_range(field, *parsed, node);
    *value = *parsed;
  }
  void set(ConfigField&, std::string*& value, ConfigNode& node) {
    *value = scalar(node, "text (in quotes)");
  }
  void set(ConfigField&, std::vector<std::string>*& value, ConfigNode& node) {
    value->clear();
    expand_flow(node);
    if (node.kind == ConfigNode::Kind::sequence) {
      for (const ConfigNode& item : node.items) value->push_back(scalar(item, "a list of words"));
      return;
    }
    std::istringstream words(scalar(node, "a list of words"));
    for (std::string word; std::getline(words, word, ',');) {
      const size_t first = word.find_first_not_of(' ');
      if (first == std::string::npos) continue;
      value->push_back(word.substr(first, word.find_last_not_of(' ') + 1 - first));
    }
  }
  void set(ConfigField& field, Bytes*& value, ConfigNode& node) {
    const std::string expected = "a size such as 512MB or 2GiB";
    const auto parsed = parse_bytes(scalar(node, expected));
    if (!parsed) fail_value(node, expected);
    check_range(field, static_cast<double>(parsed->count), node);
    *value = *parsed;
  }
  void set(ConfigField& field, Duration*& value, ConfigNode& node) {
    const std::string expected = "a time such as 45s, 30min or 2h";
    const auto parsed = parse_duration(scalar(node, expected), field.bare_unit_seconds);
    if (!parsed) fail_value(node, expected);
    check_range(field, parsed->seconds, node);
    *value = *parsed;
  }
  void set(ConfigField&, ConfigChoice& choice, ConfigNode& node) {
    const std::string& text = scalar(node, "one of " + joined(choice.names));
    for (size_t i = 0; i < choice.names.size(); ++i)
      if (choice.names[i] == text) return choice.set(i);
    fail(ErrorKind::usage, "{}: '{}' must be one of {}; '{}' is nearest to '{}'", place_, key_,
         joined(choice.names), shown(text), nearest(text, choice.names));
  }
  void set(ConfigField&, ConfigList& list, ConfigNode& node) {
    const std::string key = key_;
    expand_flow(node);
    if (node.kind != ConfigNode::Kind::sequence) {
      ConfigNode alone = std::move(node);
      node = ConfigNode{ConfigNode::Kind::sequence, "", alone.place, false, {}, {}};
      if (alone.kind != ConfigNode::Kind::scalar || !alone.text.empty())
        node.items.push_back(std::move(alone));
    }
    list.resize(0);
    list.resize(node.items.size());
    for (size_t i = 0; i < node.items.size(); ++i) {
      std::vector<ConfigField> fields = list.fields_of(i);
      ConfigNode& item = node.items[i];
      if (item.kind == ConfigNode::Kind::map) {
        bind_all(fields, item, fmt::format("{}.{}.", key, i));
      } else {
        bind(fields.front(), item, fmt::format("{}.{}.{}", key, i, fields.front().name));
      }
    }
  }

  const std::vector<ConfigField>& root_;
  std::string key_, place_;  // of the value at hand
};

void bind_root(ConfigVisitor& visitor, ConfigNode& root) {
  if (root.kind == ConfigNode::Kind::null) return;
  if (root.kind != ConfigNode::Kind::map)
    fail(ErrorKind::usage, "{}: a config is a map of keys", root.place);
  Binder(visitor.fields()).bind_all(visitor.fields(), root, "");
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (in && in.peek() != std::ifstream::traits_type::eof()) text << in.rdbuf();
  if (!in.is_open() || in.bad())
    fail(ErrorKind::no_input, "{}: the config cannot be read: {}", path, std::strerror(errno));
  return text.str();
}

}  // namespace

ConfigField& ConfigField::may_change() {
  may_change_on_resume = true;
  for (ConfigField& child : children) child.may_change();
  return *this;
}

namespace config_detail {

void read(ConfigVisitor& visitor, const std::string& path,
          const std::vector<std::string>& overrides) {
  ConfigNode root;
  if (!path.empty()) root = parse_yaml(read_text(path), path);
  if (root.kind == ConfigNode::Kind::null) root.kind = ConfigNode::Kind::map;
  for (const std::string& override : overrides) apply_override(root, override);
  bind_root(visitor, root);
}

void read_json(ConfigVisitor& visitor, const Json& json, const std::string& where) {
  ConfigNode root = node_from_json(json, where);
  bind_root(visitor, root);
}

}  // namespace config_detail

void check_resume(const std::vector<ConfigDifference>& differences, const std::string& where) {
  std::string message;
  for (const ConfigDifference& difference : differences)
    if (!difference.may_change)
      message += fmt::format("\n  {}: {} there, {} now", difference.key, difference.before,
                             difference.after);
  if (!message.empty())
    fail(ErrorKind::usage,
         "{}: the run cannot go on with another configuration:{}\nUndo the change, or start a new "
         "run in another output_dir.",
         where, message);
}

}  // namespace weft
