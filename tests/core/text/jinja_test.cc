#include "core/text/jinja.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

#include "tests/core/text/jinja_reference.h"
#include "tests/support/errors.h"
#include "tests/support/test_data.h"

namespace weft::text {
namespace {

void expect_equal_to_python(const std::string& path) {
  const test::ReferenceCases all = test::read_cases(path);
  int wrong = 0;
  for (const Json& one : all.cases) {
    const std::string difference = test::difference_of_case(one, all.header.at("variables"));
    if (difference.empty() || ++wrong > 25) continue;
    ADD_FAILURE() << one.at("source").as_string() << "\n" << difference;
  }
  EXPECT_EQ(wrong, 0) << "of " << all.cases.size();
}

// More of them: tests/fixtures/chat/fuzz.py --count 100000 > cases.jsonl,
// WEFT_JINJA_CASES=cases.jsonl
TEST(JinjaReference, RandomTemplatesRenderAsInPython) {
  const char* path = std::getenv("WEFT_JINJA_CASES");
  expect_equal_to_python(path ? path : weft::test::fixture("chat/fuzz.jsonl"));
}

std::string render(const std::string& source, const std::string& variables = "{}",
                   const jinja::RenderOptions& options = {}) {
  return jinja::Template::parse(source, "t.jinja")
      .render(Json::parse(variables, "variables"), options);
}

std::string error_of(const std::string& source, const std::string& variables = "{}") {
  return weft::test::error_of(ErrorKind::bad_data, [&] { render(source, variables); });
}

// Of processor time: the machine may be busy with other things.
double seconds_of_failure(const std::string& source) {
  const std::clock_t begin = std::clock();
  const std::string error = error_of(source);
  EXPECT_EQ(error.find("no error"), std::string::npos) << source;
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

TEST(Jinja, ErrorsNameTheTemplateAndTheLine) {
  EXPECT_EQ(error_of("a\n{{ x.y }}"), "t.jinja: chat template, line 2: 'x' is undefined");
  EXPECT_EQ(error_of("\n\n{% include 'x' %}"),
            "t.jinja: chat template, line 3: the tag 'include' is not supported");
  EXPECT_EQ(error_of("{{ 1 | wordwrap }}"),
            "t.jinja: chat template, line 1: the filter 'wordwrap' is not supported");
  EXPECT_EQ(
      error_of("{% if x %}\n"),
      "t.jinja: chat template, line 1: the template ends within a block that 'endif' should close");
  EXPECT_EQ(error_of("{{ raise_exception('no!') }}"),
            "t.jinja: chat template, line 1: the template refuses this conversation: no!");
}

TEST(Jinja, WrongSyntaxIsAnError) {
  for (const char* source : {"{{",
                             "{{ 1",
                             "{% if %}{% endif %}",
                             "{{ 'x }}",
                             "{# x",
                             "{{ 1 + }}",
                             "{{ (1] }}",
                             "{% endfor %}",
                             "{% for x %}{% endfor %}",
                             "{{ a b }}",
                             "{{ [1, }}",
                             "{% break %}",
                             "{{ '\\ud800' }}",
                             "{% raw %}",
                             "{{ 99999999999999999999 }}",
                             "{{ x | }}",
                             "{{ f(a=1, 2) }}",
                             "{% set 1 = 2 %}",
                             "{{ ! }}",
                             "{{ }}"})
    EXPECT_EQ(error_of(source).find("no error"), std::string::npos) << source;
  EXPECT_THROW(jinja::Template::parse("\xFF", "t"), Error);
  EXPECT_THROW(jinja::Template::parse(std::string(2 << 20, 'x'), "t"), Error);
}

TEST(Jinja, ValuesCannotBeChanged) {
  EXPECT_NE(error_of("{{ l.append(1) }}", R"({"l": []})").find("forbidden"), std::string::npos);
  EXPECT_NE(error_of("{{ d.update({}) }}", R"({"d": {}})").find("forbidden"), std::string::npos);
  EXPECT_EQ(render("{{ ''.__class__ is defined }}"), "False");
}

TEST(Jinja, TheClockIsGiven) {
  jinja::RenderOptions options;
  options.now = test::reference_time;
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y, %H:%M:%S %A %j') }}", "{}", options),
            "03 Feb 2026, 04:05:06 Tuesday 034");
}

TEST(Jinja, EndlessLoopsStopQuickly) {
  EXPECT_LT(seconds_of_failure("{% for i in range(10**9) %}{% endfor %}"), 1);
  EXPECT_LT(
      seconds_of_failure("{% for i in range(100000) %}{% for j in range(100000) %}{% for k in "
                         "range(100000) %}{% endfor %}{% endfor %}{% endfor %}"),
      1);
  EXPECT_LT(seconds_of_failure("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), 1);
  EXPECT_LT(seconds_of_failure("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}"), 1);
}

TEST(Jinja, HugeTextsStopQuickly) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the bound of time is the plain build's";
#endif
  for (const char* source :
       {"{{ 'x' * 10**9 }}",
        "{{ 'x' * 10**18 }}",
        "{{ [0] * 10**9 }}",
        "{{ ([0] * 10**18) | length }}",
        "{{ 'x'.ljust(10**9) }}",
        "{{ 'x' | indent(10**9, true) }}",
        "{{ [[]] | tojson(indent=10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'x' | center(10**9) }}",
        "{{ 'x' | batch(10**9, 0) | list }}",
        "{{ 'x' | slice(10**9) | list }}",
        "{{ '%.1000000000f' % 1 }}",
        "{% set s = namespace(t='x') %}{% for i in range(99) %}{% set s.t = s.t ~ s.t %}{% endfor "
        "%}",
        "{% set s = namespace(t='x') %}{% for i in range(99) %}{% set s.t = s.t.replace('x', 'xx') "
        "%}{% endfor %}",
        "{% set s = namespace(t=[1]) %}{% for i in range(99) %}{% set s.t = s.t + s.t %}{% endfor "
        "%}",
        "{% set s = 'x' * 10**6 %}{% for i in range(10**5) %}{{ s }}{% endfor %}",
        "{% set s = 'x' * 10**7 %}{% for i in range(10**5) %}{% set t = s.split('x') %}{% endfor "
        "%}",
        "{% set s = 'x' * 10**7 %}{% for i in range(10**5) %}{% set t = s | upper %}{% endfor %}",
        "{% set s = 'x' * 10**7 %}{% for i in range(10**5) %}{% set t = s[::-1] %}{% endfor %}",
        "{% set s = 'x' * 10**6 %}{% for i in range(10**5) %}{{ (s ~ 'y') in (s * 20) }}{% endfor "
        "%}"})
    EXPECT_LT(seconds_of_failure(source), 1) << source;
}

TEST(Jinja, SharedContainersCannotExplode) {
  const std::string doubling =
      "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor "
      "%}";
  for (const char* use : {"{{ n.l }}", "{{ n.l | tojson }}", "{{ n.l == [n.l[0], n.l[1]] }}",
                          "{{ n.l < n.l }}", "{{ {'a': n.l} | string }}"})
    EXPECT_LT(seconds_of_failure(doubling + use), 1) << use;
  EXPECT_LT(seconds_of_failure("{% set n = namespace(l=[]) %}{% for i in range(10**5) %}"
                               "{% set n.l = [n.l] %}{% endfor %}"),
            1);
}

std::string repeated(const std::string& part) {
  std::string all;
  for (int i = 0; i < 50000; ++i) all += part;
  return all;
}

TEST(Jinja, DeepTemplatesAreErrors) {
  for (const char* part : {"(", "[", "{1:", "not ", "-", "x[", "1 if "})
    EXPECT_LT(seconds_of_failure("{{ " + repeated(part)), 1) << part;
  EXPECT_LT(seconds_of_failure("{{ 1" + repeated("+1") + " }}"), 1);
  EXPECT_LT(seconds_of_failure("{{ x" + repeated(".a") + " }}"), 1);
  EXPECT_LT(seconds_of_failure(repeated("{% if 1 %}")), 1);
}

TEST(Jinja, LongConversationsStayWithinTheLimits) {
  Json::Array messages;
  for (int i = 0; i < 2000; ++i) {
    Json message;
    message.set("role", i % 2 ? "assistant" : "user");
    message.set("content", std::string(2000, 'x'));
    messages.push_back(std::move(message));
  }
  Json variables;
  variables.set("messages", std::move(messages));
  const auto parsed = jinja::Template::parse(
      "{% for m in messages[::-1] %}{% if m.role == 'user' and not m.content.startswith('<') %}"
      "{{ '<' + m.role + '>\n' + m.content | trim + '\n' }}{% else %}{{ "
      "m.content.split('</think>')[-1] }}"
      "{% endif %}{% endfor %}",
      "t");
  EXPECT_EQ(parsed.render(variables).size(), 1000 * (2000 + 8) + 1000 * 2000u);
}

TEST(Jinja, IntegersPast64BitsAreErrors) {
  for (const char* source :
       {"{{ 9223372036854775807 + 1 }}", "{{ 2 ** 64 }}", "{{ -9223372036854775807 - 2 }}",
        "{{ 9223372036854775807 * 2 }}", "{{ (-9223372036854775807 - 1) // -1 }}"})
    EXPECT_NE(error_of(source).find("64 bits"), std::string::npos) << source;
  EXPECT_EQ(render("{{ (-9223372036854775807 - 1) % -1 }}"), "0");
  EXPECT_EQ(render("{{ range(9223372036854775800, 9223372036854775807)[::3] | list | length }}"),
            "3");
}

}  // namespace
}  // namespace weft::text
