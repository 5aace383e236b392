// Dumping, comparing and documenting configs.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "core/base/config.h"

namespace weft {
namespace {

Json value_json(const ConfigField& field);

// The value as JSON; sizes and times become the text that a user would write.
struct ToJson {
  const ConfigField& field;

  Json operator()(const std::monostate&) const { return config_detail::to_json(field.children); }
  Json operator()(const bool* value) const { return *value; }
  Json operator()(const int64_t* value) const {
    if (!field.word.empty() && *value == field.word_value) return field.word;
    return *value;
  }
  Json operator()(const double* value) const { return *value; }
  Json operator()(const std::string* value) const { return *value; }
  Json operator()(const std::vector<std::string>* value) const {
    return Json::Array(value->begin(), value->end());
  }
  Json operator()(const Bytes* value) const { return format_exact(*value); }
  Json operator()(const Duration* value) const { return format_exact(*value); }
  Json operator()(const ConfigChoice& choice) const { return choice.names[choice.get()]; }
  Json operator()(const ConfigList& list) const {
    Json::Array items;
    for (size_t i = 0; i < list.size(); ++i)
      items.push_back(config_detail::to_json(list.fields_of(i)));
    return items;
  }
};

Json value_json(const ConfigField& field) {
  return std::visit(ToJson{field}, field.value);
}

bool is_section(const ConfigField& field) {
  return std::holds_alternative<std::monostate>(field.value);
}

bool is_null_word(const std::string& text) {
  return text == "null" || text == "Null" || text == "NULL";
}

// Text that YAML reads back as it is, without quotes.
bool is_plain(const std::string& text) {
  const auto is_safe = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '/' || c == '.' || c == ':' || c == '-';
  };
  return !text.empty() && std::isalnum(static_cast<unsigned char>(text.front())) &&
         !parse_number(text) && std::isalnum(static_cast<unsigned char>(text.back())) &&
         !is_null_word(text) && std::all_of(text.begin(), text.end(), is_safe);
}

// JSON's scalars and flow collections are YAML; a double keeps the shortest exact form.
std::string value_text(const Json& value) {
  if (value.is_string() && is_plain(value.as_string())) return value.as_string();
  if (value.is_double()) return format_exact(value.as_double());
  if (value.is_array()) {
    std::vector<std::string> items;
    for (const Json& item : value.as_array()) items.push_back(value_text(item));
    return fmt::format("[{}]", fmt::join(items, ", "));
  }
  if (value.is_object()) {
    std::vector<std::string> items;
    for (const auto& [key, item] : value.as_object())
      items.push_back(fmt::format("{}: {}", key, value_text(item)));
    return fmt::format("{{{}}}", fmt::join(items, ", "));
  }
  return value.dump();
}

void write_yaml(const std::vector<ConfigField>& fields, int depth, std::string& out) {
  for (const ConfigField& field : fields) {
    out += std::string(size_t(depth) * 2, ' ') + field.name + ":";
    if (is_section(field)) {
      out += "\n";
      write_yaml(field.children, depth + 1, out);
    } else {
      out += " " + value_text(value_json(field)) + "\n";
    }
  }
}

struct TypeName {
  const ConfigField& field;

  std::string operator()(const std::monostate&) const { return "section"; }
  std::string operator()(const bool*) const { return "true or false"; }
  std::string operator()(const int64_t*) const {
    return field.word.empty() ? "integer" : fmt::format("integer or `{}`", field.word);
  }
  std::string operator()(const double*) const { return "number"; }
  std::string operator()(const std::string*) const { return "text"; }
  std::string operator()(const std::vector<std::string>*) const { return "list of words"; }
  std::string operator()(const Bytes*) const { return "size"; }
  std::string operator()(const Duration*) const { return "time"; }
  std::string operator()(const ConfigChoice& choice) const {
    return fmt::format("`{}`", fmt::join(choice.names, "`, `"));
  }
  std::string operator()(const ConfigList&) const {
    std::vector<std::string> names;
    for (const ConfigField& child : field.children) names.push_back(child.name);
    return fmt::format("list of {{{}}}", fmt::join(names, ", "));
  }
};

std::string range_text(const ConfigField& field) {
  std::string range;
  if (!std::isinf(field.minimum))
    range = fmt::format("{} {}", field.minimum_excluded ? ">" : "≥", format_exact(field.minimum));
  if (!std::isinf(field.maximum))
    range += fmt::format("{}≤ {}", range.empty() ? "" : ", ", format_exact(field.maximum));
  return range.empty() ? "" : " " + range;
}

void write_row(const ConfigField& field, const std::string& prefix, std::string& out) {
  std::string value = value_text(value_json(field));
  value = value == "\"\"" || value == "[]" ? "" : fmt::format("`{}`", value);
  out += fmt::format("| `{}{}` | {}{} | {} | {} | {} |\n", prefix, field.name,
                     std::visit(TypeName{field}, field.value), range_text(field), value, field.doc,
                     field.may_change_on_resume ? "yes" : "");
  if (std::holds_alternative<ConfigList>(field.value))
    for (const ConfigField& child : field.children) write_row(child, field.name + "[].", out);
}

constexpr const char* kHeader =
    "| key | type | default | meaning | may change on resume |\n|---|---|---|---|---|\n";

void flatten(const std::vector<ConfigField>& fields, const std::string& prefix,
             std::vector<ConfigDifference>& out) {
  for (const ConfigField& field : fields) {
    if (is_section(field)) {
      flatten(field.children, prefix + field.name + ".", out);
    } else {
      const std::string value = value_text(value_json(field));
      out.push_back({prefix + field.name, value, value, field.may_change_on_resume});
    }
  }
}

}  // namespace

namespace config_detail {

Json to_json(const std::vector<ConfigField>& fields) {
  Json::Object object;
  for (const ConfigField& field : fields) object.emplace_back(field.name, value_json(field));
  return object;
}

std::string to_yaml(const std::vector<ConfigField>& fields) {
  std::string out;
  write_yaml(fields, 0, out);
  return out;
}

std::string to_markdown(const std::vector<ConfigField>& fields) {
  std::string out = kHeader;
  for (const ConfigField& field : fields)
    if (!is_section(field)) write_row(field, "", out);
  for (const ConfigField& section : fields) {
    if (!is_section(section)) continue;
    out += fmt::format("\n## {}\n\n{}\n\n{}", section.name, section.doc, kHeader);
    for (const ConfigField& field : section.children) write_row(field, "", out);
  }
  return out;
}

std::vector<ConfigDifference> differences(const std::vector<ConfigField>& before,
                                          const std::vector<ConfigField>& after) {
  std::vector<ConfigDifference> all, old;
  flatten(after, "", all);
  flatten(before, "", old);
  std::vector<ConfigDifference> different;
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].before = old[i].before;
    if (all[i].before != all[i].after) different.push_back(all[i]);
  }
  return different;
}

}  // namespace config_detail
}  // namespace weft
