#include "core/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/error.h"
#include "core/text/unicode.h"

namespace weft::text {
namespace {

constexpr size_t kMaxPatternBytes = 64 * 1024;
constexpr uint32_t kMaxSteps =
    10'000'000;  // of one match attempt; a real pattern needs a few per byte
constexpr uint32_t kMaxHeapKib = 64 * 1024;     // of the interpreter
constexpr size_t kMaxJitStackBytes = 8u << 20;  // reserved, committed as used

struct Free {
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

// What one thread needs to match any pattern.
struct Matcher {
  Owned<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};
  Owned<pcre2_match_context> context{pcre2_match_context_create(nullptr)};
  Owned<pcre2_jit_stack> stack{pcre2_jit_stack_create(32 * 1024, kMaxJitStackBytes, nullptr)};

  Matcher() {
    CHECK(data && context, "out of memory");
    pcre2_set_heap_limit(context.get(), kMaxHeapKib);
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

Owned<pcre2_code> compile(std::string_view pattern, uint32_t options, const std::string& where) {
  Owned<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  CHECK(context, "out of memory");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  Owned<pcre2_code> code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       PCRE2_UTF | PCRE2_NO_UTF_CHECK | options, &error, &offset,
                                       context.get()));
  if (!code)
    fail(ErrorKind::bad_data, "{}: the regular expression '{}' is wrong at byte {}: {}", where,
         pattern, offset, message_of(error));
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without JIT the interpreter runs it
  return code;
}

}  // namespace

struct Regex::Code {
  Owned<pcre2_code> code;
  std::string where;
};

Regex::Regex(std::string_view pattern, const std::string& where) {
  if (pattern.size() > kMaxPatternBytes)
    fail(ErrorKind::bad_data, "{}: a regular expression of {} bytes is longer than the limit of {}",
         where, pattern.size(), kMaxPatternBytes);
  const uint32_t options = PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  code_ = std::make_shared<const Code>(
      Code{compile(oniguruma_to_pcre2(pattern, where), options, where), where});
}

Regex Regex::literal(std::string_view text) {
  return Regex(
      std::make_shared<const Code>(Code{compile(text, PCRE2_LITERAL, "literal"), "literal"}));
}

void Regex::find_all(std::string_view text, std::vector<Match>& matches) const {
  thread_local Matcher matcher;
  pcre2_set_match_limit(matcher.context.get(), kMaxSteps);
  const size_t* found = pcre2_get_ovector_pointer(matcher.data.get());
  bool matched_before = false;
  size_t last = 0;
  for (size_t at = 0; at <= text.size();) {
    const int rc =
        pcre2_match(code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                    PCRE2_NO_UTF_CHECK, matcher.data.get(), matcher.context.get());
    if (rc == PCRE2_ERROR_NOMATCH) return;
    if (rc < 0)
      fail(ErrorKind::bad_data,
           "{}: the regular expression cannot be run on this text of {} bytes: {}", code_->where,
           text.size(), message_of(rc));
    const Match match{found[0], found[1]};
    if (match.begin == match.end && matched_before && match.end == last) {
      if (at == text.size()) return;
      next_code_point(text, at);
      continue;
    }
    matches.push_back(match);
    at = last = match.end;
    matched_before = true;
  }
}

}  // namespace weft::text
