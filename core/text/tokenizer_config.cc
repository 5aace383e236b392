#include "core/text/tokenizer_config.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include "core/base/error.h"

namespace weft::text {
namespace {

constexpr size_t kMaxTemplateBytes = size_t{4} << 20;

// A token is "<s>", {"content": "<s>", ...}, or null.
std::string token_content(const Json& definition, std::string_view key, const std::string& where) {
  const Json* value = definition.find(key);
  if (!value || value->is_null()) return {};
  const Json* content = value->is_object() ? value->find("content") : value;
  if (!content || !content->is_string())
    fail(ErrorKind::bad_data, "{}: '{}' must be a string or an object with 'content'", where, key);
  return content->as_string();
}

std::optional<bool> flag(const Json& definition, std::string_view key, const std::string& where) {
  const Json* value = definition.find(key);
  if (!value || value->is_null()) return std::nullopt;
  if (!value->is_bool()) fail(ErrorKind::bad_data, "{}: '{}' must be true or false", where, key);
  return value->as_bool();
}

std::string template_of(const Json& value, const std::string& where) {
  if (value.is_string()) return value.as_string();
  const Json::Array none;
  for (const Json& entry : value.is_array() ? value.as_array() : none) {
    const Json* name = entry.find("name");
    const Json* text = entry.find("template");
    if (!name || !name->is_string() || !text || !text->is_string())
      fail(ErrorKind::bad_data, "{}: an entry of 'chat_template' needs 'name' and 'template'",
           where);
    if (name->as_string() == "default") return text->as_string();
  }
  if (!value.is_array())
    fail(ErrorKind::bad_data, "{}: 'chat_template' must be a string or a list", where);
  return {};
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) fail(ErrorKind::no_input, "{}: cannot be read", path.string());
  if (text.str().size() > kMaxTemplateBytes)
    fail(ErrorKind::bad_data, "{}: larger than the limit of {} bytes", path.string(),
         kMaxTemplateBytes);
  return text.str();
}

bool ends_with(const std::vector<int32_t>& ids, int32_t id) {
  return !ids.empty() && ids.back() == id;
}

}  // namespace

TokenizerConfig TokenizerConfig::from_json(const Json& definition, const std::string& where) {
  if (!definition.is_object()) fail(ErrorKind::bad_data, "{}: expected an object", where);
  TokenizerConfig config;
  config.bos_token = token_content(definition, "bos_token", where);
  config.eos_token = token_content(definition, "eos_token", where);
  config.pad_token = token_content(definition, "pad_token", where);
  config.unk_token = token_content(definition, "unk_token", where);
  config.add_bos_token = flag(definition, "add_bos_token", where);
  config.add_eos_token = flag(definition, "add_eos_token", where);
  const Json* chat_template = definition.find("chat_template");
  if (chat_template && !chat_template->is_null())
    config.chat_template = template_of(*chat_template, where);
  return config;
}

TokenizerConfig TokenizerConfig::from_folder(const std::string& folder) {
  const std::filesystem::path root(folder);
  const auto read = [&](const char* name) {
    const std::filesystem::path path = root / name;
    return std::filesystem::exists(path) ? from_json(Json::parse_file(path.string()), path.string())
                                         : TokenizerConfig{};
  };
  TokenizerConfig config = read("tokenizer_config.json");
  const TokenizerConfig map = read("special_tokens_map.json");
  if (config.bos_token.empty()) config.bos_token = map.bos_token;
  if (config.eos_token.empty()) config.eos_token = map.eos_token;
  if (config.pad_token.empty()) config.pad_token = map.pad_token;
  if (config.unk_token.empty()) config.unk_token = map.unk_token;
  const std::filesystem::path jinja = root / "chat_template.jinja";
  if (std::filesystem::exists(jinja)) config.chat_template = read_text(jinja);
  return config;
}

Json TokenizerConfig::to_json() const {
  Json out = Json::Object{};
  if (add_bos_token) out.set("add_bos_token", *add_bos_token);
  if (add_eos_token) out.set("add_eos_token", *add_eos_token);
  const std::pair<const char*, const std::string&> tokens[] = {{"bos_token", bos_token},
                                                               {"eos_token", eos_token},
                                                               {"pad_token", pad_token},
                                                               {"unk_token", unk_token}};
  for (const auto& [key, content] : tokens)
    if (!content.empty()) out.set(key, content);
  if (!chat_template.empty()) out.set("chat_template", chat_template);
  out.set("clean_up_tokenization_spaces", false);
  out.set("tokenizer_class", "PreTrainedTokenizerFast");
  return out;
}

SpecialIds special_ids(const Tokenizer& tokenizer, const TokenizerConfig& config) {
  const auto id = [&](const std::string& token, const char* role) -> int32_t {
    if (token.empty()) return -1;
    const auto found = tokenizer.id_of(token);
    if (!found)
      fail(ErrorKind::bad_data,
           "tokenizer_config.json: the {} '{}' is not a token of the tokenizer", role, token);
    return *found;
  };
  SpecialIds ids;
  ids.bos = id(config.bos_token, "bos_token");
  ids.eos = id(config.eos_token, "eos_token");
  ids.pad = id(config.pad_token, "pad_token");
  ids.unk = id(config.unk_token, "unk_token");
  const auto& prefix = tokenizer.prefix_ids();
  const bool starts_with_bos = !prefix.empty() && prefix.front() == ids.bos;
  ids.add_bos = ids.bos >= 0 && config.add_bos_token.value_or(starts_with_bos);
  ids.add_eos =
      ids.eos >= 0 && config.add_eos_token.value_or(ends_with(tokenizer.suffix_ids(), ids.eos));
  return ids;
}

Json special_token_texts(const TokenizerConfig& config) {
  Json texts = Json::Object{};
  if (!config.bos_token.empty()) texts.set("bos_token", config.bos_token);
  if (!config.eos_token.empty()) texts.set("eos_token", config.eos_token);
  if (!config.pad_token.empty()) texts.set("pad_token", config.pad_token);
  if (!config.unk_token.empty()) texts.set("unk_token", config.unk_token);
  return texts;
}

}  // namespace weft::text
