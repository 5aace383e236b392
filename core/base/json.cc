#include "core/base/json.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unordered_set>

#include "core/base/error.h"

namespace weft {
namespace {

// Builds a Json from nlohmann's events, so that order, duplicates and limits are ours.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(std::string_view text, const std::string& where, const JsonLimits& limits)
      : text_(text), where_(where), limits_(limits) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(Json()); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(int64_t{value})); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(INT64_MAX)) return add(Json(static_cast<double>(value)));
    return add(Json(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t&) override { return add(Json(value)); }
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json(Json::Object{})); }
  bool key(string_t& value) override {
    Frame& frame = stack_.back();
    if (!frame.seen.insert(value).second)
      fail(ErrorKind::bad_data, "{}: duplicate key '{}'", where_, value);
    frame.key = std::move(value);
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json(Json::Array{})); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& e) override {
    size_t end = std::min(position, text_.size());
    size_t line = 1 + std::count(text_.begin(), text_.begin() + end, '\n');
    size_t last = text_.substr(0, end).rfind('\n');
    size_t column = last == std::string_view::npos ? end : end - last - 1;
    fail(ErrorKind::bad_data, "{}: not valid JSON at line {}, column {}: {}", where_, line, column,
         e.what());
  }

 private:
  struct Frame {
    Json value;
    std::string key;
    std::unordered_set<std::string> seen;
  };

  bool open(Json value) {
    if (static_cast<int>(stack_.size()) >= limits_.max_depth)
      fail(ErrorKind::bad_data, "{}: JSON nested deeper than {}", where_, limits_.max_depth);
    stack_.push_back({std::move(value), {}, {}});
    return true;
  }
  bool close() {
    Json value = std::move(stack_.back().value);
    stack_.pop_back();
    return add(std::move(value));
  }
  bool add(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (stack_.back().value.is_array()) {
      stack_.back().value.array().push_back(std::move(value));
    } else {
      stack_.back().value.object().emplace_back(std::move(stack_.back().key), std::move(value));
    }
    return true;
  }

  std::string_view text_;
  const std::string& where_;
  const JsonLimits& limits_;
  Json root_;
  std::vector<Frame> stack_;
};

std::string quote(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void write(const Json& value, int indent, int depth, std::string& out) {
  const std::string line = indent < 0 ? "" : "\n" + std::string(size_t(indent) * (depth + 1), ' ');
  const std::string last = indent < 0 ? "" : "\n" + std::string(size_t(indent) * depth, ' ');
  const char* comma = indent < 0 ? ", " : ",";
  if (value.is_object()) {
    if (value.as_object().empty()) return void(out += "{}");
    out += '{';
    bool first = true;
    for (const auto& [key, member] : value.as_object()) {
      if (!first) out += comma;
      first = false;
      out += line + quote(key) + ": ";
      write(member, indent, depth + 1, out);
    }
    out += last + '}';
  } else if (value.is_array()) {
    if (value.as_array().empty()) return void(out += "[]");
    out += '[';
    bool first = true;
    for (const Json& element : value.as_array()) {
      if (!first) out += comma;
      first = false;
      out += line;
      write(element, indent, depth + 1, out);
    }
    out += last + ']';
  } else if (value.is_string()) {
    out += quote(value.as_string());
  } else if (value.is_bool()) {
    out += value.as_bool() ? "true" : "false";
  } else if (value.is_int()) {
    out += std::to_string(value.as_int());
  } else if (value.is_double()) {
    out += nlohmann::json(value.as_double()).dump();
  } else {
    out += "null";
  }
}

}  // namespace

Json Json::parse(std::string_view text, const std::string& where, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    fail(ErrorKind::bad_data, "{}: JSON of {} bytes is larger than the limit of {}", where,
         text.size(), limits.max_bytes);
  Builder builder(text, where, limits);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json Json::parse_file(const std::string& path, const JsonLimits& limits) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(ErrorKind::no_input, "{}: cannot be opened: {}", path, std::strerror(errno));
  std::ostringstream text;
  text << in.rdbuf();
  return parse(text.str(), path, limits);
}

std::string Json::dump(int indent) const {
  std::string out;
  write(*this, indent, 0, out);
  return out;
}

const char* Json::type_name() const {
  static constexpr const char* kNames[] = {"null",     "a boolean", "an integer", "a number",
                                           "a string", "an array",  "an object"};
  return kNames[value_.index()];
}

bool Json::as_bool() const {
  if (!is_bool()) fail(ErrorKind::bad_data, "expected a boolean, found {}", type_name());
  return std::get<bool>(value_);
}
int64_t Json::as_int() const {
  if (!is_int()) fail(ErrorKind::bad_data, "expected an integer, found {}", type_name());
  return std::get<int64_t>(value_);
}
double Json::as_double() const {
  if (is_int()) return static_cast<double>(std::get<int64_t>(value_));
  if (!is_double()) fail(ErrorKind::bad_data, "expected a number, found {}", type_name());
  return std::get<double>(value_);
}
const std::string& Json::as_string() const {
  if (!is_string()) fail(ErrorKind::bad_data, "expected a string, found {}", type_name());
  return std::get<std::string>(value_);
}
const Json::Array& Json::as_array() const {
  if (!is_array()) fail(ErrorKind::bad_data, "expected an array, found {}", type_name());
  return std::get<Array>(value_);
}
const Json::Object& Json::as_object() const {
  if (!is_object()) fail(ErrorKind::bad_data, "expected an object, found {}", type_name());
  return std::get<Object>(value_);
}
Json::Array& Json::array() {
  if (is_null()) value_ = Array{};
  as_array();
  return std::get<Array>(value_);
}
Json::Object& Json::object() {
  if (is_null()) value_ = Object{};
  as_object();
  return std::get<Object>(value_);
}

const Json* Json::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const auto& [name, value] : as_object())
    if (name == key) return &value;
  return nullptr;
}
const Json& Json::at(std::string_view key) const {
  as_object();
  const Json* value = find(key);
  if (!value) fail(ErrorKind::bad_data, "key '{}' is missing", key);
  return *value;
}
void Json::set(std::string key, Json value) {
  for (auto& [name, old] : object())
    if (name == key) return void(old = std::move(value));
  object().emplace_back(std::move(key), std::move(value));
}

}  // namespace weft
