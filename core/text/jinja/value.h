// The values that templates compute with: Python's, as far as templates can tell. Containers are
// immutable and shared; what changes (namespaces, loops) is an Object, owned by the evaluator, so
// that no reference can form a cycle. Containers nest at most kMaxNesting deep.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/json.h"
#include "core/text/jinja/meter.h"

namespace weft::text::jinja {

constexpr int kMaxNesting = 100;

class Value;
using Values = std::vector<Value>;
using Items = std::vector<std::pair<Value, Value>>;

struct Undefined {
  std::shared_ptr<const std::string> why;  // what to say when it is used
};
struct None {};
struct String {
  std::string text;
  bool markup = false;  // came through `safe` or `escape`: + escapes what is joined to it
};
enum class SequenceKind { list, tuple, dict_keys, dict_values, dict_items };
struct Sequence {
  SequenceKind kind;
  Values items;
  int nesting = 1;
};
struct Dict {
  Items items;  // in order of insertion
  int nesting = 1;
};
struct Range {
  int64_t start, stop, step;
  int64_t size() const;
};
struct Iterator {  // Python's generators: true, without length, good for one pass
  Values items;
  int nesting = 1;
};
struct Method;  // a method that was named but not called
class Object;

class Value {
 public:
  using Data = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const String>,
                            std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>,
                            std::shared_ptr<const Range>, std::shared_ptr<Iterator>,
                            std::shared_ptr<const Method>, Object*>;

  Value() = default;  // undefined
  Value(None) : data_(None{}) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::string text, bool markup = false);
  Value(const char* text) : Value(std::string(text)) {}
  Value(Object* object) : data_(object) {}
  static Value undefined(std::string why);
  static Value list(Values items) { return sequence(SequenceKind::list, std::move(items)); }
  static Value tuple(Values items) { return sequence(SequenceKind::tuple, std::move(items)); }
  static Value sequence(SequenceKind kind, Values items);
  static Value dict(Items items);
  static Value range(int64_t start, int64_t stop, int64_t step);
  static Value iterator(Values items);
  static Value method(Value self, std::string name);
  static Value from_json(const Json& json);

  template <class T>
  const T* get() const {  // of the alternatives that are shared, what they point to
    if constexpr (std::is_same_v<T, String> || std::is_same_v<T, Sequence> ||
                  std::is_same_v<T, Dict> || std::is_same_v<T, Range> ||
                  std::is_same_v<T, Method>) {
      auto* shared = std::get_if<std::shared_ptr<const T>>(&data_);
      return shared ? shared->get() : nullptr;
    } else {
      return std::get_if<T>(&data_);
    }
  }
  Iterator* iterator() const;
  Object* object() const;
  const Sequence* sequence(SequenceKind kind) const;  // only of that kind

  bool is_undefined() const { return get<Undefined>() != nullptr; }
  bool is_none() const { return get<None>() != nullptr; }
  bool is_string() const { return get<String>() != nullptr; }
  const std::string& text() const { return get<String>()->text; }  // REQUIRES is_string()
  std::optional<int64_t> integer() const;  // integers, and booleans as 0 and 1
  std::optional<double> number() const;    // integers, booleans and floats

  const char* type_name() const;  // Python's
  int nesting() const;
  const void* identity() const;  // of shared things and objects; null for plain ones

 private:
  Data data_;
};

struct Method {
  Value self;
  std::string name;
};

}  // namespace weft::text::jinja
