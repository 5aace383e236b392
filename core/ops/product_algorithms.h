// Which of the library's algorithms a GPU's product takes. The library's own guess is up to 20 %
// slower than its best; so a run times the candidates of each kind of product once, in a warm-up,
// and keeps the winners in a table that is frozen from then on: bits depend on the algorithm, and
// the table, stored as text, makes them the same again.
//
// Nothing here knows a device: the table belongs to the process, matmul on GPUs reads it.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "core/tensor/device.h"
#include "core/tensor/dtype.h"

namespace weft::ops {

// What is added to the product: nothing, c itself, or another matrix.
enum class ProductSum : uint8_t { none, accumulate, addend };

// What an algorithm is chosen by.
struct ProductKind {
  int64_t m = 0, n = 0, k = 0;  // of c[m,n] = a[m,k] b[k,n]
  DType in = DType::f32, out = DType::f32;
  bool a_transposed = false, b_transposed = false;  // their memory, against row-major
  ProductSum sum = ProductSum::none;
  bool bias = false;
  bool tf32 = false;
  // In bytes, of all matrices together: powers of two, at most 16.
  int alignment = 16;      // of where they begin
  int row_alignment = 16;  // of the distances of their rows
  auto operator<=>(const ProductKind&) const = default;
};

// Packed batches differ a little in their number of tokens, so the table is by rounded sizes: up to
// the next of four steps between powers of two, each of m, n and k. (The product itself is of the
// exact sizes; an algorithm that the library refuses for them is not used.)
int64_t rounded_size(int64_t size);
ProductKind rounded(ProductKind kind);

using ProductAlgorithm = std::array<uint64_t, 8>;              // the library's own description
using ProductTable = std::map<ProductKind, ProductAlgorithm>;  // by rounded kinds

// What an algorithm means is known to this library on this GPU only.
struct ProductLibrary {
  std::string gpu;      // "NVIDIA H200"
  std::string library;  // "cublaslt 130100"
  bool operator==(const ProductLibrary&) const = default;
};
ProductLibrary product_library(Device gpu);

// A line that names the format, a line each for GPU and library, a line a product, a checksum.
std::string to_text(const ProductLibrary& library, const ProductTable& table);
struct ProductText {
  ProductLibrary library;
  ProductTable table;
};
// Throws bad_data naming `where` and the line: damaged, cut short or of another format.
ProductText parse_product_text(std::string_view text, const std::string& where);

// The process's table, frozen: products that it lacks take the library's first guess. Empty at the
// start. While no product is under way in another thread.
void use_product_table(ProductTable table);

// While it lives, a product that `known` lacks is timed at its first use and joins the table; the
// result of that product is as right as any. Then the table is what was met in this time. One at a
// time; not while a graph is captured.
class TimeProducts {
 public:
  explicit TimeProducts(ProductTable known);
  ~TimeProducts();
  TimeProducts(const TimeProducts&) = delete;
  TimeProducts& operator=(const TimeProducts&) = delete;
  ProductTable met() const;
  int timed() const;  // how many of them `known` lacked
};

// For matmul on GPUs. `kind`: rounded.
std::optional<ProductAlgorithm> find_product_algorithm(const ProductKind& kind);
bool times_products();
void keep_product_algorithm(const ProductKind& kind, const ProductAlgorithm& algorithm);
uint64_t product_table_version();  // differs after the table was replaced

namespace cuda {
ProductLibrary product_library(int gpu);
}

}  // namespace weft::ops
