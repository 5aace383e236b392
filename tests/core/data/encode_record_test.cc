#include "core/data/encode_record.h"

#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/core/data/byte_tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::data {
namespace {

using test::byte_tokenizer;
using test::chatml_config;
using ::testing::HasSubstr;

Record chat(const std::string& json) {
  Record record;
  record.kind = Record::Kind::chat;
  record.messages = Json::parse(json, "test");
  record.where = "a.jsonl:7";
  return record;
}

Record answer(const std::string& prompt, const std::string& completion, bool labelled = false) {
  Record record;
  record.kind = Record::Kind::answer;
  record.prompt = prompt;
  record.completion = completion;
  record.labelled = labelled;
  return record;
}

Record document(const std::string& text) {
  Record record;
  record.text = text;
  return record;
}

std::string text_of(const text::Tokenizer& tokenizer, const Example& example, bool trained_only) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < example.ids.size(); ++i)
    if (!trained_only || example.trained[i]) ids.push_back(example.ids[i]);
  return tokenizer.decode(ids);
}

class EncodeRecord : public ::testing::Test {
 protected:
  Example encode(const Record& record, Purpose purpose = Purpose::train) {
    return RecordEncoder(tokenizer_, tokenizer_config_, config_).encode(record, purpose);
  }
  std::string all(const Example& e) { return text_of(tokenizer_, e, false); }
  std::string trained(const Example& e) { return text_of(tokenizer_, e, true); }

  text::Tokenizer tokenizer_ = byte_tokenizer();
  text::TokenizerConfig tokenizer_config_ = chatml_config();
  RecordConfig config_;
};

constexpr const char* kTwoTurns =
    R"([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "or"}, {"role": "assistant", "content": "no"}])";

TEST_F(EncodeRecord, TheAssistantsTurnsAndTheirEndsAreTrained) {
  const Example example = encode(chat(kTwoTurns));
  EXPECT_EQ(all(example),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
            "<|im_start|>user\nor<|im_end|>\n<|im_start|>assistant\nno<|im_end|>\n");
  EXPECT_EQ(trained(example), "yes<|im_end|>no<|im_end|>");
}

TEST_F(EncodeRecord, EverythingIsTrainedWhereTheConfigSaysSo) {
  config_.train_on = TrainOn::all;
  const Example example = encode(chat(kTwoTurns));
  EXPECT_EQ(trained(example), all(example));
}

TEST_F(EncodeRecord, TheSystemMessageStandsBeforeConversationsWithoutOne) {
  config_.system = "be brief";
  EXPECT_THAT(all(encode(chat(kTwoTurns))), HasSubstr("<|im_start|>system\nbe brief<|im_end|>"));
  const auto own = chat(R"([{"role": "system", "content": "own"},
                            {"role": "user", "content": "hi"}])");
  EXPECT_EQ(all(encode(own)),
            "<|im_start|>system\nown<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n");
}

TEST_F(EncodeRecord, ALabelsAnswerIsWithoutTheEndOfTurn) {
  const Example example = encode(answer("which?", "libs", true));
  ASSERT_GE(example.answer_begin, 0);
  const std::vector<int32_t> ids(example.ids.begin() + example.answer_begin,
                                 example.ids.begin() + example.answer_end);
  EXPECT_EQ(tokenizer_.decode(ids), "libs");
  EXPECT_EQ(trained(example), "libs<|im_end|>");
  EXPECT_EQ(encode(answer("which?", "libs")).answer_begin, -1);
}

TEST_F(EncodeRecord, WithoutATemplatePromptAndCompletionStandTogetherAndEosEndsThem) {
  tokenizer_config_.chat_template.clear();
  const Example example = encode(answer("2+2=", "4", true));
  EXPECT_EQ(all(example), "2+2=4<|im_end|>");
  EXPECT_EQ(trained(example), "4<|im_end|>");
  EXPECT_EQ(example.answer_begin, 4);
  EXPECT_EQ(example.answer_end, 5);
  tokenizer_config_.add_bos_token = true;
  EXPECT_EQ(all(encode(answer("2+2=", "4"))), "<|endoftext|>2+2=4<|im_end|>");
}

TEST_F(EncodeRecord, WithoutATemplateAConversationIsAnErrorNamingTheRecord) {
  tokenizer_config_.chat_template.clear();
  EXPECT_THAT(test::error_of(ErrorKind::bad_data, [&] { encode(chat(kTwoTurns)); }),
              AllOf(HasSubstr("a.jsonl:7"), HasSubstr("data.chat_template")));
}

TEST_F(EncodeRecord, ATextHasBosAndEosInTrainingAsTheTokenizerSays) {
  EXPECT_EQ(all(encode(document("abc"))), "abc");
  tokenizer_config_.add_bos_token = tokenizer_config_.add_eos_token = true;
  const Example example = encode(document("abc"));
  EXPECT_EQ(all(example), "<|endoftext|>abc<|im_end|>");
  EXPECT_EQ(trained(example), "abc<|im_end|>");
}

TEST_F(EncodeRecord, ATextIsEvaluatedBehindBosAndWithoutEos) {
  tokenizer_config_.add_eos_token = true;
  const Example example = encode(document("abc"), Purpose::evaluate);
  EXPECT_EQ(all(example), "<|endoftext|>abc");
  EXPECT_EQ(trained(example), "abc");
}

TEST_F(EncodeRecord, ATemplateMayComeFromAFile) {
  test::TempDir temp;
  config_.chat_template =
      test::write_file(temp.file("t.jinja"),
                       "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"
                       "<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]"
                       "{% endif %}");
  const Example example = encode(answer("a", "b"));
  EXPECT_EQ(all(example), "[user]a<|im_end|>[assistant]b<|im_end|>");
  EXPECT_EQ(trained(example), "b<|im_end|>");
  config_.chat_template = temp.file("missing.jinja");
  EXPECT_THROW(encode(answer("a", "b")), Error);
}

// With every chat template at hand, on real questions.
class RealTemplate : public ::testing::TestWithParam<const char*> {};

TEST_P(RealTemplate, TrainsTheAnswerAndTheEndOfItsTurn) {
  SKIP_WITHOUT_SHARED_DATA();
  const std::string folder = test::shared_data() + "/tokenizers/" + GetParam();
  const auto tokenizer = text::Tokenizer::from_file(folder + "/tokenizer.json");
  const RecordEncoder encoder(tokenizer, text::TokenizerConfig::from_folder(folder), {});
  int seen = 0;
  read_records(test::shared_data() + "/sft/gsm8k_test.jsonl", {}, [&](const Record& record) {
    const Example example = encoder.encode(record, Purpose::train);
    const std::string learnt = text_of(tokenizer, example, true);
    EXPECT_TRUE(learnt.ends_with(record.completion + "<|im_end|>")) << learnt;
    EXPECT_THAT(text_of(tokenizer, example, false), HasSubstr(record.prompt));
    EXPECT_EQ(learnt.find(record.prompt), std::string::npos);
    return ++seen < 100;
  });
  EXPECT_EQ(seen, 100);
}
INSTANTIATE_TEST_SUITE_P(Templates, RealTemplate, ::testing::Values("qwen3", "minimind"));

}  // namespace
}  // namespace weft::data
