#include "core/text/spm_merges.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include "core/text/unicode.h"

namespace weft::text {
namespace {

constexpr size_t kMaxTokenBytes =
    1024;  // a longer one would cost its length squared, and no file has one

struct Candidate {
  float score;
  int left_length, right_length;
  int32_t left, right;
};

}  // namespace

std::vector<std::pair<int32_t, int32_t>> merges_from_scores(const std::vector<std::string>& tokens,
                                                            const std::vector<float>& scores,
                                                            const std::vector<int32_t>& types) {
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id)
    if (types.empty() || types[id] == 1 || types[id] == 4)
      ids.emplace(tokens[id], static_cast<int32_t>(id));

  std::vector<Candidate> candidates;
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    if (!ids.count(token) || token.size() > kMaxTokenBytes) continue;
    const size_t first = candidates.size();
    std::vector<size_t> starts;  // of characters
    for (size_t at = 0; at < token.size(); next_code_point(token, at)) starts.push_back(at);
    for (size_t i = 1; i < starts.size(); ++i) {
      const auto left = ids.find(token.substr(0, starts[i])),
                 right = ids.find(token.substr(starts[i]));
      if (left != ids.end() && right != ids.end())
        candidates.push_back({scores[id], static_cast<int>(i), static_cast<int>(starts.size() - i),
                              left->second, right->second});
    }
    std::sort(candidates.begin() + static_cast<std::ptrdiff_t>(first), candidates.end(),
              [](const Candidate& a, const Candidate& b) {
                return std::tie(a.left, a.right) < std::tie(b.left, b.right);
              });
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) {
                     return std::tie(a.score, a.left_length, a.right_length) >
                            std::tie(b.score, b.left_length, b.right_length);
                   });
  std::vector<std::pair<int32_t, int32_t>> merges;
  merges.reserve(candidates.size());
  for (const Candidate& c : candidates) merges.emplace_back(c.left, c.right);
  return merges;
}

}  // namespace weft::text
