// Filters of texts.
#include <algorithm>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/filters.h"
#include "core/text/jinja/formatting.h"
#include "core/text/jinja/printing.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/unicode.h"

namespace weft::text::jinja {
namespace {

bool is_markup(const Value& value) {
  return value.is_string() && value.get<String>()->markup;
}

template <std::string (*change)(std::string_view)>
Value changed(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("the filter", {});
  const std::string text = to_text(input, evaluator.meter());
  evaluator.meter().charge(text.size() / 8);
  return Value(change(text), is_markup(input));
}

Value trim(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("trim", {"chars"});
  const std::string text = to_text(input, evaluator.meter());
  if (!given[0] || given[0]->is_none())
    return Value(std::string(strip(text, Side::both, std::nullopt)), is_markup(input));
  if (!given[0]->is_string()) template_error("trim needs a string of characters");
  return Value(std::string(strip(text, Side::both, given[0]->text())), is_markup(input));
}

Value string(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("string", {});
  return input.is_string() ? input : Value(to_text(input, evaluator.meter()));
}

Value replace_filter(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("replace", {"old", "new", "count"}, 2);
  Meter& meter = evaluator.meter();
  const std::string text = to_text(input, meter), from = to_text(*given[0], meter),
                    to = to_text(*given[1], meter);
  const bool limited = given[2] && !given[2]->is_none();
  const int64_t limit = limited ? integer_argument(given[2], -1, "count") : -1;
  return Value(replaced(text, from, to, limit, meter));
}

Value indent(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("indent", {"width", "first", "blank"});
  require_defined(input);
  if (!input.is_string())
    template_error("indent needs a string, not a value of type '{}'", input.type_name());
  const bool first = flag_argument(given[1]), blank = flag_argument(given[2]);
  Meter& meter = evaluator.meter();
  std::string indentation;
  if (given[0] && given[0]->is_string()) {
    indentation = given[0]->text();
  } else {
    const int64_t width = std::max<int64_t>(0, integer_argument(given[0], 4, "width"));
    meter.charge_bytes(static_cast<size_t>(width));
    indentation.assign(static_cast<size_t>(width), ' ');
  }
  meter.charge_bytes(input.text().size());
  const std::string text = input.text() + "\n";
  meter.charge(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')));
  std::string out = first ? indentation : "";
  bool at_first = true;
  for (std::string_view line : split_lines(text)) {
    if (!at_first) out += "\n";
    if (!at_first && (blank || !line.empty())) out += indentation;
    at_first = false;
    out += line;
    meter.charge_bytes(indentation.size() + line.size());
    meter.check_size(out.size());
  }
  return Value(std::move(out), is_markup(input));
}

Value safe(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("safe", {});
  return Value(to_text(input, evaluator.meter()), /*markup=*/true);
}

Value escape(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("escape", {});
  if (is_markup(input)) return input;
  const std::string text = to_text(input, evaluator.meter());
  evaluator.meter().charge_bytes(text.size() * 5);
  return Value(html_escaped(text), /*markup=*/true);
}

Value format(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  if (!arguments.named.empty() && !arguments.positional.empty())
    template_error("format takes positional or named arguments, not both");
  Items named;
  for (const auto& [name, value] : arguments.named) named.emplace_back(Value(name), value);
  return Value(percent_format(
      to_text(input, evaluator.meter()),
      named.empty() ? Value::tuple(arguments.positional) : Value::dict(std::move(named)),
      evaluator.meter()));
}

Value join(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("join", {"d", "attribute"});
  Meter& meter = evaluator.meter();
  const std::string separator = given[0] ? to_text(*given[0], meter) : "";
  std::string out;
  bool first = true;
  for (const Value& item : iterate(input, meter, "joining")) {
    if (!first) out += separator;
    first = false;
    out += to_text(attribute_at(evaluator, item, given[1]), meter);
    meter.charge_bytes(separator.size());
    meter.check_size(out.size());
  }
  return Value(std::move(out));
}

Value center(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given = arguments.bind("center", {"width"});
  const Value width = given[0] ? *given[0] : Value(int64_t{80});
  const Value text(to_text(input, evaluator.meter()), is_markup(input));
  return evaluator.call(Value::method(text, "center"), {{width}, {}});
}

Value wordcount(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  arguments.bind("wordcount", {});
  const std::string text = to_text(input, evaluator.meter());
  int64_t count = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    const bool part = is_name_part(next_code_point(text, i));
    count += part && !inside ? 1 : 0;
    inside = part;
  }
  return count;
}

Value tojson(Evaluator& evaluator, const Value& input, const Arguments& arguments) {
  const auto given =
      arguments.bind("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  Meter& meter = evaluator.meter();
  JsonStyle style;
  style.ensure_ascii = flag_argument(given[0]);
  style.sort_keys = flag_argument(given[3]);
  if (given[1] && given[1]->is_string()) {
    style.indent = given[1]->text();
  } else if (given[1] && !given[1]->is_none()) {
    const int64_t width = std::max<int64_t>(0, integer_argument(given[1], 0, "indent"));
    meter.charge_bytes(static_cast<size_t>(width));
    style.indent = std::string(static_cast<size_t>(width), ' ');
  }
  if (style.indent) style.comma = ",";
  if (given[2] && !given[2]->is_none()) {
    const Values separators = iterate(*given[2], meter, "unpacking");
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string())
      template_error("tojson: separators must be two strings");
    style.comma = separators[0].text();
    style.colon = separators[1].text();
  }
  return Value(to_json(input, style, meter));
}

}  // namespace

const Filters& text_filters() {
  static const Filters kFilters = {{"trim", trim},
                                   {"string", string},
                                   {"replace", replace_filter},
                                   {"upper", changed<to_upper>},
                                   {"lower", changed<to_lower>},
                                   {"title", changed<title_filter>},
                                   {"capitalize", changed<capitalize>},
                                   {"indent", indent},
                                   {"safe", safe},
                                   {"escape", escape},
                                   {"e", escape},
                                   {"format", format},
                                   {"join", join},
                                   {"center", center},
                                   {"wordcount", wordcount},
                                   {"tojson", tojson}};
  return kFilters;
}

}  // namespace weft::text::jinja
