// Boxes against the definition: lists of element indices.
#include "parallel/boxes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace weft::parallel {
namespace {

// Flat indices of a box's elements, row-major.
std::vector<int64_t> elements(const Shape& shape, const Box& box) {
  std::vector<int64_t> out;
  for (int64_t flat = 0; flat < shape.numel(); ++flat) {
    bool inside = true;
    int64_t left = flat;
    for (int d = shape.rank() - 1; d >= 0; --d) {
      const int64_t index = left % shape[d];
      left /= shape[d];
      inside = inside && box.begin[d] <= index && index < box.end[d];
    }
    if (inside) out.push_back(flat);
  }
  return out;
}

std::vector<int64_t> range(int64_t begin, int64_t count) {
  std::vector<int64_t> out(count);
  std::iota(out.begin(), out.end(), begin);
  return out;
}

TEST(Boxes, OfARangeAreTheRangeInOrderAndFew) {
  for (const Shape& shape : {Shape{}, Shape{7}, Shape{4, 5}, Shape{3, 1, 4}, Shape{2, 3, 2, 3}})
    for (int64_t begin = 0; begin <= shape.numel(); ++begin)
      for (int64_t count = 0; begin + count <= shape.numel(); ++count) {
        std::vector<int64_t> got;
        const std::vector<Box> list = boxes(shape, begin, count);
        EXPECT_LE(list.size(), std::max(1, 2 * shape.rank() - 1));
        for (const Box& box : list) {
          const std::vector<int64_t> part = elements(shape, box);
          EXPECT_EQ(static_cast<int64_t>(part.size()), box.numel());
          got.insert(got.end(), part.begin(), part.end());
        }
        EXPECT_EQ(got, range(begin, count)) << shape.to_string() << " " << begin << " " << count;
      }
}

TEST(Boxes, OfAMatrixAreAtMostThreeAndOfWholeRowsOne) {
  const Shape shape{10, 6};
  EXPECT_EQ(boxes(shape, 6, 24), (std::vector<Box>{{{1, 0}, {5, 6}}}));
  EXPECT_EQ(boxes(shape, 8, 2), (std::vector<Box>{{{1, 2}, {2, 4}}}));
  EXPECT_EQ(boxes(shape, 8, 20),
            (std::vector<Box>{{{1, 2}, {2, 6}}, {{2, 0}, {4, 6}}, {{4, 0}, {5, 4}}}));
}

// Copies by the runs and compares with what the wanted piece should hold.
void expect_copied(const Shape& shape, const Box& stored, const std::vector<int64_t>& wanted,
                   const std::vector<CopyRun>& runs) {
  const std::vector<int64_t> source = elements(shape, stored);
  std::vector<int64_t> got(wanted.size(), -1), want = wanted;
  for (const CopyRun& run : runs)
    for (int64_t i = 0; i < run.count; ++i) {
      ASSERT_EQ(got.at(run.destination + i), -1) << "written twice";
      got[run.destination + i] = source.at(run.source + i);
    }
  for (int64_t& flat : want)
    if (!std::binary_search(source.begin(), source.end(), flat)) flat = -1;
  EXPECT_EQ(got, want);
}

TEST(CopyRuns, BringEveryElementThatAStoredAndAWantedPieceShare) {
  const Shape shape{3, 4, 3};
  for (const Box& stored : {whole(shape), Box{{1, 0, 0}, {2, 4, 3}}, Box{{0, 1, 1}, {3, 3, 3}},
                            Box{{2, 3, 2}, {3, 4, 3}}, Box{{0, 0, 0}, {0, 4, 3}}}) {
    for (int64_t begin = 0; begin < shape.numel(); begin += 5)
      for (int64_t count = 0; begin + count <= shape.numel(); count += 3)
        expect_copied(shape, stored, range(begin, count), copy_runs(stored, shape, begin, count));
    for (const Box& wanted : {whole(shape), Box{{0, 1, 0}, {3, 2, 3}}, Box{{1, 2, 1}, {3, 4, 2}}})
      expect_copied(shape, stored, elements(shape, wanted), copy_runs(stored, wanted));
  }
}

TEST(CopyRuns, AreOneWhereBothAreContiguous) {
  const Shape shape{100, 64};
  EXPECT_EQ(copy_runs(whole(shape), shape, 70, 5000), (std::vector<CopyRun>{{70, 0, 5000}}));
  EXPECT_EQ(copy_runs(Box{{10, 0}, {20, 64}}, whole(shape)), (std::vector<CopyRun>{{0, 640, 640}}));
}

nn::ParameterPtr parameter(const std::string& name, const Shape& shape, bool trainable = true) {
  auto p = std::make_shared<nn::Parameter>();
  p->name = name;
  p->shape = shape;
  p->trainable = trainable;
  return p;
}

// Units with every kind of cut: rows, columns, replicated heads, a padded vocabulary, none.
std::vector<nn::Unit> units() {
  nn::Unit embedding{"embedding", {parameter("embed", {13, 6})}};
  embedding.parameters[0]->partition = {.dim = 0, .padding = 3};
  nn::Unit block{"block",
                 {parameter("q", {16, 6}), parameter("k", {4, 6}), parameter("o", {6, 8}),
                  parameter("norm", {7}), parameter("base", {8, 8}, false)}};
  block.parameters[0]->partition = {.dim = 0, .granule = 4};
  block.parameters[1]->partition = {.dim = 0, .granule = 2, .replicas = 2};
  block.parameters[2]->partition = {.dim = 1};
  block.parameters[4]->partition = {.dim = 1};
  return {embedding, block};
}

TEST(Boxes, OfAllRanksCoverEveryElementOncePerReplica) {
  for (const MeshSizes& sizes : {MeshSizes{.data = 1}, MeshSizes{.data = 3}, MeshSizes{.data = 16},
                                 MeshSizes{.data = 2, .tensor = 4}}) {
    std::vector<nn::Unit> all = units();
    if (sizes.tensor == 1) all[1].parameters[1]->partition.replicas = 1;
    const UnitTable table(all, sizes);
    for (const nn::Unit& unit : all)
      for (const nn::ParameterPtr& p : unit.parameters) {
        std::vector<int> owners(p->shape.numel(), 0);
        for (int rank = 0; rank < sizes.world(); ++rank)
          for (const Box& box : boxes(table, p->name, rank))
            for (int64_t flat : elements(p->shape, box)) ++owners[flat];
        int copies = p->partition.dim < 0 ? sizes.tensor : p->partition.replicas;
        if (!p->trainable) copies *= sizes.data;
        for (int count : owners) ASSERT_EQ(count, copies) << p->name;
      }
  }
}

TEST(Boxes, OfAPaddedVocabularyNeverLeaveTheFile) {
  const std::vector<nn::Unit> all = units();
  const MeshSizes sizes{.data = 1, .tensor = 4};
  EXPECT_EQ(partition_shape(*all[0].parameters[0], sizes), (Shape{4, 6}));
  EXPECT_EQ(partition_box(*all[0].parameters[0], sizes, 3), (Box{{12, 0}, {13, 6}}));
  EXPECT_EQ(partition_box(*all[1].parameters[1], sizes, 1), (Box{{0, 0}, {2, 6}}));
  EXPECT_EQ(partition_box(*all[1].parameters[1], sizes, 2), (Box{{2, 0}, {4, 6}}));
}

TEST(Boxes, AHeadIsNotCut) {
  const nn::ParameterPtr q = parameter("q_proj", {12, 6});
  q->partition = {.dim = 0, .granule = 4};
  EXPECT_THROW(partition_shape(*q, {.data = 1, .tensor = 2}), Error);
  EXPECT_EQ(partition_shape(*q, {.data = 1, .tensor = 3}), (Shape{4, 6}));
}

}  // namespace
}  // namespace weft::parallel
