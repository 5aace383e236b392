#include "core/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "core/base/error.h"
#include "tests/core/text/jinja_reference.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

using ::testing::HasSubstr;
using Spans = std::vector<std::string>;

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

jinja::RenderOptions fixed_clock() {
  jinja::RenderOptions options;
  options.now = test::reference_time;
  return options;
}

ChatTemplate fixture_template(const std::string& name, const std::string& bos = "<|im_start|>",
                              const std::string& eos = "<|im_end|>") {
  Json special = Json::Object{};
  special.set("bos_token", bos);
  special.set("eos_token", eos);
  ChatTemplate chat(read_text(weft::test::fixture("chat/templates/" + name + ".jinja")), special,
                    name);
  chat.set_render_options(fixed_clock());
  return chat;
}

Json conversation(const std::string& text) {
  return Json::parse(text, "conversation");
}

const char* const kTwoTurns = R"([{"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1"}, {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "2"}])";

// The texts of the spans.
Spans spans_of(const ChatTemplate& chat, const std::string& messages,
               const ChatOptions& options = {}) {
  const RenderedChat rendered = chat.render_with_spans(conversation(messages), options);
  EXPECT_EQ(rendered.text, chat.render(conversation(messages), options));
  Spans texts;
  for (const jinja::Span& span : rendered.assistant)
    texts.push_back(rendered.text.substr(span.begin, span.end - span.begin));
  return texts;
}

std::string difference_of(const Json& one, const Json& header) {
  const std::string& name = one.at("template").as_string();
  const Json& known = header.at("templates").at(name);
  const Json* source = known.find("source");
  const std::string text =
      source && source->is_string()
          ? source->as_string()
          : read_text(weft::test::fixture("chat/templates/" + name + ".jinja"));
  ChatOptions options;
  options.extras = Json::Object{};
  for (const auto& [key, value] :
       header.at("variants").at(one.at("variant").as_string()).as_object()) {
    if (key == "add_generation_prompt")
      options.add_generation_prompt = value.as_bool();
    else if (key == "tools")
      options.tools = value;
    else
      options.extras.set(key, value);
  }
  try {
    ChatTemplate chat(text, known.at("special_tokens"), name);
    chat.set_render_options(fixed_clock());
    jinja::Rendering ours;
    ours.text =
        chat.render(header.at("conversations").at(one.at("conversation").as_string()), options);
    Json expected = one;
    expected.set("generated", nullptr);  // spans have tests of their own
    return test::difference(ours, expected);
  } catch (const Error& e) {
    if (one.contains("error")) return "";
    return std::string("we fail with ") + e.what();
  }
}

// More of them: make_goldens.py FILE... > cases.jsonl, WEFT_CHAT_CASES=cases.jsonl
TEST(ChatReference, EveryFamilyRendersAsInPython) {
  const char* path = std::getenv("WEFT_CHAT_CASES");
  const test::ReferenceCases all =
      test::read_cases(path ? path : weft::test::fixture("chat/golden.jsonl"));
  ASSERT_GT(all.cases.size(), 20u);
  int wrong = 0;
  for (const Json& one : all.cases) {
    const std::string difference = difference_of(one, all.header);
    if (difference.empty() || ++wrong > 20) continue;
    ADD_FAILURE() << one.at("template").dump() << " " << one.at("conversation").dump() << " "
                  << one.at("variant").dump() << "\n"
                  << difference;
  }
  EXPECT_EQ(wrong, 0) << "of " << all.cases.size();
}

TEST(ChatTemplate, TheAssistantsSpanEndsWithItsEndOfTurnToken) {
  EXPECT_EQ(spans_of(fixture_template("chatml"), kTwoTurns), (Spans{"1<|im_end|>", "2<|im_end|>"}));
  EXPECT_EQ(spans_of(fixture_template("smollm2"), kTwoTurns),
            (Spans{"1<|im_end|>", "2<|im_end|>"}));
  EXPECT_EQ(spans_of(fixture_template("qwen25"), kTwoTurns), (Spans{"1<|im_end|>", "2<|im_end|>"}));
  EXPECT_EQ(spans_of(fixture_template("llama3", "<|begin_of_text|>", "<|eot_id|>"), kTwoTurns),
            (Spans{"1<|eot_id|>", "2<|eot_id|>"}));
  EXPECT_EQ(spans_of(fixture_template("zephyr", "<s>", "</s>"), kTwoTurns),
            (Spans{"1</s>", "2</s>"}));
  EXPECT_EQ(spans_of(fixture_template("mistral_v1", "<s>", "</s>"), kTwoTurns),
            (Spans{"1</s>", "2</s>"}));
}

TEST(ChatTemplate, TheEndOfTurnNeedNotBeTheTokenizersEos) {
  EXPECT_EQ(spans_of(fixture_template("chatml", "", "<|endoftext|>"), kTwoTurns),
            (Spans{"1<|im_end|>", "2<|im_end|>"}));
}

TEST(ChatTemplate, GenerationMarksAreTheSpans) {
  EXPECT_EQ(spans_of(fixture_template("marked"), kTwoTurns), (Spans{"1<|im_end|>", "2<|im_end|>"}));
  const std::string all = R"({% generation %}{{ messages[0].content }}{% endgeneration %}!)";
  const ChatTemplate chat(all, nullptr, "all");
  EXPECT_EQ(spans_of(chat, R"([{"role": "user", "content": "x"}])"), Spans{"x"});
}

TEST(ChatTemplate, MarksWithinAMacroFallBackToTurns) {
  const ChatTemplate chat(
      "{% macro turn(m) %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}{% "
      "endgeneration %}"
      "<|im_end|>\n{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
      nullptr, "macro");
  EXPECT_EQ(spans_of(chat, kTwoTurns), (Spans{"1<|im_end|>", "2<|im_end|>"}));
}

TEST(ChatTemplate, TurnsThatChangeOnceOthersFollowAreFound) {
  // Qwen3 writes empty thoughts only into the last turn, and drops those of earlier ones.
  EXPECT_EQ(spans_of(fixture_template("qwen3"), kTwoTurns),
            (Spans{"1<|im_end|>", "<think>\n\n</think>\n\n2<|im_end|>"}));
  const char* thoughts = R"([{"role": "user", "content": "One?"},
      {"role": "assistant", "content": "<think>\nhm\n</think>\n\n1"}, {"role": "user", "content": "Two?"},
      {"role": "assistant", "content": "<think>\nso\n</think>\n\n2"}])";
  EXPECT_EQ(spans_of(fixture_template("qwen3"), thoughts),
            (Spans{"1<|im_end|>", "<think>\nso\n</think>\n\n2<|im_end|>"}));
  // DeepSeek's generation prompt opens thoughts that the rendered turn does not have.
  const auto deepseek =
      fixture_template("deepseek", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>");
  EXPECT_EQ(spans_of(deepseek, thoughts),
            (Spans{"\n\n1<｜end▁of▁sentence｜>", "\n\n2<｜end▁of▁sentence｜>"}));
  EXPECT_EQ(spans_of(deepseek, kTwoTurns),
            (Spans{"1<｜end▁of▁sentence｜>", "2<｜end▁of▁sentence｜>"}));
}

TEST(ChatTemplate, ASystemMessageThatMovesWithTheLastQuestionDoesNotHideTheTurns) {
  const char* messages =
      R"([{"role": "system", "content": "Count."}, {"role": "user", "content": "One?"},
      {"role": "assistant", "content": "1"}, {"role": "user", "content": "Two?"},
      {"role": "assistant", "content": "2"}, {"role": "user", "content": "More"}])";
  EXPECT_EQ(spans_of(fixture_template("mistral_v3", "<s>", "</s>"), messages),
            (Spans{" 1</s>", " 2</s>"}));
}

TEST(ChatTemplate, ToolCallsAreTheAssistantsToo) {
  const char* messages =
      R"([{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Wait.",
      "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
      {"role": "tool", "content": "rain"}, {"role": "assistant", "content": "It rains."}])";
  EXPECT_EQ(spans_of(fixture_template("qwen25"), messages),
            (Spans{"Wait.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": "
                   "1}}\n</tool_call><|im_end|>",
                   "It rains.<|im_end|>"}));
  EXPECT_EQ(spans_of(fixture_template("llama31", "<|begin_of_text|>", "<|eot_id|>"), messages)[0],
            "{\"name\": \"f\", \"parameters\": {\"x\": 1}}<|eot_id|>");
}

TEST(ChatTemplate, ConversationsWithoutUserOrWithTwoAnswersHaveSpans) {
  EXPECT_EQ(spans_of(fixture_template("chatml"), R"([{"role": "assistant", "content": "Welcome"},
      {"role": "assistant", "content": "Hello?"}])"),
            (Spans{"Welcome<|im_end|>", "Hello?<|im_end|>"}));
  EXPECT_EQ(spans_of(fixture_template("chatml"), R"([{"role": "user", "content": "x"}])"), Spans{});
}

TEST(ChatTemplate, AContentThatEqualsOtherTextIsFoundAtItsPlace) {
  const char* messages = R"([{"role": "user", "content": "<|im_end|>"},
      {"role": "assistant", "content": "<|im_end|>\n<|im_start|>user"}, {"role": "user", "content": "a"},
      {"role": "assistant", "content": "a"}, {"role": "assistant", "content": ""}])";
  EXPECT_EQ(spans_of(fixture_template("chatml"), messages),
            (Spans{"<|im_end|>\n<|im_start|>user<|im_end|>", "a<|im_end|>", "<|im_end|>"}));
}

TEST(ChatTemplate, SpansThatCannotBeFoundAreAnErrorThatNamesTheMessage) {
  const ChatTemplate chat("{% for m in messages %}{{ m.role }} {% endfor %}", nullptr,
                          "roles.jinja");
  EXPECT_THAT(weft::test::error_of(ErrorKind::bad_data,
                                   [&] { chat.render_with_spans(conversation(kTwoTurns)); }),
              AllOf(HasSubstr("roles.jinja"), HasSubstr("message 2 (assistant)"),
                    HasSubstr("{% generation %}")));
}

TEST(ChatTemplate, ARefusedConversationSaysWhoRefused) {
  const auto chat = fixture_template("mistral_v1", "<s>", "</s>");
  const Json messages = conversation(R"([{"role": "assistant", "content": "x"}])");
  EXPECT_EQ(
      weft::test::error_of(ErrorKind::bad_data, [&] { chat.render(messages); }),
      "mistral_v1: chat template, line 1: the template refuses this conversation: Conversation "
      "roles must alternate user/assistant/user/assistant/...");
}

TEST(ChatTemplate, IsReadFromATokenizerConfig) {
  const Json config =
      Json::parse(R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>",
      "unk_token": null, "chat_template": [{"name": "tool_use", "template": "T{{ eos_token }}"},
      {"name": "default", "template": "D{{ bos_token }}{{ unk_token is defined }}"}]})",
                  "config");
  EXPECT_EQ(ChatTemplate::from_tokenizer_config(config, "c")->render(Json::Array{}), "D<s>False");
  EXPECT_EQ(ChatTemplate::from_tokenizer_config(config, "c", /*tools=*/true)->render(Json::Array{}),
            "T</s>");
  EXPECT_FALSE(ChatTemplate::from_tokenizer_config(Json::parse("{}", "x"), "c").has_value());
  const Json broken = Json::parse(R"({"chat_template": [{"name": "rag", "template": ""}]})", "x");
  EXPECT_THROW(ChatTemplate::from_tokenizer_config(broken, "c"), Error);
}

TEST(ChatTemplate, RealTemplatesRenderAndHaveSpans) {
  SKIP_WITHOUT_SHARED_DATA();
  for (const char* name : {"qwen3", "minimind"}) {
    const std::string path =
        weft::test::shared_data() + "/tokenizers/" + name + "/tokenizer_config.json";
    const auto chat = ChatTemplate::from_tokenizer_config(Json::parse_file(path), path);
    ASSERT_TRUE(chat.has_value()) << name;
    const Spans spans = spans_of(*chat, kTwoTurns);
    ASSERT_EQ(spans.size(), 2u) << name;
    EXPECT_EQ(spans[0], "1<|im_end|>") << name;  // minimind's prompt holds the empty thoughts
    const bool thinks_always = std::string(name) == "minimind";
    EXPECT_EQ(chat->render(conversation(R"([{"role": "user", "content": "Hi"}])"),
                           {.add_generation_prompt = true}),
              std::string("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n") +
                  (thinks_always ? "<think>\n\n</think>\n\n" : ""));
  }
}

}  // namespace
}  // namespace weft::text
