#include "core/text/jinja/printing.h"

#include <algorithm>
#include <cmath>

#include "core/text/jinja/strings.h"

namespace weft::text::jinja {
namespace {

class ReprWriter {
 public:
  explicit ReprWriter(Meter& meter) : meter_(meter) {}

  std::string take() { return std::move(out_); }

  void write(const Value& value) {
    if (const Sequence* s = value.get<Sequence>()) return write_sequence(*s);
    if (const Dict* d = value.get<Dict>()) return write_dict(*d);
    if (value.is_string()) {
      meter_.charge(value.text().size() / 8);
      if (value.get<String>()->markup) return add("Markup(" + quoted(value.text()) + ")");
      return add(quoted(value.text()));
    }
    add(value.is_undefined() ? "Undefined" : plain(value));
  }

  // Everything that prints alike alone and within a container.
  static std::string plain(const Value& value) {
    if (value.is_none()) return "None";
    if (const bool* b = value.get<bool>()) return *b ? "True" : "False";
    if (const int64_t* i = value.get<int64_t>()) return std::to_string(*i);
    if (const double* d = value.get<double>()) return float_text(*d);
    if (const Range* r = value.get<Range>()) {
      if (r->step == 1) return fmt::format("range({}, {})", r->start, r->stop);
      return fmt::format("range({}, {}, {})", r->start, r->stop, r->step);
    }
    template_error("printing a value of type '{}' is not supported", value.type_name());
  }

 private:
  void add(std::string_view text) {
    meter_.check_size(out_.size() + text.size());
    meter_.charge_bytes(text.size());
    out_ += text;
  }

  void write_items(const Values& items) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) add(", ");
      write(items[i]);
    }
  }

  void write_sequence(const Sequence& sequence) {
    const bool tuple = sequence.kind == SequenceKind::tuple;
    const bool view = !tuple && sequence.kind != SequenceKind::list;
    if (sequence.kind == SequenceKind::dict_keys) add("dict_keys(");
    if (sequence.kind == SequenceKind::dict_values) add("dict_values(");
    if (sequence.kind == SequenceKind::dict_items) add("dict_items(");
    add(tuple ? "(" : "[");
    write_items(sequence.items);
    if (tuple && sequence.items.size() == 1) add(",");
    add(tuple ? ")" : "]");
    if (view) add(")");
  }

  void write_dict(const Dict& dict) {
    add("{");
    for (size_t i = 0; i < dict.items.size(); ++i) {
      if (i > 0) add(", ");
      write(dict.items[i].first);
      add(": ");
      write(dict.items[i].second);
    }
    add("}");
  }

  Meter& meter_;
  std::string out_;
};

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, Meter& meter) : style_(style), meter_(meter) {}

  std::string take() { return std::move(out_); }

  void write(const Value& value, int level) {
    const Sequence* sequence = value.get<Sequence>();
    if (sequence && (sequence->kind == SequenceKind::list || sequence->kind == SequenceKind::tuple))
      return write_array(*sequence, level);
    if (const Dict* dict = value.get<Dict>()) return write_object(*dict, level);
    if (value.is_string()) {
      meter_.charge(value.text().size() / 8);
      return add(json_quoted(value.text(), style_.ensure_ascii));
    }
    add(plain(value));
  }

 private:
  static std::string plain(const Value& value) {
    if (value.is_none()) return "null";
    if (const bool* b = value.get<bool>()) return *b ? "true" : "false";
    if (const int64_t* i = value.get<int64_t>()) return std::to_string(*i);
    if (const double* d = value.get<double>()) {
      if (std::isnan(*d)) return "NaN";
      if (std::isinf(*d)) return *d < 0 ? "-Infinity" : "Infinity";
      return float_text(*d);
    }
    if (value.is_undefined() && value.get<Undefined>()->why)
      template_error("{}: it cannot be written as JSON", *value.get<Undefined>()->why);
    template_error("a value of type '{}' cannot be written as JSON", value.type_name());
  }

  std::string key(const Value& value) const {
    if (value.is_string()) return value.text();
    if (value.get<Sequence>())
      template_error("JSON keys cannot be of type '{}'", value.type_name());
    return plain(value);
  }

  void add(std::string_view text) {
    meter_.check_size(out_.size() + text.size());
    meter_.charge_bytes(text.size());
    out_ += text;
  }

  void line(int level) {
    if (!style_.indent) return;
    add("\n");
    for (int i = 0; i < level; ++i) add(*style_.indent);
  }

  void write_array(const Sequence& sequence, int level) {
    if (sequence.items.empty()) return add("[]");
    add("[");
    for (size_t i = 0; i < sequence.items.size(); ++i) {
      if (i > 0) add(style_.comma);
      line(level + 1);
      write(sequence.items[i], level + 1);
    }
    line(level);
    add("]");
  }

  void write_object(const Dict& dict, int level) {
    if (dict.items.empty()) return add("{}");
    std::vector<std::pair<std::string, const Value*>> members;
    for (const auto& [name, value] : dict.items) members.emplace_back(key(name), &value);
    const auto by_key = [](const auto& a, const auto& b) { return a.first < b.first; };
    if (style_.sort_keys) std::stable_sort(members.begin(), members.end(), by_key);
    add("{");
    for (size_t i = 0; i < members.size(); ++i) {
      if (i > 0) add(style_.comma);
      line(level + 1);
      add(json_quoted(members[i].first, style_.ensure_ascii));
      add(style_.colon);
      write(*members[i].second, level + 1);
    }
    line(level);
    add("}");
  }

  const JsonStyle& style_;
  Meter& meter_;
  std::string out_;
};

}  // namespace

std::string to_repr(const Value& value, Meter& meter) {
  ReprWriter writer(meter);
  writer.write(value);
  return writer.take();
}

std::string to_text(const Value& value, Meter& meter) {
  if (value.is_undefined()) return "";
  if (value.is_string()) return meter.charge_bytes(value.text().size()), value.text();
  return to_repr(value, meter);
}

std::string to_json(const Value& value, const JsonStyle& style, Meter& meter) {
  JsonWriter writer(style, meter);
  writer.write(value, 0);
  return writer.take();
}

}  // namespace weft::text::jinja
