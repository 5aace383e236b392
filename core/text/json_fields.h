// Strict reading of one JSON object: typed fields with defaults, and an error for every field that
// nobody asked for.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace weft::text {

// Every error is bad_data and names `where` and the key. The object must outlive this.
class JsonFields {
 public:
  JsonFields(const Json& object, std::string where);

  const std::string& where() const { return where_; }
  // Absent and null are the same: nullptr.
  const Json* find(std::string_view key);
  const Json& at(std::string_view key);

  const std::string& string(std::string_view key);
  std::string string_or(std::string_view key, std::string fallback);
  bool boolean(std::string_view key);
  bool boolean_or(std::string_view key, bool fallback);
  int64_t integer(std::string_view key);
  const Json::Array& array(std::string_view key);

  // Fields that have no effect here; read on purpose.
  void ignore(std::initializer_list<std::string_view> keys);
  // Throws when a field was not read: an unknown field may change the result.
  void finish() const;

 private:
  [[noreturn]] void wrong_type(std::string_view key, const char* expected) const;

  const Json& object_;
  std::string where_;
  std::vector<std::string_view> read_;
};

}  // namespace weft::text
