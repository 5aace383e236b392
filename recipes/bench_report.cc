#include "recipes/bench_report.h"

#include <fmt/format.h>

#include "core/base/units.h"

namespace weft::recipes {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

// Millions, thousands or parts of a TFLOP alike: "684", "1.23", "0.0456".
std::string figure(double value) {
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

std::string parts_text(const std::vector<FloorPart>& parts) {
  std::string text;
  for (const FloorPart& part : parts)
    text += fmt::format("{:<20} {:<32} {:>10.3f} {:>9} {:>8.0f}\n", part.name, part.shape,
                        1e3 * part.seconds, figure(part.teraflops()), part.calls);
  return text;
}

std::string links_text(const std::vector<LinkSpeed>& links) {
  if (links.empty()) return "";
  std::string text = fmt::format("\n{:<20} {:>14} {:>14} {:>14}\n", "bus GB/s", "reduce-scatter",
                                 "all-gather", "all-reduce");
  for (const LinkSpeed& link : links)
    text +=
        fmt::format("{:<20} {:>14} {:>14} {:>14}\n", human_bytes(static_cast<double>(link.bytes)),
                    figure(link.reduce_scatter / 1e9), figure(link.all_gather / 1e9),
                    figure(link.all_reduce / 1e9));
  return text;
}

std::string rate_text(const BenchResult& result, double seconds) {
  std::string text = fmt::format("{:>10.2f} ms  {} tokens/s  {} TFLOP/s", 1e3 * seconds,
                                 human_count(result.tokens_per_second(seconds)),
                                 figure(result.teraflops(seconds)));
  if (result.peak_flops > 0)
    text += fmt::format("  {:.1f} % MFU", 100e12 * result.teraflops(seconds) / result.peak_flops);
  return text;
}

std::string floor_text(const BenchResult& result) {
  const Floor& floor = *result.floor;
  std::string text =
      fmt::format("copy, read + written: {} GB/s\n\n", figure(floor.copy_bytes_per_second / 1e9));
  text += fmt::format("{:<20} {:<32} {:>10} {:>9} {:>8}\n", "alone", "shape", "ms", "TFLOP/s",
                      "a step");
  text += parts_text(floor.products) + parts_text(floor.attention);
  text += links_text(result.links);
  const auto line = [&](const std::string& what, double seconds) {
    text += fmt::format("{:<36} {:>10.2f} ms  {:>5.1f} %\n", what, 1e3 * seconds,
                        100 * seconds / floor.seconds());
  };
  text += "\nfloor of a step\n";
  line("  products", floor.products_seconds());
  line("  attention", floor.attention_seconds());
  line(fmt::format("  between them, {} copied", human_bytes(floor.elementwise_bytes)),
       floor.elementwise_seconds());
  line(fmt::format("  optimizer, {} copied", human_bytes(floor.optimizer_bytes)),
       floor.optimizer_seconds());
  return text + fmt::format("{:<36} {}\n", "  together", rate_text(result, floor.seconds()));
}

std::string step_text(const BenchResult& result) {
  const StepTiming& step = *result.step;
  std::string text = fmt::format("{:<36} {}\n", "step", rate_text(result, step.seconds));
  text += fmt::format("{:<36} {:>10.2f} to {:.2f} ms\n", "  windows of steps", 1e3 * step.fastest,
                      1e3 * step.slowest);
  if (result.floor)
    text += fmt::format("{:<36} {:>10.1f} %\n", "  of the floor", 100 * result.share_of_floor());
  text += fmt::format("{:<36} {:>10.1f} s\n", "start to end of the first step",
                      step.first_step_seconds);
  const auto bytes = [](size_t count) { return human_bytes(static_cast<double>(count)); };
  text += fmt::format("{:<36} {:>13} ({} with the start)\n", "peak memory", bytes(step.peak_total),
                      bytes(step.peak_since_start));
  for (size_t tag = 0; tag < step.peak_bytes.size(); ++tag)
    if (step.peak_bytes[tag] > 0)
      text += fmt::format("  {:<34} {:>13}\n", name_of(static_cast<MemoryTag>(tag)),
                          bytes(step.peak_bytes[tag]));
  return text;
}

Json parts_json(const std::vector<FloorPart>& parts) {
  Json::Array array;
  for (const FloorPart& part : parts)
    array.push_back(Json::Object{{"name", part.name},
                                 {"shape", part.shape},
                                 {"ms", 1e3 * part.seconds},
                                 {"tflops", part.teraflops()},
                                 {"calls", part.calls}});
  return array;
}

void add_floor(Json& json, const BenchResult& result) {
  const Floor& floor = *result.floor;
  json.set("floor_tokens_per_second", result.tokens_per_second(floor.seconds()));
  json.set("floor_tflops", result.teraflops(floor.seconds()));
  json.set("floor_ms", 1e3 * floor.seconds());
  json.set("floor_products_ms", 1e3 * floor.products_seconds());
  json.set("floor_attention_ms", 1e3 * floor.attention_seconds());
  json.set("floor_elementwise_ms", 1e3 * floor.elementwise_seconds());
  json.set("floor_optimizer_ms", 1e3 * floor.optimizer_seconds());
  json.set("copy_gb_per_second", floor.copy_bytes_per_second / 1e9);
  json.set("products", parts_json(floor.products));
  json.set("attention", parts_json(floor.attention));
}

void add_step(Json& json, const BenchResult& result) {
  const StepTiming& step = *result.step;
  json.set("tokens_per_second", result.tokens_per_second(step.seconds));
  json.set("tflops", result.teraflops(step.seconds));
  if (result.peak_flops > 0)
    json.set("mfu", 1e12 * result.teraflops(step.seconds) / result.peak_flops);
  json.set("step_ms", 1e3 * step.seconds);
  json.set("fastest_ms", 1e3 * step.fastest);
  json.set("slowest_ms", 1e3 * step.slowest);
  json.set("peak_gib", static_cast<double>(step.peak_total) / kGiB);
  json.set("peak_gib_with_start", static_cast<double>(step.peak_since_start) / kGiB);
  Json tags;
  for (size_t tag = 0; tag < step.peak_bytes.size(); ++tag)
    if (step.peak_bytes[tag] > 0)
      tags.set(name_of(static_cast<MemoryTag>(tag)),
               static_cast<double>(step.peak_bytes[tag]) / kGiB);
  json.set("peak_gib_by_tag", tags);
  json.set("first_step_seconds", step.first_step_seconds);
}

}  // namespace

std::string to_text(const BenchResult& result) {
  std::string text = fmt::format("{}, on {}\n", result.name, result.device);
  text += result.floor ? floor_text(result) : links_text(result.links);
  if (result.step) text += "\n" + step_text(result);
  return text;
}

Json to_json(const BenchResult& result) {
  Json json(Json::Object{{"case", result.name}, {"device", result.device}});
  if (result.step) add_step(json, result);
  if (result.step && result.floor) json.set("share_of_floor", result.share_of_floor());
  if (result.floor) add_floor(json, result);
  Json::Array links;
  for (const LinkSpeed& link : result.links)
    links.push_back(Json::Object{{"bytes", link.bytes},
                                 {"reduce_scatter_bus_gb_per_second", link.reduce_scatter / 1e9},
                                 {"all_gather_bus_gb_per_second", link.all_gather / 1e9},
                                 {"all_reduce_bus_gb_per_second", link.all_reduce / 1e9}});
  if (!links.empty()) json.set("links", std::move(links));
  return json;
}

}  // namespace weft::recipes
