#include "core/text/json_fields.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"

namespace weft::text {

JsonFields::JsonFields(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) fail(ErrorKind::bad_data, "{}: expected an object", where_);
}

const Json* JsonFields::find(std::string_view key) {
  read_.push_back(key);
  const Json* value = object_.find(key);
  return value && !value->is_null() ? value : nullptr;
}

const Json& JsonFields::at(std::string_view key) {
  const Json* value = find(key);
  if (!value) fail(ErrorKind::bad_data, "{}: '{}' is missing", where_, key);
  return *value;
}

const std::string& JsonFields::string(std::string_view key) {
  const Json& value = at(key);
  if (!value.is_string()) wrong_type(key, "a string");
  return value.as_string();
}

std::string JsonFields::string_or(std::string_view key, std::string fallback) {
  return find(key) ? string(key) : std::move(fallback);
}

bool JsonFields::boolean(std::string_view key) {
  const Json& value = at(key);
  if (!value.is_bool()) wrong_type(key, "true or false");
  return value.as_bool();
}

bool JsonFields::boolean_or(std::string_view key, bool fallback) {
  return find(key) ? boolean(key) : fallback;
}

int64_t JsonFields::integer(std::string_view key) {
  const Json& value = at(key);
  if (!value.is_int()) wrong_type(key, "an integer");
  return value.as_int();
}

const Json::Array& JsonFields::array(std::string_view key) {
  const Json& value = at(key);
  if (!value.is_array()) wrong_type(key, "an array");
  return value.as_array();
}

void JsonFields::ignore(std::initializer_list<std::string_view> keys) {
  read_.insert(read_.end(), keys);
}

void JsonFields::finish() const {
  for (const auto& [key, value] : object_.as_object())
    if (!value.is_null() && std::find(read_.begin(), read_.end(), key) == read_.end())
      fail(ErrorKind::bad_data,
           "{}: unknown field '{}': it may change the result, so it is not ignored", where_, key);
}

void JsonFields::wrong_type(std::string_view key, const char* expected) const {
  fail(ErrorKind::bad_data, "{}: '{}' must be {}", where_, key, expected);
}

}  // namespace weft::text
