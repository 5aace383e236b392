#include "core/data/records.h"

#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/core/data/byte_tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::data {
namespace {

using test::write_file;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RecordsTest : public ::testing::Test {
 protected:
  std::vector<Record> read(const std::string& text, const RecordConfig& config = {},
                           const std::string& name = "a.jsonl") {
    std::vector<Record> records;
    read_records(write_file(temp_.file(name), text), config, [&](Record record) {
      records.push_back(std::move(record));
      return true;
    });
    return records;
  }
  std::string complaint(const std::string& text, const RecordConfig& config = {}) {
    return test::error_of(ErrorKind::bad_data, [&] { read(text, config); });
  }
  test::TempDir temp_;
};

TEST_F(RecordsTest, FormatsAreToldByTheirFields) {
  const auto records = read(
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"
      "\n\n"
      R"({"prompt": "p", "completion": "c"})"
      "\n"
      R"({"question": "q", "answer": "r"})"
      "\r\n"
      R"({"instruction": "do", "input": "this", "output": "done"})"
      "\n"
      R"({"instruction": "do", "input": "", "output": "done"})"
      "\n"
      R"({"text": "words"})"
      "\n"
      R"({"text": "words", "label": 3})");
  ASSERT_EQ(records.size(), 7u);
  EXPECT_EQ(records[0].kind, Record::Kind::chat);
  EXPECT_EQ(records[0].messages.as_array().size(), 2u);
  EXPECT_EQ(records[1].prompt + "/" + records[1].completion, "p/c");
  EXPECT_EQ(records[2].prompt + "/" + records[2].completion, "q/r");
  EXPECT_EQ(records[3].prompt + "/" + records[3].completion, "do\n\nthis/done");
  EXPECT_EQ(records[4].prompt, "do");
  EXPECT_EQ(records[5].kind, Record::Kind::text);
  EXPECT_EQ(records[5].text, "words");
  EXPECT_EQ(records[6].completion, "3");
  EXPECT_TRUE(records[6].labelled);
  EXPECT_THAT(records[2].where, HasSubstr("a.jsonl:4"));
}

TEST_F(RecordsTest, FromAJsonArrayAndFromTextAndBehindAByteOrderMark) {
  const auto array = read("\n [{\"text\": \"a\"},\n {\"text\": \"b\"}]", {}, "a.json");
  ASSERT_EQ(array.size(), 2u);
  EXPECT_THAT(array[1].where, HasSubstr("a.json, record 2"));
  const auto text = read("two\nlines", {}, "a.txt");
  ASSERT_EQ(text.size(), 1u);
  EXPECT_EQ(text[0].text, "two\nlines");
  EXPECT_EQ(read("\xef\xbb\xbf{\"text\": \"a\"}")[0].text, "a");
}

TEST_F(RecordsTest, ConversationsOfShareGptHaveRolesAndContents) {
  const auto r = read(
      R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})");
  EXPECT_EQ(r[0].messages.as_array()[0].at("role").as_string(), "user");
  EXPECT_EQ(r[0].messages.as_array()[1].at("content").as_string(), "b");
}

TEST_F(RecordsTest, SeveralLabelsAreOneAnswer) {
  const auto r = read(R"({"text": "clause", "label": ["Parties", "Term"]})");
  EXPECT_EQ(r[0].completion, "Parties, Term");
  EXPECT_TRUE(r[0].labelled);
  EXPECT_THAT(complaint(R"({"text": "t", "label": []})"), HasSubstr("field 'label' must be text"));
  EXPECT_THAT(complaint(R"({"text": "t", "label": ["a", 1]})"),
              HasSubstr("a label in 'label' must be text, is 1"));
}

TEST_F(RecordsTest, PromptTemplateIsFilledFromAnyField) {
  RecordConfig config;
  config.text_field = "description";
  config.label_field = "section";
  config.prompt_template = "{name}: {description}?";
  const auto r = read(R"({"name": "gcc", "description": "compiler", "section": "devel"})", config);
  EXPECT_EQ(r[0].prompt, "gcc: compiler?");
  EXPECT_EQ(r[0].completion, "devel");
  config.prompt_template = "{size}";
  EXPECT_THAT(
      complaint(R"({"name": "gcc", "description": "compiler", "section": "devel"})", config),
      HasSubstr("a.jsonl:1: data.prompt_template names '{size}'"));
}

TEST_F(RecordsTest, HashDependsOnTheRecordAloneNotOnItsPlace) {
  const auto a = read("{\"text\": \"a\"}\n{\"text\": \"b\"}");
  const auto b = read("{\"text\": \"c\"}\n{\"text\": \"b\"}\n{\"text\": \"a\"}");
  EXPECT_EQ(a[0].content_hash, b[2].content_hash);
  EXPECT_EQ(a[1].content_hash, b[1].content_hash);
  EXPECT_NE(a[0].content_hash, a[1].content_hash);
}

TEST_F(RecordsTest, ReadingStopsWhenNoMoreAreWanted) {
  int taken = 0;
  read_records(write_file(temp_.file("a.jsonl"), "{\"text\": \"a\"}\nnot JSON"), {},
               [&](Record) { return ++taken < 1; });
  EXPECT_EQ(taken, 1);
}

TEST_F(RecordsTest, EveryBadInputIsNamedByItsLine) {
  const std::string good = "{\"prompt\": \"p\", \"completion\": \"c\"}\n";
  EXPECT_THAT(
      complaint(good + R"({"prompt": "p"})"),
      HasSubstr("a.jsonl:2: the record has no field 'completion'; its fields are 'prompt'"));
  EXPECT_THAT(complaint(good + R"({"a": 1})"), HasSubstr("neither 'prompt' nor 'completion'"));
  EXPECT_THAT(complaint(good + R"({"prompt": 1, "completion": "c"})"),
              HasSubstr("a.jsonl:2: field 'prompt' must be text, is 1"));
  EXPECT_THAT(complaint(good + "{\"prompt\": "), HasSubstr("a.jsonl:2"));
  EXPECT_THAT(complaint(good + "{\"text\": \"\xff\"}"), HasSubstr("a.jsonl:2"));
  EXPECT_THAT(complaint(good + "3"), HasSubstr("a.jsonl:2: a record must be a JSON object"));
  EXPECT_THAT(complaint(""), HasSubstr("the file holds no records"));
  EXPECT_THAT(complaint("\n \n"), HasSubstr("the file holds no records"));
  EXPECT_THAT(complaint("[]"), HasSubstr("the file holds no records"));
  EXPECT_THAT(complaint(R"({"messages": []})"), HasSubstr("a.jsonl:1: 'messages' must be a list"));
  EXPECT_THAT(complaint(R"({"messages": [{"role": "wizard", "content": "x"}]})"),
              HasSubstr("a.jsonl:1: unknown role 'wizard'"));
  EXPECT_THAT(complaint(R"({"messages": [{"role": "user"}]})"),
              HasSubstr("message 1 (user) has no field 'content'"));
  RecordConfig config;
  config.format = Format::classification;
  EXPECT_THAT(complaint(R"({"text": "t"})", config), HasSubstr("no field 'label'"));
}

TEST_F(RecordsTest, AMissingFileIsNoInput) {
  test::error_of(ErrorKind::no_input, [&] {
    read_records(temp_.file("nowhere.jsonl"), {}, [](Record) { return true; });
  });
}

}  // namespace
}  // namespace weft::data
