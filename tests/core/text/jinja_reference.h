// Cases that tests/fixtures/chat made with Python's jinja2, one JSON object a line behind a header.
#pragma once

#include <gtest/gtest.h>

#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/jinja.h"

namespace weft::text::test {

struct ReferenceCases {
  Json header;
  std::vector<Json> cases;
};

inline ReferenceCases read_cases(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in.good()) << path;
  ReferenceCases all;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    Json json = Json::parse(line, path + ":" + std::to_string(number));
    if (number == 1)
      all.header = std::move(json);
    else
      all.cases.push_back(std::move(json));
  }
  return all;
}

// The clock of reference.py: 2026-02-03 04:05:06, a Tuesday.
inline std::tm reference_time() {
  std::tm time = {};
  time.tm_year = 126;
  time.tm_mon = 1;
  time.tm_mday = 3;
  time.tm_hour = 4;
  time.tm_min = 5;
  time.tm_sec = 6;
  time.tm_wday = 2;
  time.tm_yday = 33;
  time.tm_isdst = -1;
  return time;
}

// What is wrong with our rendering of a case; empty when it is as Python's.
inline std::string difference(const jinja::Rendering& ours, const Json& expected) {
  if (expected.contains("error"))
    return "Python fails with " + expected.at("error").as_string() + ", we give:\n" + ours.text;
  const std::string& text = expected.at("text").as_string();
  if (ours.text != text) return "we give\n" + ours.text + "\nPython gives\n" + text;
  Json::Array spans;
  for (const jinja::Span& span : ours.generated)
    spans.push_back(Json::Array{Json(span.begin), Json(span.end)});
  const Json* wanted = expected.find("generated");
  if (wanted && !wanted->is_null() && !(*wanted == Json(spans)))
    return "spans: we give " + Json(spans).dump() + ", Python gives " + wanted->dump();
  return "";
}

inline std::string difference_of_case(const Json& one, const Json& variables) {
  jinja::RenderOptions options;
  options.now = reference_time;
  try {
    const auto parsed = jinja::Template::parse(one.at("source").as_string(), "case");
    return difference(parsed.render_marked(variables, options), one);
  } catch (const Error& e) {
    if (one.contains("error")) return "";
    return std::string("we fail with ") + e.what() + "\nPython gives\n" +
           one.at("text").as_string();
  }
}

}  // namespace weft::text::test
