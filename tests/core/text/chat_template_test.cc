#include "core/text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "core/base/error.h"
#include "tests/core/text/jinja_reference.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

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

}  // namespace
}  // namespace weft::text
