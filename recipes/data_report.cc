#include "recipes/data_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/data/batch.h"
#include "core/data/plan.h"

namespace weft::recipes {
namespace {

constexpr int64_t kBarWidth = 40;
constexpr int64_t kShortestRow = 16;

constexpr const char* kTrainedColour = "\x1b[32m";
constexpr const char* kFaintColour = "\x1b[2m";
constexpr const char* kNoColour = "\x1b[0m";

PackingCost packing_cost(const std::vector<int64_t>& lengths, int64_t seq_len) {
  PackingCost cost{.seq_len = seq_len};
  data::PlanInput input;
  int64_t tokens = 0;
  for (int64_t length : lengths) {
    tokens += length;
    cost.longer += length > seq_len;
    cost.tokens_lost += std::max<int64_t>(length - seq_len, 0);
    for (int64_t rest = length; rest > 0; rest -= seq_len)
      input.lengths.push_back(std::min(rest, seq_len));
  }
  input.weights.assign(input.lengths.size(), 1);
  cost.rows = data::plan_epoch(input, {.seq_len = seq_len}, 0).num_rows();
  if (cost.rows > 0)
    cost.useful = static_cast<double>(tokens) /
                  (static_cast<double>(cost.rows) * static_cast<double>(seq_len));
  return cost;
}

// Powers of two, from the bin of the shortest to that of the longest.
std::vector<LengthBin> histogram(const std::vector<int64_t>& sorted) {
  std::vector<LengthBin> bins;
  for (int64_t length : sorted) {
    if (bins.empty()) {
      int64_t begin = 1;
      while (begin * 2 <= length) begin *= 2;
      bins.push_back({begin, begin * 2, 0});
    }
    while (length >= bins.back().end) bins.push_back({bins.back().end, bins.back().end * 2, 0});
    ++bins.back().records;
  }
  return bins;
}

// Control characters of a stranger's text must not reach the terminal.
std::string printable(const std::string& text) {
  std::string result;
  for (char c : text) {
    if (c == '\n') {
      result += "↵\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      result += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace

DataStatistics measure(const data::Dataset& dataset, int64_t seq_len) {
  DataStatistics s;
  s.records = dataset.size();
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const data::ExampleView example = dataset.example(i);
    lengths.push_back(static_cast<int64_t>(example.ids.size()));
    s.tokens += lengths.back();
    s.trained_tokens += data::trained_tokens(example);
    s.labelled += example.answer_begin >= 0;
  }
  std::set<int64_t> rows = {seq_len, seq_len * 2, seq_len * 4};
  for (int64_t shorter : {seq_len / 2, seq_len / 4})
    if (shorter >= kShortestRow) rows.insert(shorter);
  for (int64_t row : rows) s.packing.push_back(packing_cost(lengths, row));
  std::sort(lengths.begin(), lengths.end());
  if (lengths.empty()) return s;
  s.shortest = lengths.front();
  s.median = lengths[lengths.size() / 2];
  s.longest = lengths.back();
  s.lengths = histogram(lengths);
  return s;
}

std::string to_text(const DataStatistics& s, int64_t seq_len) {
  const double share =
      s.tokens ? 100.0 * static_cast<double>(s.trained_tokens) / static_cast<double>(s.tokens) : 0;
  std::string text = fmt::format(
      "records  {}{}\ntokens   {}, trained on {} ({:.1f} %)\nlengths  {} to {}, median {}\n",
      s.records, s.labelled > 0 ? fmt::format(", {} with a label", s.labelled) : "", s.tokens,
      s.trained_tokens, share, s.shortest, s.longest, s.median);
  int64_t most = 1;
  for (const LengthBin& bin : s.lengths) most = std::max(most, bin.records);
  text += "\n         tokens   records\n";
  for (const LengthBin& bin : s.lengths) {
    const int64_t bar = (bin.records * kBarWidth + most - 1) / most;
    text += fmt::format("{:>7} {:>7} {:>9} {}\n", bin.begin, bin.end - 1, bin.records,
                        std::string(static_cast<size_t>(bar), '#'));
  }
  text += "\n  seq_len      rows    useful  longer records  tokens lost if truncated\n";
  for (const PackingCost& cost : s.packing)
    text +=
        fmt::format("{}{:>8} {:>9} {:>7.1f} % {:>15} {:>25}\n", cost.seq_len == seq_len ? '*' : ' ',
                    cost.seq_len, cost.rows, 100 * cost.useful, cost.longer, cost.tokens_lost);
  return text;
}

Json to_json(const DataStatistics& s) {
  Json json;
  json.set("records", s.records);
  json.set("labelled", s.labelled);
  json.set("tokens", s.tokens);
  json.set("trained_tokens", s.trained_tokens);
  json.set("shortest", s.shortest);
  json.set("median", s.median);
  json.set("longest", s.longest);
  Json::Array lengths, packing;
  for (const LengthBin& bin : s.lengths) {
    Json entry;
    entry.set("from", bin.begin);
    entry.set("to", bin.end - 1);
    entry.set("records", bin.records);
    lengths.push_back(std::move(entry));
  }
  for (const PackingCost& cost : s.packing) {
    Json entry;
    entry.set("seq_len", cost.seq_len);
    entry.set("rows", cost.rows);
    entry.set("useful", cost.useful);
    entry.set("longer_records", cost.longer);
    entry.set("tokens_lost_if_truncated", cost.tokens_lost);
    packing.push_back(std::move(entry));
  }
  json.set("lengths", std::move(lengths));
  json.set("packing", std::move(packing));
  return json;
}

std::string show_example(const data::ExampleView& example, const text::Tokenizer& tokenizer,
                         bool colour) {
  const auto in = [&](const char* code) { return colour ? code : ""; };
  std::string text;
  text::StreamDecoder decoder(tokenizer);
  bool inside = false;
  for (size_t i = 0; i < example.ids.size(); ++i) {
    const bool trained = i > 0 && example.trained[i];
    if (inside && !trained) text += std::string("⟧") + in(kNoColour);
    if (trained && !inside) {
      text += std::string(in(kTrainedColour)) + "⟦";
    } else if (i > 0) {
      text += fmt::format("{}|{}{}", in(kFaintColour), in(kNoColour),
                          trained ? in(kTrainedColour) : "");
    }
    inside = trained;
    text += printable(decoder.push(example.ids[i]));
  }
  text += printable(decoder.finish());
  if (inside) text += std::string("⟧") + in(kNoColour);
  return text;
}

Json show_example_json(const data::ExampleView& example, const text::Tokenizer& tokenizer) {
  Json::Array tokens;
  for (size_t i = 0; i < example.ids.size(); ++i) {
    Json token;
    token.set("id", int64_t{example.ids[i]});
    token.set("token", tokenizer.token_of(example.ids[i]).value_or(""));
    token.set("trained", i > 0 && example.trained[i] != 0);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace weft::recipes
