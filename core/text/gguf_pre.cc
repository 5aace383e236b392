// The values of tokenizer.ggml.pre that are known here, as definitions of tokenizer.json.
#include <utility>

#include "core/base/error.h"
#include "core/text/byte_level.h"
#include "core/text/gguf_tokenizer.h"

namespace weft::text {
namespace {

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kHanAndKana = "[一-龥\u3040-ゟ゠-ヿ]+";
constexpr const char* kDeepSeek3 =
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kDefaultPunctuation = R"([\p{P}\$\+<=>\^~\|]+)";

Json byte_level(bool use_regex) {
  return Json::Object{{"type", "ByteLevel"},
                      {"add_prefix_space", false},
                      {"trim_offsets", false},
                      {"use_regex", use_regex}};
}

Json split(const char* regex) {
  return Json::Object{{"type", "Split"},
                      {"pattern", Json::Object{{"Regex", regex}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
}

Json digits() {
  return Json::Object{{"type", "Digits"}, {"individual_digits", true}};
}

Json sequence(Json::Array parts) {
  return Json::Object{{"type", "Sequence"}, {"pretokenizers", std::move(parts)}};
}

std::vector<GgufPre> known_pres() {
  const Json nfc = Json::Object{{"type", "NFC"}};
  const Json han = split("[一-龥ࠀ-一가-\uD7FF]+");
  std::vector<GgufPre> out;
  out.push_back({"gpt-2", {}, byte_level(true)});
  out.push_back({"smollm", {}, sequence({digits(), byte_level(true)})});
  out.push_back({"llama-bpe", {}, sequence({split(kLlama3), byte_level(false)}), true, true});
  out.push_back({"qwen2", nfc, sequence({split(kQwen2), byte_level(false)})});
  out.push_back({"deepseek-v3",
                 {},
                 sequence({split(R"(\p{N}{1,3})"), split(kHanAndKana), split(kDeepSeek3),
                           byte_level(false)})});
  out.push_back({"deepseek-coder",
                 {},
                 sequence({split("[\r\n]"), split(R"(\s?\p{L}+)"), split(R"(\s?\p{P}+)"), han,
                           digits(), byte_level(false)})});
  out.push_back({"default",
                 {},
                 sequence({split(kDefaultPunctuation), split(std::string(kGpt2Pattern).c_str()),
                           split(R"(\p{N}+)"), split("[0-9][0-9][0-9]"), byte_level(false)})});
  return out;
}

const std::vector<GgufPre>& pres() {
  static const std::vector<GgufPre> list = known_pres();
  return list;
}

const Json* member(const Json& object, const char* key) {
  const Json* value = object.find(key);
  return value && !value->is_null() ? value : nullptr;
}

// The steps one by one, without what has no effect on ids and with defaults filled in.
void flatten(const Json& definition, Json::Array& steps) {
  const Json* type = member(definition, "type");
  const std::string name = type && type->is_string() ? type->as_string() : "";
  if (name == "Sequence") {
    for (const Json& part : definition.at("pretokenizers").as_array()) flatten(part, steps);
    return;
  }
  Json step = Json::Object{{"type", name}};
  const auto copy = [&](const char* key, const Json& fallback) {
    const Json* value = member(definition, key);
    step.set(key, value ? *value : fallback);
  };
  if (name == "ByteLevel") {
    copy("add_prefix_space", true);
    copy("use_regex", true);
  } else if (name == "Digits") {
    copy("individual_digits", false);
  } else if (name == "Split") {
    copy("pattern", {});
    copy("behavior", {});
    copy("invert", false);
  } else {
    step = definition;
  }
  steps.push_back(std::move(step));
}

}  // namespace

const GgufPre* find_gguf_pre(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
      {"", "default"},         {"gpt2", "gpt-2"},
      {"llama3", "llama-bpe"}, {"llama-v3", "llama-bpe"},
      {"starcoder", "smollm"}, {"refact", "smollm"},
      {"codeshell", "smollm"}, {"deepseek-r1-qwen", "qwen2"}};
  for (const auto& [alias, target] : kAliases)
    if (name == alias) name = target;
  for (const GgufPre& pre : pres())
    if (pre.name == name) return &pre;
  return nullptr;
}

const GgufPre* match_gguf_pre(const Json& pre_tokenizer) {
  if (!pre_tokenizer.is_object()) return nullptr;
  Json::Array wanted;
  flatten(pre_tokenizer, wanted);
  for (const GgufPre& pre : pres()) {
    Json::Array steps;
    flatten(pre.pre_tokenizer, steps);
    if (Json(steps) == Json(wanted)) return &pre;
  }
  return nullptr;
}

}  // namespace weft::text
