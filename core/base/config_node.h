// A YAML document as a tree in which every value knows its place. Only config_yaml.cc knows
// yaml-cpp.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"

namespace weft {

struct ConfigNode {
  enum class Kind { null, scalar, sequence, map };
  struct Member;

  Kind kind = Kind::null;
  std::string text;          // of a scalar
  std::string place;         // "run.yaml:3:7" or "override 'train.lr=1'"
  bool may_be_flow = false;  // a scalar from the command line that may stand for "[a, b]" or "{..}"
  std::vector<ConfigNode> items;
  std::vector<Member> members;

  Member* find(const std::string& key);
};

struct ConfigNode::Member {
  std::string key;
  std::string place;
  ConfigNode value;
};

// Anchors, aliases and merge keys (<<) are resolved. Throws usage: broken YAML, duplicate key, more
// than one document, key that is no text, too deep, or too large once aliases are written out.
ConfigNode parse_yaml(const std::string& text, const std::string& where);

// JSON as written by config_json.
ConfigNode node_from_json(const Json& json, const std::string& where);

// Sets what "key.sub=value" says in the tree, creating maps on the way; a number in the key is an
// index into a list. The value is taken as it is. Throws usage.
void apply_override(ConfigNode& root, const std::string& override);

// Where a list or map is wanted: parses a value from the command line that is written as one.
void expand_flow(ConfigNode& node);

}  // namespace weft
