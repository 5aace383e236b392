#include "core/text/jinja/formatting.h"

#include <algorithm>
#include <cmath>

#include "core/text/jinja/compare.h"
#include "core/text/jinja/evaluator.h"
#include "core/text/jinja/printing.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/unicode.h"

namespace weft::text::jinja {
namespace {

constexpr size_t npos = std::string_view::npos;
constexpr int kMaxPrecision = 100;

// [[fill]align][sign][#][0][width][,][.precision][type]
struct Format {
  std::string fill = " ";
  char align = '\0';
  char sign = '-';
  bool alternate = false;
  bool comma = false;
  size_t width = 0;
  int precision = -1;
  char type = '\0';
};

size_t read_count(std::string_view text, size_t& at) {
  size_t count = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at)
    count = std::min(count * 10 + static_cast<size_t>(text[at] - '0'), size_t{1} << 40);
  return count;
}

int read_precision(std::string_view text, size_t& at) {
  const size_t precision = read_count(text, at);
  if (precision > kMaxPrecision) template_error("a precision of {} is not supported", precision);
  return static_cast<int>(precision);
}

Format parse_format(std::string_view text) {
  Format format;
  const auto characters = split_code_points(text.substr(0, 8));
  const auto is_align = [](std::string_view c) {
    return c == "<" || c == ">" || c == "^" || c == "=";
  };
  size_t at = 0;
  if (characters.size() > 1 && is_align(characters[1])) {
    format.fill = characters[0];
    format.align = characters[1][0];
    at = characters[0].size() + 1;
  } else if (!characters.empty() && is_align(characters[0])) {
    format.align = text[at++];
  }
  const auto take = [&](std::string_view set) {
    return at < text.size() && set.find(text[at]) != npos ? text[at++] : '\0';
  };
  if (const char sign = take("+- ")) format.sign = sign;
  format.alternate = take("#") != '\0';
  if (take("0") && !format.align) format.fill = "0", format.align = '=';
  format.width = read_count(text, at);
  format.comma = take(",") != '\0';
  if (take(".")) format.precision = read_precision(text, at);
  format.type = take("sdfFeEgGxXob%");
  if (at < text.size()) template_error("the format {} is not supported", quoted(text));
  return format;
}

std::string padded(const std::string& text, const Format& format, char default_align,
                   Meter& meter) {
  const size_t length = count_code_points(text);
  if (length >= format.width) return text;
  const size_t missing = format.width - length;
  meter.charge_bytes(missing * format.fill.size());
  const char align = format.align ? format.align : default_align;
  const bool has_sign = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ');
  const size_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  const size_t head = align == '=' && has_sign ? 1 : 0;
  std::string out = text.substr(0, head);
  for (size_t i = 0; i < left; ++i) out += format.fill;
  out += text.substr(head);
  for (size_t i = left; i < missing; ++i) out += format.fill;
  return out;
}

std::string with_commas(const std::string& digits) {
  const size_t whole = std::min(digits.find_first_of(".e"), digits.size());
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out + digits.substr(whole);
}

std::string integer_digits(uint64_t magnitude, const Format& format) {
  const char* const prefix = !format.alternate    ? ""
                             : format.type == 'x' ? "0x"
                             : format.type == 'X' ? "0X"
                             : format.type == 'o' ? "0o"
                             : format.type == 'b' ? "0b"
                                                  : "";
  switch (format.type) {
    case 'x':
      return prefix + fmt::format("{:x}", magnitude);
    case 'X':
      return prefix + fmt::format("{:X}", magnitude);
    case 'o':
      return prefix + fmt::format("{:o}", magnitude);
    case 'b':
      return prefix + fmt::format("{:b}", magnitude);
    default:
      return fmt::format("{}", magnitude);
  }
}

std::string real_digits(double magnitude, const Format& format) {
  const int precision = format.precision < 0 ? 6 : format.precision;
  if (!std::isfinite(magnitude)) return float_text(magnitude);
  switch (format.type) {
    case 'f':
    case 'F':
      return fmt::format("{:.{}f}", magnitude, precision);
    case 'e':
      return fmt::format("{:.{}e}", magnitude, precision);
    case 'E':
      return fmt::format("{:.{}E}", magnitude, precision);
    case 'g':
      return fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
    case 'G':
      return fmt::format("{:.{}G}", magnitude, std::max(precision, 1));
    case '%':
      return fmt::format("{:.{}f}%", magnitude * 100, precision);
    default:
      break;
  }
  if (format.precision >= 0) template_error("a precision for floats needs a type, as in '.2f'");
  return float_text(magnitude);
}

std::string number_text(const Value& value, const Format& format, Meter& meter) {
  const auto integer = value.integer();
  const bool as_integer = integer && std::string_view("fFeEgG%").find(format.type) == npos;
  if (!integer && format.type && std::string_view("dxXob").find(format.type) != npos)
    template_error("the format '{}' needs an integer", format.type);
  const bool negative = as_integer ? *integer < 0 : std::signbit(*value.number());
  std::string digits = as_integer ? integer_digits(negative ? 0 - static_cast<uint64_t>(*integer)
                                                            : static_cast<uint64_t>(*integer),
                                                   format)
                                  : real_digits(std::fabs(*value.number()), format);
  if (format.comma) digits = with_commas(digits);
  if (negative)
    digits = '-' + digits;
  else if (format.sign != '-')
    digits = format.sign + digits;
  return padded(digits, format, '>', meter);
}

std::string string_text(std::string text, const Format& format, Meter& meter) {
  if (format.precision >= 0) text = slice_text(text, {0, format.precision, 1});
  return padded(text, format, '<', meter);
}

// format(value, spec)
std::string formatted(const Value& value, std::string_view spec, Meter& meter) {
  if (spec.empty()) return to_text(value, meter);
  const Format format = parse_format(spec);
  const bool plain_bool = value.get<bool>() && format.type == '\0';
  if (value.number() && !plain_bool) return number_text(value, format, meter);
  if (!value.is_string() && !plain_bool)
    template_error("a format for a value of type '{}' is not supported", value.type_name());
  if (format.type != '\0' && format.type != 's')
    template_error("the format '{}' cannot be applied to a string", format.type);
  return string_text(to_text(value, meter), format, meter);
}

class PercentFormatter {
 public:
  PercentFormatter(std::string_view text, const Value& values, Meter& meter)
      : text_(text), values_(values), tuple_(values.sequence(SequenceKind::tuple)), meter_(meter) {}

  std::string run() {
    meter_.charge_bytes(text_.size());
    std::string out;
    while (at_ < text_.size()) {
      const size_t percent = std::min(text_.find('%', at_), text_.size());
      out += text_.substr(at_, percent - at_);
      at_ = percent;
      if (at_ < text_.size()) out += field();
      meter_.check_size(out.size());
    }
    // Python lets whatever can be subscripted go unused, but for tuples and strings.
    const bool may_rest = values_.get<Dict>() || values_.get<Range>() || values_.is_undefined() ||
                          values_.sequence(SequenceKind::list);
    const size_t given = tuple_ ? tuple_->items.size() : may_rest ? next_ : 1;
    if (next_ < given) template_error("'%': not all values were used by the text");
    return out;
  }

 private:
  const Value& next() {
    if (tuple_ ? next_ >= tuple_->items.size() : next_ >= 1)
      template_error("'%': the text wants more values than were given");
    return tuple_ ? tuple_->items[next_++] : (++next_, values_);
  }

  std::string field() {
    ++at_;
    const Value* named = nullptr;
    if (at_ < text_.size() && text_[at_] == '(') {
      const size_t end = text_.find(')', at_);
      const Dict* dict = values_.get<Dict>();
      if (end == npos || !dict) template_error("'%(name)' needs a dict");
      named = find_key(*dict, Value(std::string(text_.substr(at_ + 1, end - at_ - 1))), meter_);
      if (!named) template_error("'%(name)': the dict has no such key");
      at_ = end + 1;
    }
    Format format;
    for (; at_ < text_.size() && std::string_view("-+ #0").find(text_[at_]) != npos; ++at_) {
      if (text_[at_] == '-') format.align = '<';
      if (text_[at_] == '0' && !format.align) format.fill = "0", format.align = '=';
      if (text_[at_] == '+' || (text_[at_] == ' ' && format.sign != '+')) format.sign = text_[at_];
      if (text_[at_] == '#') format.alternate = true;
    }
    if (format.align == '<') format.fill = " ";
    format.width = read_count(text_, at_);
    if (at_ < text_.size() && text_[at_] == '.') format.precision = read_precision(text_, ++at_);
    if (at_ >= text_.size()) template_error("'%': the text ends within a format");
    format.type = text_[at_++];
    return converted(format, named);
  }

  std::string converted(Format format, const Value* named) {
    if (format.type == '%') return "%";
    const Value& value = named ? *named : next();
    if (format.type == 's' || format.type == 'r') {
      if (format.align == '=') format.fill = " ", format.align = '\0';
      return padded(
          string_text(format.type == 's' ? to_text(value, meter_) : to_repr(value, meter_),
                      {.precision = format.precision}, meter_),
          format, '>', meter_);
    }
    if (format.type == 'i' || format.type == 'u') format.type = 'd';
    if (std::string_view("dfFeEgGxXo").find(format.type) == npos)
      template_error("the format '%{}' is not supported", format.type);
    if (!value.number())
      template_error("the format '%{}' needs a number, not a value of type '{}'", format.type,
                     value.type_name());
    const bool truncates = format.type == 'd' && value.get<double>();
    if (truncates && !(std::fabs(*value.number()) < 9e18))
      template_error("'%d' of a float too large");
    return number_text(truncates ? Value(static_cast<int64_t>(*value.number())) : value, format,
                       meter_);
  }

  std::string_view text_;
  const Value& values_;
  const Sequence* tuple_;
  Meter& meter_;
  size_t at_ = 0;
  size_t next_ = 0;
};

class BraceFormatter {
 public:
  BraceFormatter(Evaluator& evaluator, std::string_view text, const Arguments& arguments)
      : evaluator_(evaluator), text_(text), arguments_(arguments) {}

  std::string run() {
    evaluator_.meter().charge_bytes(text_.size());
    std::string out;
    for (size_t at = 0; at < text_.size();) {
      const size_t brace = std::min(text_.find_first_of("{}", at), text_.size());
      out += text_.substr(at, brace - at);
      at = brace + 1;
      if (brace == text_.size()) break;
      if (at < text_.size() && text_[at] == text_[brace]) {
        out += text_[at++];
        continue;
      }
      const size_t end = text_.find_first_of("{}", at);
      if (text_[brace] == '}' || end == npos || text_[end] == '{')
        template_error("format(): braces that do not match, or nested ones");
      out += field(text_.substr(at, end - at));
      evaluator_.meter().check_size(out.size());
      at = end + 1;
    }
    return out;
  }

 private:
  std::string field(std::string_view text) {
    const size_t colon = std::min(text.find(':'), text.size());
    const std::string_view spec = colon < text.size() ? text.substr(colon + 1) : "";
    std::string_view name = text.substr(0, colon);
    char conversion = '\0';
    if (name.size() >= 2 && name[name.size() - 2] == '!') {
      conversion = name.back();
      name.remove_suffix(2);
    }
    Meter& meter = evaluator_.meter();
    const Value value = find(name);
    if (conversion == 'r') return formatted(Value(to_repr(value, meter)), spec, meter);
    if (conversion == 's') return formatted(Value(to_text(value, meter)), spec, meter);
    if (conversion) template_error("format(): the conversion '!{}' is not supported", conversion);
    return formatted(value, spec, meter);
  }

  Value find(std::string_view path) {
    size_t end = std::min(path.find_first_of(".["), path.size());
    Value value = argument(std::string(path.substr(0, end)));
    while (end < path.size()) {
      const bool item = path[end] == '[';
      const size_t begin = end + 1;
      end = std::min(path.find_first_of(item ? "]" : ".[", begin), path.size());
      const std::string part(path.substr(begin, end - begin));
      const auto index = item && all_of(part, is_digit) ? parse_integer(part) : std::nullopt;
      value = !item   ? evaluator_.attribute(value, part)
              : index ? evaluator_.item(value, Value(*index))
                      : evaluator_.item(value, Value(part));
      if (item) ++end;
    }
    return value;
  }

  Value argument(const std::string& name) {
    if (!name.empty() && !all_of(name, is_digit)) {
      if (const Value* found = arguments_.find(name)) return *found;
      template_error("format(): no argument '{}'", name);
    }
    const size_t index =
        name.empty() ? next_++ : static_cast<size_t>(parse_integer(name).value_or(INT64_MAX));
    if (index >= arguments_.positional.size()) template_error("format(): no argument {}", index);
    return arguments_.positional[index];
  }

  Evaluator& evaluator_;
  std::string_view text_;
  const Arguments& arguments_;
  size_t next_ = 0;
};

}  // namespace

std::string replaced(std::string_view text, std::string_view from, std::string_view to,
                     int64_t limit, Meter& meter) {
  meter.charge_bytes(text.size());
  meter.charge(count_of(text, from));
  meter.charge_bytes(replaced_size(text, from, to, limit));
  return replace(text, from, to, limit);
}

std::string percent_format(std::string_view text, const Value& values, Meter& meter) {
  return PercentFormatter(text, values, meter).run();
}

std::string brace_format(Evaluator& evaluator, std::string_view text, const Arguments& arguments) {
  return BraceFormatter(evaluator, text, arguments).run();
}

}  // namespace weft::text::jinja
