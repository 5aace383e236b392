// A JSON value. Objects keep the order of the file. Parsing is bounded in depth and size and
// refuses duplicate keys, so that it is safe on files from strangers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace weft {

struct JsonLimits {
  int max_depth = 128;
  size_t max_bytes = size_t{1} << 30;
};

class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  Json(int value) : value_(int64_t{value}) {}
  Json(int64_t value) : value_(value) {}
  Json(size_t value) : value_(static_cast<int64_t>(value)) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  // `where` names the source in errors ("models/x/config.json", "data.jsonl:17").
  // Throws bad_data: not JSON (with line and column), duplicate key, past a limit, invalid UTF-8.
  static Json parse(std::string_view text, const std::string& where, const JsonLimits& limits = {});
  // Reads and parses a file. Throws no_input when it is missing.
  static Json parse_file(const std::string& path, const JsonLimits& limits = {});

  // indent < 0: one line, ", " and ": " as separators (as Python's json.dumps); non-ASCII stays
  // UTF-8.
  std::string dump(int indent = -1) const;

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_double() const { return std::holds_alternative<double>(value_); }
  bool is_number() const { return is_int() || is_double(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // Typed access. Throws bad_data naming the expected and the found type; as_double takes an int
  // too.
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;
  const std::string& as_string() const;
  const Array& as_array() const;
  const Object& as_object() const;
  Array& array();    // turns null into an empty array
  Object& object();  // turns null into an empty object

  // Member of an object, linear in its size. find: nullptr when absent or null-object; at: throws
  // bad_data.
  const Json* find(std::string_view key) const;
  const Json& at(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  void set(std::string key, Json value);  // replaces or appends

  bool operator==(const Json& other) const { return value_ == other.value_; }

 private:
  const char* type_name() const;
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

}  // namespace weft
