// What a config struct says about its fields; see config.h.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/enum_name.h"
#include "core/base/units.h"

namespace weft {

struct ConfigField;

// An enum, its type forgotten: index into `names`.
struct ConfigChoice {
  std::vector<std::string> names;
  std::function<size_t()> get;
  std::function<void(size_t)> set;
};

// A list of structs. A scalar stands for an element of which only the first field is given; one
// element need not be written as a list.
struct ConfigList {
  std::function<size_t()> size;
  std::function<void(size_t)> resize;
  std::function<std::vector<ConfigField>(size_t)> fields_of;
  std::shared_ptr<void> sample;  // owner of what ConfigField::children of a list point to
};

struct ConfigField {
  using Value =
      std::variant<std::monostate /* section */, bool*, int64_t*, double*, std::string*,
                   std::vector<std::string>*, Bytes*, Duration*, ConfigChoice, ConfigList>;
  std::string name;
  std::string doc;
  Value value;
  std::vector<ConfigField> children = {};  // of a section; of a list: an element's, with defaults
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool minimum_excluded = false;
  std::string word = {};  // stands for the integer `word_value`: "auto" for 0
  int64_t word_value = 0;
  double bare_unit_seconds = 1;  // what a duration without a unit counts
  bool may_change_on_resume = false;

  // Setters, chained behind ConfigVisitor::field.
  ConfigField& at_least(double low) { return between(low, maximum); }
  ConfigField& above(double low) {
    minimum_excluded = true;
    return between(low, maximum);
  }
  ConfigField& between(double low, double high) {
    minimum = low;
    maximum = high;
    return *this;
  }
  ConfigField& word_for(std::string text, int64_t meaning) {
    word = std::move(text);
    word_value = meaning;
    return *this;
  }
  ConfigField& bare_unit(Duration unit) {
    bare_unit_seconds = unit.seconds;
    return *this;
  }
  ConfigField& may_change();  // with all children
};

// Collects the fields of a struct, in order.
class ConfigVisitor {
 public:
  // V: bool, int64_t, double, std::string, std::vector<std::string>, Bytes, Duration.
  template <class V>
  ConfigField& field(const char* name, V& value, const char* doc) {
    return add({name, doc, &value});
  }
  template <class E, size_t N>
  ConfigField& field(const char* name, E& value, const EnumName<E> (&names)[N], const char* doc) {
    ConfigChoice choice;
    for (const auto& entry : names) choice.names.push_back(entry.name);
    choice.get = [&value, &names] {
      size_t i = 0;
      while (i + 1 < N && names[i].value != value) ++i;
      return i;
    };
    choice.set = [&value, &names](size_t i) { value = names[i].value; };
    return add({name, doc, std::move(choice)});
  }
  template <class S>
  ConfigField& section(const char* name, S& value, const char* doc) {
    return add({name, doc, {}, fields_of(value)});
  }
  template <class S>
  ConfigField& list(const char* name, std::vector<S>& values, const char* doc) {
    auto sample = std::make_shared<S>();
    ConfigList list{[&values] { return values.size(); }, [&values](size_t n) { values.resize(n); },
                    [&values](size_t i) { return fields_of(values[i]); }, sample};
    return add({name, doc, std::move(list), fields_of(*sample)});
  }
  std::vector<ConfigField>& fields() & { return fields_; }
  std::vector<ConfigField> fields() && { return std::move(fields_); }

 private:
  template <class S>
  static std::vector<ConfigField> fields_of(S& value) {
    ConfigVisitor visitor;
    value.visit(visitor);
    return std::move(visitor.fields_);
  }
  ConfigField& add(ConfigField field) { return fields_.emplace_back(std::move(field)); }

  std::vector<ConfigField> fields_;
};

}  // namespace weft
