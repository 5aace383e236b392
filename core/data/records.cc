#include "core/data/records.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace weft::data {
namespace {

constexpr size_t kMaxLineBytes = size_t{64} << 20;
constexpr unsigned char kByteOrderMark[] = {0xef, 0xbb, 0xbf};

const std::string& text_field(const Json& record, const std::string& field,
                              const std::string& where) {
  const Json* value = record.find(field);
  if (!value) fail(ErrorKind::bad_data, "{}: the record has no field '{}'", where, field);
  if (!value->is_string())
    fail(ErrorKind::bad_data, "{}: field '{}' must be text, is {}", where, field,
         value->dump().substr(0, 40));
  return value->as_string();
}

bool has(const Json& record, std::string_view field) {
  return record.contains(field);
}

std::string field_names(const Json& record) {
  std::string names;
  for (const auto& [name, value] : record.as_object()) {
    names += (names.empty() ? "'" : ", '") + name.substr(0, 40) + "'";
    if (names.size() > 200) return names + " ...";
  }
  return names.empty() ? "none" : names;
}

// The first pair of names that the record has; the configured names win.
std::pair<std::string, std::string> answer_fields(const Json& record, const RecordConfig& config,
                                                  const std::string& where) {
  static constexpr std::pair<const char*, const char*> kUsual[] = {{"prompt", "completion"},
                                                                   {"question", "answer"},
                                                                   {"prompt", "response"},
                                                                   {"input", "output"}};
  for (const auto& [prompt, completion] : kUsual) {
    const std::string p = config.prompt_field.empty() ? prompt : config.prompt_field;
    const std::string c = config.completion_field.empty() ? completion : config.completion_field;
    if (has(record, p) && has(record, c)) return {p, c};
  }
  const std::string p = config.prompt_field.empty() ? "prompt" : config.prompt_field;
  const std::string c = config.completion_field.empty() ? "completion" : config.completion_field;
  const std::string missing = has(record, p)   ? fmt::format("no field '{}'", c)
                              : has(record, c) ? fmt::format("no field '{}'", p)
                                               : fmt::format("neither '{}' nor '{}'", p, c);
  fail(ErrorKind::bad_data,
       "{}: the record has {}; its fields are {}: name them with data.prompt_field, "
       "data.completion_field, data.text_field or data.messages_field",
       where, missing, field_names(record));
}

Format format_of(const Json& record, const RecordConfig& config, const std::string& where) {
  if (config.format != Format::automatic) return config.format;
  if (has(record, config.messages_field) || has(record, "conversations")) return Format::messages;
  if (has(record, "instruction") && has(record, "output")) return Format::alpaca;
  if (has(record, config.text_field) && has(record, config.label_field))
    return Format::classification;
  if (has(record, config.text_field)) return Format::text;
  answer_fields(record, config, where);
  return Format::prompt_completion;
}

// Both spellings of conversations to one: role and content.
Json messages_of(const Json& record, const RecordConfig& config, const std::string& where) {
  const Json* list = record.find(config.messages_field);
  if (!list) list = record.find("conversations");
  if (!list || !list->is_array() || list->as_array().empty())
    fail(ErrorKind::bad_data, "{}: '{}' must be a list of messages that is not empty", where,
         config.messages_field);
  Json::Array messages;
  for (const Json& message : list->as_array()) {
    if (!message.is_object()) fail(ErrorKind::bad_data, "{}: a message is not an object", where);
    Json result = message;
    if (!has(message, "role")) {
      std::string from = text_field(message, "from", where);
      if (from == "human") from = "user";
      if (from == "gpt") from = "assistant";
      result = Json();
      result.set("role", from);
      result.set("content", text_field(message, "value", where));
    }
    const std::string& role = text_field(result, "role", where);
    if (role != "system" && role != "user" && role != "assistant" && role != "tool")
      fail(ErrorKind::bad_data, "{}: unknown role '{}' (system, user, assistant, tool are known)",
           where, role);
    if (!has(result, "content") && !has(result, "tool_calls"))
      fail(ErrorKind::bad_data, "{}: message {} ({}) has no field 'content'", where,
           messages.size() + 1, role);
    messages.push_back(std::move(result));
  }
  return messages;
}

// Classes may be numbers; a record may have several of them.
std::string label_of(const Json& record, const std::string& field, const std::string& where) {
  const Json* value = record.find(field);
  if (value && value->is_int()) return value->dump();
  if (!value || !value->is_array() || value->as_array().empty())
    return text_field(record, field, where);
  std::string labels;
  for (const Json& label : value->as_array()) {
    if (!label.is_string())
      fail(ErrorKind::bad_data, "{}: a label in '{}' must be text, is {}", where, field,
           label.dump().substr(0, 40));
    labels += (labels.empty() ? "" : ", ") + label.as_string();
  }
  return labels;
}

Record record_of(const Json& json, const RecordConfig& config, const std::string& where) {
  if (!json.is_object()) fail(ErrorKind::bad_data, "{}: a record must be a JSON object", where);
  Record record;
  record.where = where;
  record.content_hash = hash_name(json.dump());
  switch (format_of(json, config, where)) {
    case Format::automatic:
      break;
    case Format::messages:
      record.kind = Record::Kind::chat;
      record.messages = messages_of(json, config, where);
      break;
    case Format::prompt_completion: {
      const auto [prompt, completion] = answer_fields(json, config, where);
      record.kind = Record::Kind::answer;
      record.prompt = text_field(json, prompt, where);
      record.completion = text_field(json, completion, where);
      break;
    }
    case Format::alpaca:
      record.kind = Record::Kind::answer;
      record.prompt = text_field(json, "instruction", where);
      if (const Json* input = json.find("input");
          input && input->is_string() && !input->as_string().empty())
        record.prompt += "\n\n" + input->as_string();
      record.completion = text_field(json, "output", where);
      break;
    case Format::classification:
      record.kind = Record::Kind::answer;
      record.labelled = true;
      record.completion = label_of(json, config.label_field, where);
      record.prompt = config.prompt_template.empty()
                          ? text_field(json, config.text_field, where)
                          : fill_template(config.prompt_template, json, where);
      break;
    case Format::text:
      record.text = text_field(json, config.text_field, where);
      break;
  }
  return record;
}

// A line without its end, false behind the last one. Never more than the limit in memory.
bool read_line(std::ifstream& in, std::string& line, const std::string& path, int64_t number) {
  line.clear();
  std::streambuf& buffer = *in.rdbuf();
  for (int c = buffer.sbumpc(); c != std::char_traits<char>::eof(); c = buffer.sbumpc()) {
    if (c == '\n') return true;
    if (line.size() == kMaxLineBytes)
      fail(ErrorKind::bad_data, "{}:{}: the line has more than {} bytes, the most that is read",
           path, number, kMaxLineBytes);
    line += static_cast<char>(c);
  }
  return !line.empty();
}

std::string read_file(std::ifstream& in) {
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

std::string fill_template(const std::string& prompt_template, const Json& record,
                          const std::string& where) {
  std::string result;
  for (size_t i = 0; i < prompt_template.size(); ++i) {
    const size_t close =
        prompt_template[i] == '{' ? prompt_template.find('}', i) : std::string::npos;
    if (close == std::string::npos) {
      result += prompt_template[i];
      continue;
    }
    const std::string field = prompt_template.substr(i + 1, close - i - 1);
    if (!has(record, field))
      fail(ErrorKind::bad_data, "{}: data.prompt_template names '{{{}}}', which the record has not",
           where, field);
    result += text_field(record, field, where);
    i = close;
  }
  return result;
}

void read_records(const std::string& path, const RecordConfig& config,
                  const std::function<bool(Record)>& take) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(ErrorKind::no_input, "{}: cannot be opened: {}", path, std::strerror(errno));
  int64_t count = 0;
  if (path.ends_with(".txt")) {
    Record record;
    record.text = read_file(in);
    record.where = path;
    record.content_hash = hash_name(record.text);
    if (record.text.empty()) fail(ErrorKind::bad_data, "{}: the file is empty", path);
    take(std::move(record));
    return;
  }
  const bool marked = in.peek() == kByteOrderMark[0];
  for (unsigned char byte : kByteOrderMark)
    if (marked && in.get() != byte)
      fail(ErrorKind::bad_data, "{}:1: neither JSON nor text in UTF-8", path);
  const auto begin = in.tellg();
  while (std::isspace(in.peek())) in.get();
  if (in.bad()) fail(ErrorKind::io, "{}: cannot be read: {}", path, std::strerror(errno));
  if (in.peek() == '[') {
    const Json all = Json::parse(read_file(in), path);
    for (const Json& json : all.as_array())
      if (!take(record_of(json, config, fmt::format("{}, record {}", path, ++count)))) return;
  } else {
    in.clear();
    in.seekg(begin);
    std::string line;
    for (int64_t number = 1; read_line(in, line, path, number); ++number) {
      const std::string where = fmt::format("{}:{}", path, number);
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      ++count;
      if (!take(record_of(Json::parse(line, where), config, where))) return;
    }
  }
  if (count == 0) fail(ErrorKind::bad_data, "{}: the file holds no records", path);
}

}  // namespace weft::data
