#include "checkpoint/gguf_tokenizer_keys.h"

#include "core/base/error.h"

namespace weft::checkpoint {
namespace {

template <class T>
const T* list_of(const GgufMetadata& metadata, const char* key) {
  const GgufValue* value = metadata.find(key);
  if (!value) return nullptr;
  const T* list = std::get_if<T>(&value->value);
  if (!list)
    fail(ErrorKind::bad_data, "{}: key '{}' is not a list of the right type", metadata.where(),
         key);
  return list;
}

// -1: none. What does not fit is -2, which no tokenizer accepts.
int32_t id_of(const GgufMetadata& metadata, const char* key) {
  const int64_t id = metadata.integer_or(key, -1);
  if (id == UINT32_MAX) return -1;  // how some writers say "none"
  return id < -1 || id > INT32_MAX ? -2 : static_cast<int32_t>(id);
}

std::optional<bool> flag_of(const GgufMetadata& metadata, const char* key) {
  if (!metadata.contains(key)) return std::nullopt;
  return metadata.boolean_or(key, false);
}

void add_id(GgufMetadata& metadata, const char* key, int32_t id) {
  if (id >= 0) metadata.add(key, GgufValue::u32(id));
}

void add_flag(GgufMetadata& metadata, const char* key, std::optional<bool> flag) {
  if (flag) metadata.add(key, GgufValue::boolean(*flag));
}

}  // namespace

bool has_tokenizer(const GgufMetadata& metadata) {
  const std::string model = metadata.text_or("tokenizer.ggml.model", "none");
  return model != "none" && model != "no_vocab";
}

text::GgufTokenizer tokenizer_keys_of(const GgufMetadata& metadata) {
  text::GgufTokenizer out;
  out.model = metadata.text("tokenizer.ggml.model");
  out.pre = metadata.text_or("tokenizer.ggml.pre", "");
  const auto* tokens = list_of<GgufValue::Strings>(metadata, "tokenizer.ggml.tokens");
  if (!tokens)
    fail(ErrorKind::bad_data, "{}: key 'tokenizer.ggml.tokens' is missing", metadata.where());
  out.tokens = *tokens;
  if (const auto* scores = list_of<GgufValue::Floats>(metadata, "tokenizer.ggml.scores"))
    out.scores.assign(scores->begin(), scores->end());
  if (const auto* types = list_of<GgufValue::Integers>(metadata, "tokenizer.ggml.token_type"))
    for (int64_t type : *types)
      out.types.push_back(type < 0 || type > INT32_MAX ? -1 : static_cast<int32_t>(type));
  if (const auto* merges = list_of<GgufValue::Strings>(metadata, "tokenizer.ggml.merges"))
    out.merges = *merges;
  out.bos = id_of(metadata, "tokenizer.ggml.bos_token_id");
  out.eos = id_of(metadata, "tokenizer.ggml.eos_token_id");
  out.pad = id_of(metadata, "tokenizer.ggml.padding_token_id");
  out.unk = id_of(metadata, "tokenizer.ggml.unknown_token_id");
  out.add_bos = flag_of(metadata, "tokenizer.ggml.add_bos_token");
  out.add_eos = flag_of(metadata, "tokenizer.ggml.add_eos_token");
  out.add_space_prefix = flag_of(metadata, "tokenizer.ggml.add_space_prefix");
  out.chat_template = metadata.text_or("tokenizer.chat_template", "");
  return out;
}

void add_tokenizer_keys(GgufMetadata& metadata, const text::GgufTokenizer& tokenizer) {
  metadata.add("tokenizer.ggml.model", GgufValue::text(tokenizer.model));
  if (!tokenizer.pre.empty()) metadata.add("tokenizer.ggml.pre", GgufValue::text(tokenizer.pre));
  metadata.add("tokenizer.ggml.tokens", GgufValue::texts(tokenizer.tokens));
  if (!tokenizer.scores.empty())
    metadata.add("tokenizer.ggml.scores",
                 GgufValue::f32s({tokenizer.scores.begin(), tokenizer.scores.end()}));
  if (!tokenizer.types.empty())
    metadata.add("tokenizer.ggml.token_type",
                 GgufValue::i32s({tokenizer.types.begin(), tokenizer.types.end()}));
  if (!tokenizer.merges.empty())
    metadata.add("tokenizer.ggml.merges", GgufValue::texts(tokenizer.merges));
  add_id(metadata, "tokenizer.ggml.bos_token_id", tokenizer.bos);
  add_id(metadata, "tokenizer.ggml.eos_token_id", tokenizer.eos);
  add_id(metadata, "tokenizer.ggml.padding_token_id", tokenizer.pad);
  add_id(metadata, "tokenizer.ggml.unknown_token_id", tokenizer.unk);
  add_flag(metadata, "tokenizer.ggml.add_bos_token", tokenizer.add_bos);
  add_flag(metadata, "tokenizer.ggml.add_eos_token", tokenizer.add_eos);
  add_flag(metadata, "tokenizer.ggml.add_space_prefix", tokenizer.add_space_prefix);
  if (!tokenizer.chat_template.empty())
    metadata.add("tokenizer.chat_template", GgufValue::text(tokenizer.chat_template));
}

}  // namespace weft::checkpoint
