#include <yaml-cpp/yaml.h>

#include <charconv>

#include "core/base/config_node.h"
#include "core/base/error.h"

namespace weft {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxNodes = 100000;  // after aliases are written out
constexpr int kMaxDepth = 32;

// Turns yaml-cpp's graph (aliases are shared nodes, possibly cycles) into a bounded tree.
class Converter {
 public:
  explicit Converter(const std::string& where) : where_(where) {}

  ConfigNode convert(const YAML::Node& yaml, int depth = 0) {
    ConfigNode node;
    node.place = place_of(yaml);
    if (depth > kMaxDepth)
      fail(ErrorKind::usage, "{}: nested deeper than {} (an alias that contains itself?)",
           node.place, kMaxDepth);
    if (++num_nodes_ > kMaxNodes)
      fail(ErrorKind::usage, "{}: more than {} values once aliases are written out", node.place,
           kMaxNodes);
    if (yaml.IsScalar()) {
      node.kind = ConfigNode::Kind::scalar;
      node.text = yaml.Scalar();
    } else if (yaml.IsSequence()) {
      node.kind = ConfigNode::Kind::sequence;
      for (const auto& item : yaml) node.items.push_back(convert(item, depth + 1));
    } else if (yaml.IsMap()) {
      node.kind = ConfigNode::Kind::map;
      convert_members(yaml, depth, node);
    }
    return node;
  }

 private:
  void convert_members(const YAML::Node& yaml, int depth, ConfigNode& node) {
    std::vector<ConfigNode> merged;
    for (const auto& member : yaml) {
      const std::string place = place_of(member.first);
      if (!member.first.IsScalar()) fail(ErrorKind::usage, "{}: a key must be a word", place);
      const std::string& key = member.first.Scalar();
      if (key == "<<") {
        merged.push_back(convert(member.second, depth + 1));
        continue;
      }
      if (const auto* old = node.find(key))
        fail(ErrorKind::usage, "{}: key '{}' is given twice (first at {})", place, key, old->place);
      node.members.push_back({key, place, convert(member.second, depth + 1)});
    }
    for (ConfigNode& from : merged) merge(from, node);
  }

  // YAML's merge key: members of `from` that `into` does not have itself.
  void merge(ConfigNode& from, ConfigNode& into) {
    if (from.kind == ConfigNode::Kind::sequence) {
      for (ConfigNode& item : from.items) merge(item, into);
    } else if (from.kind == ConfigNode::Kind::map) {
      for (auto& member : from.members)
        if (!into.find(member.key)) into.members.push_back(std::move(member));
    } else {
      fail(ErrorKind::usage, "{}: '<<' needs a map or a list of maps", from.place);
    }
  }

  std::string place_of(const YAML::Node& yaml) const {
    const YAML::Mark mark = yaml.Mark();
    if (mark.is_null()) return where_;
    return fmt::format("{}:{}:{}", where_, mark.line + 1, mark.column + 1);
  }

  const std::string& where_;
  size_t num_nodes_ = 0;
};

// "train.lr" -> {"train", "lr"}
std::vector<std::string> split_key(const std::string& key, const std::string& override) {
  std::vector<std::string> parts(1);
  for (char c : key) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  for (const std::string& part : parts)
    if (part.empty())
      fail(ErrorKind::usage, "override '{}': '{}' is no key; write section.key=value", override,
           key);
  return parts;
}

// The member or element `part` of `node`, created if need be.
ConfigNode& descend(ConfigNode& node, const std::string& part, const std::string& place) {
  expand_flow(node);
  size_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  if (node.kind == ConfigNode::Kind::sequence && error == std::errc() &&
      end == part.data() + part.size()) {
    if (index >= node.items.size())
      fail(ErrorKind::usage, "{}: the list has {} elements, counted from 0", place,
           node.items.size());
    return node.items[index];
  }
  if (node.kind != ConfigNode::Kind::map) {
    node = ConfigNode{};
    node.kind = ConfigNode::Kind::map;
    node.place = place;
  }
  if (auto* member = node.find(part)) {
    member->place = place;
    return member->value;
  }
  node.members.push_back({part, place, {}});
  return node.members.back().value;
}

void set_places(ConfigNode& node, const std::string& place) {
  node.place = place;
  for (ConfigNode& item : node.items) set_places(item, place);
  for (auto& member : node.members) {
    member.place = place;
    set_places(member.value, place);
  }
}

}  // namespace

ConfigNode::Member* ConfigNode::find(const std::string& key) {
  for (Member& member : members)
    if (member.key == key) return &member;
  return nullptr;
}

ConfigNode parse_yaml(const std::string& text, const std::string& where) {
  if (text.size() > kMaxBytes)
    fail(ErrorKind::usage, "{}: {} bytes are more than a config may have ({})", where, text.size(),
         kMaxBytes);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1)
      fail(ErrorKind::usage, "{}: holds {} YAML documents; one file is one run", where,
           documents.size());
    if (documents.empty()) return {};
    return Converter(where).convert(documents.front());
  } catch (const YAML::Exception& e) {
    if (e.mark.is_null()) fail(ErrorKind::usage, "{}: not valid YAML: {}", where, e.msg);
    fail(ErrorKind::usage, "{}:{}:{}: not valid YAML: {}", where, e.mark.line + 1,
         e.mark.column + 1, e.msg);
  }
}

ConfigNode node_from_json(const Json& json, const std::string& where) {
  ConfigNode node;
  node.place = where;
  if (json.is_array()) {
    node.kind = ConfigNode::Kind::sequence;
    for (const Json& item : json.as_array()) node.items.push_back(node_from_json(item, where));
  } else if (json.is_object()) {
    node.kind = ConfigNode::Kind::map;
    for (const auto& [key, value] : json.as_object())
      node.members.push_back({key, where, node_from_json(value, where)});
  } else if (!json.is_null()) {
    node.kind = ConfigNode::Kind::scalar;
    node.text = json.is_string() ? json.as_string() : json.dump();
  }
  return node;
}

void apply_override(ConfigNode& root, const std::string& override) {
  const size_t equals = override.find('=');
  if (equals == std::string::npos)
    fail(ErrorKind::usage, "override '{}': expected key=value, e.g. train.lr=1e-4", override);
  const std::string place = fmt::format("override '{}'", override);
  const std::string value = override.substr(equals + 1);

  ConfigNode* node = &root;
  for (const std::string& part : split_key(override.substr(0, equals), override))
    node = &descend(*node, part, place);
  *node = ConfigNode{ConfigNode::Kind::scalar, value, place, true, {}, {}};
}

void expand_flow(ConfigNode& node) {
  if (!node.may_be_flow || node.text.empty()) return;
  if (node.text.front() != '[' && node.text.front() != '{') return;
  const std::string place = node.place;
  node = parse_yaml(node.text, place);
  set_places(node, place);
}

}  // namespace weft
