#include "core/base/config.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/config_node.h"
#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft {
namespace {

enum class Fruit { apple, pear };
constexpr EnumName<Fruit> kFruitNames[] = {{Fruit::apple, "apple"}, {Fruit::pear, "pear"}};

struct Part {
  std::string path;
  double weight = 1;
  void visit(ConfigVisitor& v) {
    v.field("path", path, "a file");
    v.field("weight", weight, "how often").above(0);
  }
};
struct Inner {
  double lr = 1e-3;
  int64_t ranks = 0;
  bool fast = false;
  Fruit fruit = Fruit::apple;
  std::vector<std::string> targets = {"all"};
  void visit(ConfigVisitor& v) {
    v.field("learning_rate", lr, "rate").above(0);
    v.field("ranks", ranks, "ranks").at_least(1).word_for("auto", 0).may_change();
    v.field("fast", fast, "speed");
    v.field("fruit", fruit, kFruitNames, "kind");
    v.field("targets", targets, "names");
  }
};
struct Outer {
  std::string name = "x";
  Bytes memory{};
  Duration every{};
  std::vector<Part> files;
  Inner inner;
  void visit(ConfigVisitor& v) {
    v.field("name", name, "a name");
    v.field("memory", memory, "a size");
    v.field("every", every, "a time").bare_unit({60}).may_change();
    v.list("files", files, "files");
    v.section("inner", inner, "inner things");
  }
};

class ConfigFile : public ::testing::Test {
 protected:
  Outer read(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
    std::ofstream(path()) << yaml;
    return read_config<Outer>(path(), overrides);
  }
  std::string error(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
    std::string message = test::error_of(ErrorKind::usage, [&] { read(yaml, overrides); });
    const size_t folder = message.find(dir_.path().string());
    if (folder != std::string::npos) message.erase(folder, dir_.path().string().size() + 1);
    return message;
  }
  std::string path() const { return dir_.file("run.yaml"); }
  test::TempDir dir_;
};

TEST_F(ConfigFile, EmptyFileMeansDefaults) {
  EXPECT_EQ(read("").inner.lr, 1e-3);
  EXPECT_EQ(read("# nothing\n").name, "x");
  EXPECT_EQ(read("inner:\nname:\n").name, "x");
}

TEST_F(ConfigFile, ReadsEveryType) {
  const Outer config = read(
      "name: 1e4\nmemory: 2GiB\nevery: 30\n"
      "files:\n  - a.jsonl\n  - {path: b.jsonl, weight: 2}\n"
      "inner:\n  learning_rate: 1e-4\n  ranks: 1e3\n  fast: yes\n  fruit: pear\n"
      "  targets: [q_proj, v_proj]\n");
  EXPECT_EQ(config.name, "1e4");
  EXPECT_EQ(config.memory.count, int64_t{2} << 30);
  EXPECT_EQ(config.every.seconds, 1800);
  ASSERT_EQ(config.files.size(), 2u);
  EXPECT_EQ(config.files[0].path, "a.jsonl");
  EXPECT_EQ(config.files[1].weight, 2);
  EXPECT_EQ(config.inner.lr, 1e-4);
  EXPECT_EQ(config.inner.ranks, 1000);
  EXPECT_TRUE(config.inner.fast);
  EXPECT_EQ(config.inner.fruit, Fruit::pear);
  EXPECT_EQ(config.inner.targets, (std::vector<std::string>{"q_proj", "v_proj"}));
}

TEST_F(ConfigFile, OneFileNeedsNoList) {
  EXPECT_EQ(read("files: a.jsonl").files.at(0).path, "a.jsonl");
  EXPECT_EQ(read("files: {path: a.jsonl, weight: 3}").files.at(0).weight, 3);
  EXPECT_EQ(read("inner: {targets: 'q_proj, v_proj'}").inner.targets.size(), 2u);
}

TEST_F(ConfigFile, UnknownKeyNamesThePlaceAndTheNearestKey) {
  EXPECT_EQ(error("name: a\ninner:\n  fast: on\n  learing_rate: 1\n"),
            "run.yaml:4:3: unknown key 'inner.learing_rate'; the nearest known key is "
            "'learning_rate'");
  EXPECT_EQ(error("fruit: pear"), "run.yaml:1:1: unknown key 'fruit'; did you mean 'inner.fruit'?");
  EXPECT_EQ(error("files: [{pth: x}]"),
            "run.yaml:1:10: unknown key 'files.0.pth'; the nearest known key is 'path'");
}

TEST_F(ConfigFile, IllTypedValueNamesThePlace) {
  EXPECT_EQ(error("inner:\n  learning_rate: fast\n"),
            "run.yaml:2:18: 'inner.learning_rate' must be a finite number, found 'fast'");
  EXPECT_EQ(error("inner: {ranks: 1.5}"),
            "run.yaml:1:16: 'inner.ranks' must be an integer or 'auto', found '1.5'");
  EXPECT_EQ(error("inner: 3"),
            "run.yaml:1:8: 'inner' must be a section with keys of its own, found '3'");
  EXPECT_EQ(error("memory: [1]"),
            "run.yaml:1:9: 'memory' must be a size such as 512MB or 2GiB, found a list");
  EXPECT_EQ(error("name: {text}"), "run.yaml:1:7: 'name' must be text (in quotes), found a map");
  EXPECT_EQ(error("inner: {fruit: peer}"),
            "run.yaml:1:16: 'inner.fruit' must be one of apple, pear; 'peer' is nearest to 'pear'");
  EXPECT_EQ(error("inner: {ranks: 010}"),
            "run.yaml:1:16: 'inner.ranks' must be an integer or 'auto', found '010'");
}

TEST_F(ConfigFile, NanAndInfinityAreRefused) {
  for (const char* value : {".nan", ".inf", "nan", "inf", "-inf", "1e999"})
    EXPECT_NE(error("inner: {learning_rate: " + std::string(value) + "}").find("finite number"),
              std::string::npos)
        << value;
}

TEST_F(ConfigFile, RangesAreChecked) {
  EXPECT_EQ(error("inner: {learning_rate: 0}"),
            "run.yaml:1:24: 'inner.learning_rate' must be above 0, found '0'");
  EXPECT_EQ(error("inner: {ranks: -1}"),
            "run.yaml:1:16: 'inner.ranks' must be at least 1, found '-1'");
}

TEST_F(ConfigFile, DuplicateKeysAreRefused) {
  EXPECT_EQ(error("name: a\ninner: {}\nname: b\n"),
            "run.yaml:3:1: key 'name' is given twice (first at " + path() + ":1:1)");
}

TEST_F(ConfigFile, OverridesReplaceTheFile) {
  const Outer config = read("name: a\nfiles: [x, y]\ninner: {learning_rate: 1}",
                            {"inner.learning_rate=1e-4", "inner.targets=q,v", "name=a b: [c]",
                             "files.1.path=z", "inner.ranks=auto", "memory=1MB"});
  EXPECT_EQ(config.inner.lr, 1e-4);
  EXPECT_EQ(config.inner.targets, (std::vector<std::string>{"q", "v"}));
  EXPECT_EQ(config.name, "a b: [c]");
  EXPECT_EQ(config.files[0].path, "x");
  EXPECT_EQ(config.files[1].path, "z");
  EXPECT_EQ(config.memory.count, 1000000);
  EXPECT_EQ(read("", {"name={text} is:"}).name, "{text} is:");
  EXPECT_EQ(read("", {"files=[a, b]", "files.1.path=z"}).files[1].path, "z");
  EXPECT_EQ(read("", {"inner={ranks: 3}"}).inner.ranks, 3);
  EXPECT_TRUE(read("files: [x, y]", {"files="}).files.empty());
  EXPECT_EQ(read("", {"files=[a, {path: b, weight: 2}]"}).files[1].weight, 2);
}

TEST_F(ConfigFile, BadOverridesAreNamed) {
  EXPECT_EQ(error("", {"inner.learning_rat=1"}),
            "override 'inner.learning_rat=1': unknown key 'inner.learning_rat'; the nearest known "
            "key is 'learning_rate'");
  EXPECT_EQ(error("", {"inner.ranks=many"}),
            "override 'inner.ranks=many': 'inner.ranks' must be an integer or 'auto', found "
            "'many'");
  EXPECT_NE(error("", {"name"}).find("expected key=value"), std::string::npos);
  EXPECT_NE(error("", {"=3"}).find("is no key"), std::string::npos);
  EXPECT_NE(error("files: [a]", {"files.7.path=x"}).find("1 elements"), std::string::npos);
  EXPECT_NE(error("", {"files=[a"}).find("not valid YAML"), std::string::npos);
}

TEST_F(ConfigFile, AnchorsAndMergeKeysWork) {
  const Outer config = read(
      "inner: &base {learning_rate: 0.5, fast: true}\nfiles:\n  - &f {path: a, weight: 2}\n"
      "  - <<: *f\n    path: b\n");
  EXPECT_EQ(config.files[1].path, "b");
  EXPECT_EQ(config.files[1].weight, 2);
}

TEST_F(ConfigFile, HostileYamlIsRefused) {
  EXPECT_NE(error("a: &a [*a]\n").find("run.yaml"), std::string::npos);
  EXPECT_NE(error(std::string(5000, '[')).find("run.yaml"), std::string::npos);
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string p = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + p;
    for (int j = 0; j < 9; ++j) bomb += ", " + p;
    bomb += "]\n";
  }
  EXPECT_NE(error(bomb).find("aliases are written out"), std::string::npos);
  EXPECT_NE(error(std::string(2 << 20, '#')).find("more than a config may have"),
            std::string::npos);
  EXPECT_NE(error("name: a\n---\nname: b\n").find("2 YAML documents"), std::string::npos);
  EXPECT_NE(error("name: [a\n").find("not valid YAML"), std::string::npos);
  EXPECT_NE(error("? [a]\n: b\n").find("a key must be a word"), std::string::npos);
  EXPECT_NE(error("[1, 2]").find("a map of keys"), std::string::npos);
}

TEST(Config, MissingFileIsNoInput) {
  for (const char* path : {"/nonexistent/run.yaml", "/tmp"})
    test::error_of(ErrorKind::no_input, [&] { read_config<Outer>(path); });
}

TEST_F(ConfigFile, ResolvedConfigReadsBackAsItself) {
  const Outer config = read(
      "name: 'a: \"b\" #c'\nmemory: 512MB\nevery: 90s\nfiles: [a, b]\n"
      "inner: {learning_rate: 0.1, ranks: auto, targets: []}");
  const Json json = config_json(config);
  EXPECT_EQ(config_json(config_from_json<Outer>(json, "manifest")), json);
  EXPECT_EQ(config_json(read(config_yaml(config))), json);
  EXPECT_EQ(json.at("inner").at("ranks").as_string(), "auto");
  EXPECT_EQ(json.at("memory").as_string(), "512MB");
}

TEST(Config, DifferencesNameKeysAndBothValues) {
  Outer before, after;
  after.inner.lr = 0.5;
  after.inner.ranks = 4;
  after.files = {{"a", 1}};
  const auto differences = config_differences(before, after);
  ASSERT_EQ(differences.size(), 3u);
  EXPECT_EQ(differences[1].key, "inner.learning_rate");
  EXPECT_EQ(differences[1].before, "0.001");
  EXPECT_EQ(differences[1].after, "0.5");
  EXPECT_TRUE(differences[2].may_change);
  const std::string message =
      test::error_of(ErrorKind::usage, [&] { check_resume(differences, "runs/x/step_000010"); });
  EXPECT_NE(message.find("inner.learning_rate: 0.001 there, 0.5 now"), std::string::npos);
  EXPECT_EQ(message.find("ranks"), std::string::npos);
}

TEST(Config, AllowedDifferencesResume) {
  Outer before, after;
  before.name = "null";
  after.name = "null";
  EXPECT_NE(config_yaml(before).find("name: \"null\""), std::string::npos);
  after.inner.ranks = 4;
  after.every.seconds = 5;
  EXPECT_NO_THROW(check_resume(config_differences(before, after), "x"));
}

TEST(Config, DocumentsEveryKey) {
  const std::string table = config_markdown<Outer>();
  EXPECT_NE(table.find("| `learning_rate` | number > 0 | `0.001` | rate |  |"), std::string::npos)
      << table;
  EXPECT_NE(table.find("| `ranks` | integer or `auto` ≥ 1 | `auto` | ranks | yes |"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("| `files[].weight` | number > 0 | `1` | how often |  |"), std::string::npos)
      << table;
  EXPECT_NE(table.find("\n## inner\n\ninner things\n"), std::string::npos);
}

}  // namespace
}  // namespace weft
