#include "tests/parallel/collectives.h"

#include <cmath>
#include <cstring>

#include "core/base/rng.h"

namespace weft::test {
namespace {

using parallel::Communicator;
using parallel::Reduce;
using parallel::Transfer;
using parallel::Work;

constexpr DType kSummed[] = {DType::f32, DType::bf16, DType::f16,
                             DType::f64, DType::i32,  DType::i64};
// Elements a rank: none, fewer than ranks, odd, more than one block of 512 KiB for every dtype.
constexpr int64_t kLengths[] = {0, 1, 3, 1001, 270001};

// Numbers of different size, so that the order of a sum shows in its bits.
constexpr float kScales[] = {1, 1e-3f, 7, 1e3f, 0.3f, 1e-6f, 1e2f, 1e-1f};

template <class F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(f16{});
    case DType::i32:
      return f(int32_t{});
    case DType::f64:
      return f(double{});
    default:
      return f(int64_t{});
  }
}

// What rank `rank` brings: any rank can make any other's.
Tensor tensor_of(int rank, int64_t count, DType dtype) {
  const Tensor t = Tensor::empty({count}, dtype);
  with_type(dtype, [&]<class T>(T) {
    uint64_t draw = hash_name(std::to_string(rank));
    for (int64_t i = 0; i < count; ++i) {
      draw = draw * 6364136223846793005ull + 1442695040888963407ull;
      if constexpr (std::is_integral_v<T>)
        t.data<T>()[i] = static_cast<T>((draw >> 8) % (uint64_t{1} << (8 * sizeof(T) - 8)));
      else if constexpr (std::is_same_v<T, f16>)
        t.data<T>()[i] = T((static_cast<float>(draw >> 40) - 8e6f) * 1e-6f * kScales[draw >> 61]);
      else
        t.data<T>()[i] = T((static_cast<float>(draw >> 40) - 8e6f) * kScales[draw >> 61]);
    }
  });
  return t;
}

// The specification: rank order, f32 (f64, i64), rounded once.
Tensor reduced(const std::vector<Tensor>& parts, Reduce reduce) {
  const Tensor out = Tensor::empty(parts[0].shape(), parts[0].dtype());
  with_type(out.dtype(), [&]<class T>(T) {
    using Sum = std::conditional_t<sizeof(T) == 2, float, T>;
    for (int64_t i = 0; i < out.numel(); ++i) {
      Sum sum = static_cast<Sum>(parts[0].data<T>()[i]);
      for (size_t p = 1; p < parts.size(); ++p) {
        const Sum x = static_cast<Sum>(parts[p].data<T>()[i]);
        sum = reduce == Reduce::sum ? sum + x : std::max(sum, x);
      }
      out.data<T>()[i] = T(sum);
    }
  });
  return out;
}

void expect_equal(const Tensor& where, const Tensor& want, const std::string& claim) {
  const Tensor got = where.to({});
  if (got.bytes() != want.bytes() ||
      (want.bytes() > 0 && std::memcmp(got.raw(), want.raw(), want.bytes()) != 0))
    fail(ErrorKind::internal, "{}: the bits differ", claim);
}

void expect(bool holds, const std::string& claim) {
  if (!holds) fail(ErrorKind::internal, "{}: does not hold", claim);
}

Tensor part(const Tensor& t, int index, int64_t count) {
  return t.flat(index * count, {count});
}

struct Case {
  Communicator& group;
  Device device;
  int64_t count;
  DType dtype;
  int rank() const { return group.rank(); }
  int size() const { return group.size(); }
  std::string claim(const char* op) const {
    return fmt::format("{} of {} {} over {} ranks", op, count, name_of(dtype), size());
  }
  Tensor mine(int64_t elements) const {
    return tensor_of(rank(), elements, dtype).to(device, MemoryTag::communication);
  }
  Tensor zeros(int64_t elements) const { return Tensor::zeros({elements}, dtype, device); }
  // Sums of more than two ranks on GPUs are in an order of their own.
  void expect_sum(const Tensor& got, const Tensor& want, const std::string& claim) const;
  std::vector<Tensor> inputs(int64_t elements) const {
    std::vector<Tensor> all;
    for (int p = 0; p < size(); ++p) all.push_back(tensor_of(p, elements, dtype));
    return all;
  }
};

void Case::expect_sum(const Tensor& got, const Tensor& want, const std::string& claim) const {
  if (device.is_cpu() || size() == 2) return expect_equal(got, want, claim);
  const Tensor here = got.to({});
  with_type(dtype, [&]<class T>(T) {
    double largest = 0, off = 0;
    for (int64_t i = 0; i < want.numel(); ++i) {
      using Wide = std::conditional_t<sizeof(T) == 2, float, T>;
      const auto a = static_cast<double>(static_cast<Wide>(here.data<T>()[i]));
      const auto b = static_cast<double>(static_cast<Wide>(want.data<T>()[i]));
      largest = std::max(largest, std::abs(b));
      off = std::max(off, std::abs(a - b));
    }
    const double rounding = sizeof(T) == 2 ? 1e-2 : 1e-5;
    expect(off <= (std::is_integral_v<T> ? 0 : rounding * largest), claim);
  });
}

void check_reductions(const Case& c) {
  for (Reduce reduce : {Reduce::sum, Reduce::max}) {
    const Tensor x = c.mine(c.count);
    c.group.all_reduce(x, reduce, "test").wait();
    const Tensor want = reduced(c.inputs(c.count), reduce);
    reduce == Reduce::sum ? c.expect_sum(x, want, c.claim("all_reduce"))
                          : expect_equal(x, want, c.claim("all_reduce max"));
  }
  const Tensor whole = reduced(c.inputs(c.count * c.size()), Reduce::sum);
  const Tensor input = c.mine(c.count * c.size());
  const Tensor output = c.zeros(c.count);
  c.group.reduce_scatter(input, output).wait();
  expect_equal(input, tensor_of(c.rank(), c.count * c.size(), c.dtype), "the input stays");
  c.expect_sum(output, part(whole, c.rank(), c.count), c.claim("reduce_scatter"));
  c.group.reduce_scatter(input, part(input, c.rank(), c.count)).wait();
  expect_equal(part(input, c.rank(), c.count), output.to({}), c.claim("reduce_scatter in place"));
}

void check_gathers(const Case& c) {
  const Tensor mine = c.mine(c.count);
  const Tensor output = c.zeros(c.count * c.size());
  const Tensor in_place = c.zeros(c.count * c.size());
  part(in_place, c.rank(), c.count).copy_from(mine);
  c.group.all_gather(mine, output).wait();
  c.group.all_gather(part(in_place, c.rank(), c.count), in_place).wait();
  for (int p = 0; p < c.size(); ++p)
    expect_equal(part(output, p, c.count), tensor_of(p, c.count, c.dtype), c.claim("all_gather"));
  expect_equal(in_place, output.to({}), c.claim("all_gather in place"));

  const Tensor to_all = c.mine(c.count * c.size());
  const Tensor from_all = c.zeros(c.count * c.size());
  c.group.all_to_all(to_all, from_all).wait();
  for (int p = 0; p < c.size(); ++p)
    expect_equal(part(from_all, p, c.count),
                 part(tensor_of(p, c.count * c.size(), c.dtype), c.rank(), c.count),
                 c.claim("all_to_all"));
}

void check_broadcast(const Case& c) {
  for (int root : {0, c.size() - 1}) {
    const Tensor x = c.rank() == root ? c.mine(c.count) : c.zeros(c.count);
    c.group.broadcast(x, root).wait();
    expect_equal(x, tensor_of(root, c.count, c.dtype), c.claim("broadcast"));
  }
}

// A ring: each rank sends two tensors to the next and gets two from the one before.
void check_transfers(const Case& c) {
  const int next = (c.rank() + 1) % c.size(), before = (c.rank() + c.size() - 1) % c.size();
  const Tensor a = c.zeros(c.count), b = c.zeros(2 * c.count);
  c.group
      .send_receive({{next, c.mine(c.count)}, {next, c.mine(2 * c.count)}},
                    {{before, a}, {before, b}})
      .wait();
  expect_equal(a, tensor_of(before, c.count, c.dtype), c.claim("send_receive"));
  expect_equal(b, tensor_of(before, 2 * c.count, c.dtype), c.claim("the second send_receive"));
}

void check_bytes(Communicator& group) {
  const std::string mine(static_cast<size_t>(group.rank()) * 100, 'a' + group.rank() % 26);
  const std::vector<std::string> all = group.gather_bytes(mine);
  expect(static_cast<int>(all.size()) == group.size(), "gather_bytes has every rank's");
  for (int p = 0; p < group.size(); ++p)
    expect(all[p] == std::string(static_cast<size_t>(p) * 100, 'a' + p % 26), "gather_bytes");
  const std::string said = group.rank() == group.size() - 1 ? "from the last" : "";
  expect(group.broadcast_bytes(said, group.size() - 1) == "from the last", "broadcast_bytes");
  expect(group.broadcast_bytes("", 0).empty(), "broadcast_bytes of nothing");
  group.barrier();
}

}  // namespace

void check_collectives(Communicator& group, Device device) {
  for (DType dtype : kSummed)
    for (int64_t count : kLengths) {
      const bool rare = dtype == DType::f16 || dtype == DType::i32;
      if (rare && count > 1001) continue;
      if (group.size() > 4 && count > 300000) count = 70001;  // seconds, not minutes
      const Case c{group, device, count, dtype};
      check_reductions(c);
      check_gathers(c);
      check_broadcast(c);
      check_transfers(c);
    }
  check_bytes(group);
  if (!device.is_cpu()) return;
  const Tensor nan = Tensor::zeros({2}, DType::f32);
  if (group.rank() == group.size() / 2) nan.data<float>()[1] = std::nanf("");
  group.all_reduce(nan, Reduce::max).wait();
  expect(nan.data<float>()[0] == 0 && std::isnan(nan.data<float>()[1]), "max of NaN is NaN");
}

void check_split(Communicator& group, Device device) {
  // Even and odd ranks, in reverse order; then all alone; then a split of a split.
  const auto half = group.split(group.rank() % 2, -group.rank(), "half");
  const int members = (group.size() + 1 - group.rank() % 2) / 2;
  expect(half->size() == members, "a group has the ranks of its color");
  expect(half->rank() == members - 1 - group.rank() / 2, "a group is ordered by key");
  const auto alone = group.split(group.rank(), 0, "alone");
  expect(alone->size() == 1, "a color of one's own");
  const auto pair = half->split(half->rank() / 2, half->rank(), "pair");

  const std::vector<std::string> who = half->gather_bytes(std::to_string(group.rank()));
  for (int p = 0; p < members; ++p)
    expect(who[p] == std::to_string(2 * (members - 1 - p) + group.rank() % 2), "members");
  check_bytes(*alone);
  check_bytes(*pair);

  // The order of calls on different communicators may differ between ranks.
  const Case whole{group, device, 1000, DType::f32}, of_half{*half, device, 1000, DType::f32};
  const Tensor a = whole.mine(1000), b = of_half.mine(1000);
  Work first =
      group.rank() % 2 ? group.all_reduce(a, Reduce::sum) : half->all_reduce(b, Reduce::sum);
  Work second =
      group.rank() % 2 ? half->all_reduce(b, Reduce::sum) : group.all_reduce(a, Reduce::sum);
  second.wait();
  first.wait();
  whole.expect_sum(a, reduced(whole.inputs(1000), Reduce::sum), "the whole");
  of_half.expect_sum(b, reduced(of_half.inputs(1000), Reduce::sum), "the half");
}

void check_overlap(Communicator& group, Device device) {
  const int64_t n = 50000;
  const auto other = group.split(0, group.rank(), "other");
  std::vector<Tensor> tensors;
  std::vector<Work> works;
  for (int i = 0; i < 12; ++i) {
    tensors.push_back(Case{group, device, n, DType::f32}.mine(n + i));
    works.push_back((i % 2 ? *other : group).all_reduce(tensors.back(), Reduce::sum));
  }
  for (int i = 11; i >= 0; --i) {
    works[i].wait();
    works[i].wait();  // again: nothing
    const Case c{group, device, n, DType::f32};
    c.expect_sum(tensors[i], reduced(c.inputs(n + i), Reduce::sum), "operations side by side");
    expect(works[i].done(), "done after wait");
  }
}

}  // namespace weft::test
