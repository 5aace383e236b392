#include "core/text/jinja/globals.h"

#include <array>
#include <ctime>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/filters.h"
#include "core/text/jinja/printing.h"

namespace weft::text::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // of the sandbox

Value range(Evaluator&, const Arguments& arguments) {
  if (!arguments.named.empty() || arguments.positional.empty() || arguments.positional.size() > 3)
    template_error("range() takes one to three integers");
  std::array<int64_t, 3> numbers = {0, 0, 1};
  const Values& given = arguments.positional;
  for (size_t i = 0; i < given.size(); ++i)
    numbers[given.size() == 1 ? 1 : i] = integer_argument(&given[i], 0, "range");
  if (numbers[2] == 0) template_error("range(): the step cannot be zero");
  const Value value = Value::range(numbers[0], numbers[1], numbers[2]);
  const int64_t size = value.get<Range>()->size();
  if (size > kMaxRange || size < 0)
    template_error("range() of {} numbers: more than {} are not allowed", size, kMaxRange);
  return value;
}

Items dict_items(Evaluator& evaluator, const Arguments& arguments, const char* name) {
  if (arguments.positional.size() > 1)
    template_error("{}() takes at most one positional argument", name);
  Items items;
  Meter& meter = evaluator.meter();
  for (const Value& source : arguments.positional) {
    require_defined(source);
    if (const Dict* dict = source.get<Dict>()) {
      meter.charge(dict->items.size());
      items = dict->items;
      continue;
    }
    for (const Value& pair : iterate(source, meter, "making a dict of")) {
      Values parts = iterate(pair, meter, "unpacking");
      if (parts.size() != 2) template_error("{}() needs pairs", name);
      put(items, parts[0], parts[1], meter);
    }
  }
  for (const auto& [key, value] : arguments.named) put(items, Value(key), value, meter);
  return items;
}

Value dict(Evaluator& evaluator, const Arguments& arguments) {
  return Value::dict(dict_items(evaluator, arguments, "dict"));
}

Value name_space(Evaluator& evaluator, const Arguments& arguments) {
  auto space = std::make_unique<Namespace>();
  for (const auto& [key, value] : dict_items(evaluator, arguments, "namespace"))
    if (key.is_string()) space->set(key.text(), value);
  return Value(evaluator.own(std::move(space)));
}

Value raise_exception(Evaluator& evaluator, const Arguments& arguments) {
  const auto given = arguments.bind("raise_exception()", {"message"}, 1);
  template_error("the template refuses this conversation: {}",
                 to_text(*given[0], evaluator.meter()));
}

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  localtime_r(&now, &parts);
  return parts;
}

Value strftime_now(Evaluator& evaluator, const Arguments& arguments) {
  const auto given = arguments.bind("strftime_now()", {"format"}, 1);
  if (!given[0]->is_string() || given[0]->text().size() > 256)
    template_error("strftime_now() needs a short string");
  const std::string& format = given[0]->text();
  if (format.empty()) return Value("");
  const auto& now = evaluator.options().now;
  const std::tm parts = now ? now() : local_time();
  std::array<char, 4096> text;
  return Value(
      std::string(text.data(), std::strftime(text.data(), text.size(), format.c_str(), &parts)));
}

class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  const char* type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value call(Evaluator&, const Arguments&) override {
    if (used_) return separator_;
    used_ = true;
    return Value("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value joiner(Evaluator& evaluator, const Arguments& arguments) {
  const auto given = arguments.bind("joiner()", {"sep"});
  return Value(evaluator.own(std::make_unique<Joiner>(given[0] ? *given[0] : Value(", "))));
}

}  // namespace

const std::vector<std::pair<std::string, Function::Body>>& global_functions() {
  static const std::vector<std::pair<std::string, Function::Body>> kFunctions = {
      {"range", range},
      {"dict", dict},
      {"namespace", name_space},
      {"joiner", joiner},
      {"raise_exception", raise_exception},
      {"strftime_now", strftime_now}};
  return kFunctions;
}

}  // namespace weft::text::jinja
