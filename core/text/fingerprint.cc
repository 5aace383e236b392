#include "core/text/fingerprint.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "core/base/error.h"

namespace weft::text {
namespace {

class Hasher {
 public:
  Hasher() : state_(XXH3_createState(), XXH3_freeState) { XXH3_128bits_reset(state_.get()); }

  // Every value is a letter for its type, its size, and its parts, so that no two values write
  // alike.
  void add(const Json& value, std::string_view key, int depth) {
    if (value.is_object()) {
      add_object(value.as_object(), depth);
    } else if (value.is_array()) {
      mark('a', value.as_array().size());
      for (const Json& element : value.as_array()) add_element(element, key, depth);
    } else if (value.is_string()) {
      add_string(value.as_string());
    } else {
      mark('v', 0);
      add_string(value.dump());
    }
  }

  std::string digest() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  void mark(char kind, size_t size) {
    const std::string text = fmt::format("{}{};", kind, size);
    XXH3_128bits_update(state_.get(), text.data(), text.size());
  }

  void add_string(std::string_view text) {
    mark('s', text.size());
    XXH3_128bits_update(state_.get(), text.data(), text.size());
  }

  void add_object(const Json::Object& object, int depth) {
    std::vector<const Json::Member*> members;
    for (const auto& member : object) {
      const bool batching =
          depth == 0 && (member.first == "truncation" || member.first == "padding");
      if (!member.second.is_null() && !batching) members.push_back(&member);
    }
    std::sort(members.begin(), members.end(), [](auto* a, auto* b) { return a->first < b->first; });
    mark('o', members.size());
    for (const auto* member : members) {
      add_string(member->first);
      add(member->second, depth == 1 ? std::string_view(member->first) : "", depth + 1);
    }
  }

  void add_element(const Json& element, std::string_view key, int depth) {
    const size_t space = element.is_string() ? element.as_string().find(' ') : std::string::npos;
    if (key != "merges" || space == std::string::npos) return add(element, "", depth + 1);
    const std::string_view merge = element.as_string();
    mark('a', 2);
    add_string(merge.substr(0, space));
    add_string(merge.substr(space + 1));
  }

  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

}  // namespace

std::string fingerprint(const Json& tokenizer) {
  Hasher hasher;
  hasher.add(tokenizer, "", 0);
  return hasher.digest();
}

}  // namespace weft::text
