// A tokenizer of one token a byte with ChatML's special tokens, and a template for it.
#pragma once

#include <fstream>
#include <string>

#include "core/base/json.h"
#include "core/text/tokenizer_config.h"

namespace weft::test {

inline std::string utf8(int code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

// Ids 0..255 are bytes; then <|endoftext|>, <|im_start|>, <|im_end|>.
inline constexpr int32_t kEndOfText = 256, kImStart = 257, kImEnd = 258, kByteVocab = 259;

inline text::Tokenizer byte_tokenizer(int first_id = 0) {
  Json vocab, model, definition, level;
  int shifted = 256;  // GPT-2's spelling: bytes that do not print stand behind Latin-1
  for (int byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    vocab.set(utf8(prints ? byte : shifted++), (byte + first_id) % 256);
  }
  model.set("type", "BPE");
  model.set("vocab", vocab);
  model.set("merges", Json::Array{});
  level.set("type", "ByteLevel");
  level.set("add_prefix_space", false);
  level.set("trim_offsets", true);
  level.set("use_regex", true);
  Json::Array added;
  for (const char* token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    Json entry;
    entry.set("id", 256 + added.size());
    entry.set("content", token);
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"})
      entry.set(flag, false);
    entry.set("special", true);
    added.push_back(entry);
  }
  definition.set("version", "1.0");
  definition.set("added_tokens", added);
  definition.set("normalizer", nullptr);
  definition.set("pre_tokenizer", level);
  definition.set("post_processor", nullptr);
  definition.set("decoder", level);
  definition.set("model", model);
  return text::Tokenizer::from_json(definition, "byte tokenizer");
}

inline text::TokenizerConfig chatml_config() {
  text::TokenizerConfig config;
  config.eos_token = "<|im_end|>";
  config.bos_token = "<|endoftext|>";
  config.chat_template =
      "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
      "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  return config;
}

inline std::string write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

}  // namespace weft::test
