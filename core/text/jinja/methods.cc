#include "core/text/jinja/methods.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "core/base/error.h"
#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/formatting.h"
#include "core/text/jinja/printing.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/unicode.h"

namespace weft::text::jinja {
namespace {

using Names = std::unordered_set<std::string_view>;

struct Call {
  Evaluator& evaluator;
  const Value& self;
  const std::string& name;
  const Arguments& arguments;

  Meter& meter() const { return evaluator.meter(); }
  const std::string& text() const { return self.text(); }
  std::vector<const Value*> bind(std::initializer_list<const char*> parameters,
                                 size_t required = 0) const {
    return arguments.bind(name + "()", parameters, required);
  }
  // Texts keep the mark of `safe`.
  Value result(std::string_view text) const {
    meter().charge_bytes(text.size());
    return Value(std::string(text), self.get<String>()->markup);
  }
  const std::string& string(const Value& value) const {
    require_defined(value);
    if (!value.is_string())
      template_error("{}() needs a string, not a value of type '{}'", name, value.type_name());
    return value.text();
  }
  int64_t integer(const Value* value, int64_t otherwise) const {
    if (!value) return otherwise;
    if (auto integer = value->integer()) return *integer;
    template_error("{}() needs an integer, not a value of type '{}'", name, value->type_name());
  }
};

using Body = Value (*)(const Call&);

template <Side side>
Value strip_method(const Call& call) {
  const auto given = call.bind({"chars"});
  std::optional<std::string_view> characters;
  if (given[0] && !given[0]->is_none()) characters = call.string(*given[0]);
  return call.result(strip(call.text(), side, characters));
}

// No more parts than this, plus one, come of splitting a text at white space.
size_t count_spaces(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size();) count += is_space(next_code_point(text, i)) ? 1 : 0;
  return count;
}

template <bool right>
Value split_method(const Call& call) {
  const auto given = call.bind({"sep", "maxsplit"});
  std::optional<std::string_view> separator;
  if (given[0] && !given[0]->is_none()) separator = call.string(*given[0]);
  if (separator && separator->empty()) template_error("{}() with an empty separator", call.name);
  const int64_t limit = call.integer(given[1], -1);
  call.meter().charge(separator ? count_of(call.text(), *separator) : count_spaces(call.text()));
  Values parts;
  for (std::string_view part :
       right ? split_right(call.text(), separator, limit) : split(call.text(), separator, limit)) {
    call.meter().charge(1);
    parts.push_back(call.result(part));
  }
  return Value::list(std::move(parts));
}

Value splitlines(const Call& call) {
  const auto given = call.bind({"keepends"});
  call.meter().charge(count_spaces(call.text()));
  Values lines;
  for (std::string_view line : split_lines(call.text(), given[0] && is_true(*given[0])))
    lines.push_back(call.result(line));
  return Value::list(std::move(lines));
}

template <bool at_end>
Value starts_or_ends(const Call& call) {
  const auto given = call.bind({"prefix"}, 1);
  const std::string_view text = call.text();
  const auto matches = [&](const Value& value) {
    const std::string_view part = call.string(value);
    if (part.size() > text.size()) return false;
    return at_end ? text.substr(text.size() - part.size()) == part
                  : text.substr(0, part.size()) == part;
  };
  if (const Sequence* tuple = given[0]->sequence(SequenceKind::tuple))
    return std::any_of(tuple->items.begin(), tuple->items.end(), matches);
  return matches(*given[0]);
}

Value replace_method(const Call& call) {
  const auto given = call.bind({"old", "new", "count"}, 2);
  const std::string &from = call.string(*given[0]), &to = call.string(*given[1]);
  const int64_t limit = call.integer(given[2], -1);
  return call.result(replaced(call.text(), from, to, limit, call.meter()));
}

// find, rfind, index, rindex.
template <bool last, bool throws>
Value find_method(const Call& call) {
  const auto given = call.bind({"sub"}, 1);
  const std::string& part = call.string(*given[0]);
  const size_t at = last ? find_last(call.text(), part) : find_first(call.text(), part);
  if (at == std::string::npos && throws) template_error("{}(): the text is not there", call.name);
  if (at == std::string::npos) return int64_t{-1};
  return static_cast<int64_t>(count_code_points(std::string_view(call.text()).substr(0, at)));
}

Value count_method(const Call& call) {
  const auto given = call.bind({"sub"}, 1);
  return static_cast<int64_t>(count_of(call.text(), call.string(*given[0])));
}

Value join_method(const Call& call) {
  const auto given = call.bind({"iterable"}, 1);
  std::string text;
  bool first = true;
  for (const Value& item : iterate(*given[0], call.meter(), "joining")) {
    if (!first) text += call.text();
    first = false;
    text += call.string(item);
    call.meter().charge_bytes(item.text().size() + call.text().size());
    call.meter().check_size(text.size());
  }
  return call.result(text);
}

template <bool right>
Value partition(const Call& call) {
  const auto given = call.bind({"sep"}, 1);
  const std::string_view text = call.text(), separator = call.string(*given[0]);
  if (separator.empty()) template_error("{}() with an empty separator", call.name);
  const size_t at = right ? find_last(text, separator) : find_first(text, separator);
  if (at == std::string::npos && right)
    return Value::tuple({Value(""), Value(""), call.result(text)});
  if (at == std::string::npos) return Value::tuple({call.result(text), Value(""), Value("")});
  return Value::tuple({call.result(text.substr(0, at)), call.result(separator),
                       call.result(text.substr(at + separator.size()))});
}

template <std::string (*change)(std::string_view)>
Value changed(const Call& call) {
  call.bind({});
  call.meter().charge(call.text().size() / 8);
  return call.result(change(call.text()));
}

template <bool (*property)(char32_t)>
Value every(const Call& call) {
  call.bind({});
  return all_of(call.text(), property);
}

bool is_alnum(char32_t c) {
  return is_alpha(c) || is_digit(c);
}

template <bool at_end>
Value remove_affix(const Call& call) {
  const auto given = call.bind({"affix"}, 1);
  std::string_view text = call.text();
  const std::string_view affix = call.string(*given[0]);
  const bool there =
      text.size() >= affix.size() &&
      (at_end ? text.substr(text.size() - affix.size()) : text.substr(0, affix.size())) == affix;
  if (there) at_end ? text.remove_suffix(affix.size()) : text.remove_prefix(affix.size());
  return call.result(text);
}

// ljust, rjust, center, zfill; `side` is where the text goes.
Value justified(const Call& call) {
  const bool zeros = call.name == "zfill";
  const auto given = zeros ? call.bind({"width"}, 1) : call.bind({"width", "fillchar"}, 1);
  const std::string fill = zeros ? "0" : given[1] ? call.string(*given[1]) : " ";
  if (count_code_points(fill) != 1)
    template_error("{}() needs one character to fill with", call.name);
  const int64_t length = *length_of(call.self, call.meter());
  const int64_t missing = std::max<int64_t>(0, call.integer(given[0], 0) - length);
  if (missing == 0) return call.self;
  call.meter().charge_bytes(static_cast<size_t>(missing));
  call.meter().charge_bytes(static_cast<size_t>(missing) * fill.size());
  const int64_t middle = missing / 2 + (missing & (length + missing) & 1);
  const int64_t left = call.name == "ljust" ? 0 : call.name == "center" ? middle : missing;
  const bool sign =
      zeros && !call.text().empty() && (call.text()[0] == '-' || call.text()[0] == '+');
  std::string text = call.text().substr(0, sign ? 1 : 0);
  for (int64_t i = 0; i < left; ++i) text += fill;
  text += call.text().substr(sign ? 1 : 0);
  for (int64_t i = left; i < missing; ++i) text += fill;
  return call.result(text);
}

const std::unordered_map<std::string_view, Body>& string_methods() {
  static const std::unordered_map<std::string_view, Body> kMethods = {
      {"strip", strip_method<Side::both>},
      {"lstrip", strip_method<Side::left>},
      {"rstrip", strip_method<Side::right>},
      {"split", split_method<false>},
      {"rsplit", split_method<true>},
      {"splitlines", splitlines},
      {"startswith", starts_or_ends<false>},
      {"endswith", starts_or_ends<true>},
      {"replace", replace_method},
      {"find", find_method<false, false>},
      {"rfind", find_method<true, false>},
      {"index", find_method<false, true>},
      {"rindex", find_method<true, true>},
      {"count", count_method},
      {"join", join_method},
      {"partition", partition<false>},
      {"rpartition", partition<true>},
      {"upper", changed<to_upper>},
      {"lower", changed<to_lower>},
      {"title", changed<title>},
      {"capitalize", changed<capitalize>},
      {"isdigit", every<is_digit>},
      {"isalpha", every<is_alpha>},
      {"isalnum", every<is_alnum>},
      {"isspace", every<is_space>},
      {"isupper", [](const Call& call) -> Value { return call.bind({}), all_upper(call.text()); }},
      {"islower", [](const Call& call) -> Value { return call.bind({}), all_lower(call.text()); }},
      {"removeprefix", remove_affix<false>},
      {"removesuffix", remove_affix<true>},
      {"ljust", justified},
      {"rjust", justified},
      {"center", justified},
      {"zfill", justified},
      {"format",
       [](const Call& call) -> Value {
         return call.result(brace_format(call.evaluator, call.text(), call.arguments));
       }},
  };
  return kMethods;
}

Value list_index(const Call& call) {
  const auto given = call.bind({"value"}, 1);
  const Values& items = call.self.get<Sequence>()->items;
  for (size_t i = 0; i < items.size(); ++i)
    if (equal(items[i], *given[0], call.meter())) return static_cast<int64_t>(i);
  template_error("index(): the value is not there");
}

Value list_count(const Call& call) {
  const auto given = call.bind({"value"}, 1);
  const Values& items = call.self.get<Sequence>()->items;
  return static_cast<int64_t>(std::count_if(items.begin(), items.end(), [&](const Value& item) {
    return equal(item, *given[0], call.meter());
  }));
}

Value itself(const Call& call) {
  return call.bind({}), call.self;
}

const std::unordered_map<std::string_view, Body>& list_methods() {
  static const std::unordered_map<std::string_view, Body> kMethods = {
      {"index", list_index}, {"count", list_count}, {"copy", itself}};
  return kMethods;
}

Value dict_get(const Call& call) {
  const auto given = call.bind({"key", "default"}, 1);
  if (const Value* found = find_key(*call.self.get<Dict>(), *given[0], call.meter())) return *found;
  return given[1] ? *given[1] : Value(None{});
}

template <SequenceKind kind>
Value dict_view(const Call& call) {
  call.bind({});
  const Items& items = call.self.get<Dict>()->items;
  call.meter().charge(items.size());
  Values values;
  for (const auto& [key, value] : items) {
    if (kind == SequenceKind::dict_keys) values.push_back(key);
    if (kind == SequenceKind::dict_values) values.push_back(value);
    if (kind == SequenceKind::dict_items) values.push_back(Value::tuple({key, value}));
  }
  return Value::sequence(kind, std::move(values));
}

const std::unordered_map<std::string_view, Body>& dict_methods() {
  static const std::unordered_map<std::string_view, Body> kMethods = {
      {"get", dict_get},
      {"keys", dict_view<SequenceKind::dict_keys>},
      {"values", dict_view<SequenceKind::dict_values>},
      {"items", dict_view<SequenceKind::dict_items>},
      {"copy", itself}};
  return kMethods;
}

const std::unordered_map<std::string_view, Body>& loop_methods() {
  static const std::unordered_map<std::string_view, Body> kMethods = {
      {"cycle",
       [](const Call& call) {
         return dynamic_cast<Loop*>(call.self.object())->cycle(call.arguments);
       }},
      {"changed", [](const Call& call) {
         return dynamic_cast<Loop*>(call.self.object())->changed(call.evaluator, call.arguments);
       }}};
  return kMethods;
}

const std::unordered_map<std::string_view, Body>* methods_of(const Value& self) {
  if (self.is_string()) return &string_methods();
  if (self.get<Dict>()) return &dict_methods();
  if (self.sequence(SequenceKind::list) || self.sequence(SequenceKind::tuple))
    return &list_methods();
  if (dynamic_cast<Loop*>(self.object())) return &loop_methods();
  return nullptr;
}

bool is_forbidden(const Value& self, std::string_view name) {
  static const Names kList = {"append", "clear", "pop",    "reverse",
                              "insert", "sort",  "extend", "remove"};
  static const Names kDict = {"clear", "pop", "popitem", "setdefault", "update"};
  if (self.sequence(SequenceKind::list)) return kList.count(name) > 0;
  return self.get<Dict>() && kDict.count(name) > 0;
}

bool is_unsupported(const Value& self, std::string_view name) {
  static const Names kString = {"casefold",  "encode",       "expandtabs", "format_map",  "isascii",
                                "isdecimal", "isidentifier", "isnumeric",  "isprintable", "istitle",
                                "maketrans", "swapcase",     "translate"};
  if (self.is_string()) return kString.count(name) > 0;
  return self.get<Dict>() && name == "fromkeys";
}

}  // namespace

MethodStatus method_status(const Value& self, const std::string& name) {
  const auto* methods = methods_of(self);
  const bool copies_tuple = name == "copy" && self.sequence(SequenceKind::tuple);
  if (methods && methods->count(name) > 0 && !copies_tuple) return MethodStatus::supported;
  if (is_forbidden(self, name)) return MethodStatus::forbidden;
  return is_unsupported(self, name) ? MethodStatus::unsupported : MethodStatus::absent;
}

Value call_method(Evaluator& evaluator, const Value& self, const std::string& name,
                  const Arguments& arguments) {
  const auto* methods = methods_of(self);
  CHECK(methods && methods->count(name) > 0, "method {}", name);
  if (self.is_string()) evaluator.meter().charge_bytes(self.text().size());
  return methods->at(name)({evaluator, self, name, arguments});
}

}  // namespace weft::text::jinja
