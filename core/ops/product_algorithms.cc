#include "core/ops/product_algorithms.h"

#include <atomic>
#include <bit>
#include <charconv>
#include <mutex>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace weft::ops {
namespace {

constexpr std::string_view kFormat = "weft product algorithms 1";
constexpr std::string_view kSums[] = {"none", "accumulate", "addend"};  // by ProductSum

struct State {
  std::mutex mutex;
  ProductTable table;
  ProductTable met;  // while timing
  int timed = 0;
  std::atomic<bool> timing{false};
  std::atomic<uint64_t> version{0};
};

State& state() {
  static State& one = *new State;
  return one;
}

std::string line_of(const ProductKind& kind, const ProductAlgorithm& algorithm) {
  std::string line =
      fmt::format("{} {} {} {} {} {}{} {} {} {} {} {}", kind.m, kind.n, kind.k, name_of(kind.in),
                  name_of(kind.out), kind.a_transposed ? 't' : 'n', kind.b_transposed ? 't' : 'n',
                  kSums[static_cast<int>(kind.sum)], kind.bias ? "bias" : "-",
                  kind.tf32 ? "tf32" : "-", kind.alignment, kind.row_alignment);
  for (uint64_t word : algorithm) line += fmt::format(" {:016x}", word);
  return line + "\n";
}

// The words of a line, each to be taken as what it should be.
class LineReader {
 public:
  LineReader(std::string_view line, const std::string& where, int number)
      : rest_(line), where_(where), number_(number) {}

  std::string_view word() {
    const size_t end = rest_.find(' ');
    const std::string_view word = rest_.substr(0, end);
    if (word.empty()) refuse("a word is missing");
    rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
    return word;
  }
  template <class T>
  T number(int base = 10) {
    const std::string_view text = word();
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size()) refuse("not a number");
    return value;
  }
  // The index of the word among `names`.
  template <size_t N>
  int one_of(const std::string_view (&names)[N]) {
    const std::string_view text = word();
    for (size_t i = 0; i < N; ++i)
      if (text == names[i]) return static_cast<int>(i);
    refuse("an unknown word");
  }
  DType dtype() {
    constexpr std::string_view kNames[] = {"f32", "bf16", "f16"};
    constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};
    return kTypes[one_of(kNames)];
  }
  bool flag(std::string_view name) {
    const std::string_view names[] = {"-", name};
    return one_of(names) == 1;
  }
  void end() const {
    if (!rest_.empty()) refuse("more words than there should be");
  }
  [[noreturn]] void refuse(const char* why) const {
    fail(ErrorKind::bad_data, "{}:{}: {}", where_, number_, why);
  }

 private:
  std::string_view rest_;
  const std::string& where_;
  int number_;
};

void parse_product(LineReader line, ProductTable& table) {
  ProductKind kind;
  for (int64_t* size : {&kind.m, &kind.n, &kind.k}) *size = line.number<int64_t>();
  kind.in = line.dtype();
  kind.out = line.dtype();
  constexpr std::string_view kLayouts[] = {"nn", "nt", "tn", "tt"};
  const int layout = line.one_of(kLayouts);
  kind.a_transposed = layout & 2;
  kind.b_transposed = layout & 1;
  kind.sum = static_cast<ProductSum>(line.one_of(kSums));
  kind.bias = line.flag("bias");
  kind.tf32 = line.flag("tf32");
  kind.alignment = line.number<int>();
  kind.row_alignment = line.number<int>();
  ProductAlgorithm algorithm{};
  for (uint64_t& word : algorithm) word = line.number<uint64_t>(16);
  line.end();
  table[kind] = algorithm;
}

std::string checksum_line(std::string_view lines) {
  return fmt::format("checksum {:016x}\n", hash_name(lines));
}

// The rest of a line that begins with `name`.
std::string named(std::string_view line, std::string_view name, const std::string& where,
                  int number) {
  if (!line.starts_with(name) || line.size() <= name.size() + 1 || line[name.size()] != ' ')
    fail(ErrorKind::bad_data, "{}:{}: should begin with '{} '", where, number, name);
  return std::string(line.substr(name.size() + 1));
}

}  // namespace

int64_t rounded_size(int64_t size) {
  if (size <= 4) return size;
  const int64_t step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(size))) / 4;
  return (size + step - 1) / step * step;
}

ProductKind rounded(ProductKind kind) {
  kind.m = rounded_size(kind.m);
  kind.n = rounded_size(kind.n);
  kind.k = rounded_size(kind.k);
  return kind;
}

ProductLibrary product_library(Device gpu) {
  CHECK(!gpu.is_cpu(), "products on a CPU have no table");
  return cuda::product_library(gpu.index);
}

std::string to_text(const ProductLibrary& library, const ProductTable& table) {
  std::string text = fmt::format("{}\ngpu {}\nlibrary {}\n", kFormat, library.gpu, library.library);
  for (const auto& [kind, algorithm] : table) text += line_of(kind, algorithm);
  return text + checksum_line(text);
}

ProductText parse_product_text(std::string_view text, const std::string& where) {
  const size_t last = text.rfind("checksum ");
  if (last == std::string_view::npos || text.substr(last) != checksum_line(text.substr(0, last)))
    fail(ErrorKind::bad_data, "{}: not a table of product algorithms, or damaged or cut short",
         where);
  std::vector<std::string_view> lines;
  for (std::string_view rest = text.substr(0, last); !rest.empty();) {
    const size_t end = rest.find('\n');
    lines.push_back(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  if (lines.size() < 3 || lines[0] != kFormat)
    fail(ErrorKind::bad_data, "{}:1: should be '{}'", where, kFormat);
  ProductText parsed;
  parsed.library = {named(lines[1], "gpu", where, 2), named(lines[2], "library", where, 3)};
  for (size_t i = 3; i < lines.size(); ++i)
    parse_product(LineReader(lines[i], where, static_cast<int>(i) + 1), parsed.table);
  return parsed;
}

void use_product_table(ProductTable table) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.table = std::move(table);
  ++s.version;
}

TimeProducts::TimeProducts(ProductTable known) {
  State& s = state();
  CHECK(!s.timing, "products are being timed already");
  use_product_table(std::move(known));
  const std::lock_guard lock(s.mutex);
  s.met.clear();
  s.timed = 0;
  s.timing = true;
}

TimeProducts::~TimeProducts() {
  State& s = state();
  s.timing = false;
  use_product_table(std::move(s.met));
}

ProductTable TimeProducts::met() const {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  return s.met;
}

int TimeProducts::timed() const {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  return s.timed;
}

std::optional<ProductAlgorithm> find_product_algorithm(const ProductKind& kind) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  const auto found = s.table.find(kind);
  if (found == s.table.end()) return std::nullopt;
  if (s.timing) s.met[kind] = found->second;
  return found->second;
}

bool times_products() {
  return state().timing;
}

void keep_product_algorithm(const ProductKind& kind, const ProductAlgorithm& algorithm) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.table[kind] = algorithm;
  s.met[kind] = algorithm;
  ++s.timed;
}

uint64_t product_table_version() {
  return state().version;
}

}  // namespace weft::ops
