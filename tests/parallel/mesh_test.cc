#include "parallel/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/thread_communicator.h"
#include "tests/support/errors.h"

namespace weft::parallel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string refusal(const MeshSizes& wanted, int world) {
  return test::error_of(ErrorKind::usage, [&] { resolve(wanted, world); });
}

TEST(Mesh, DataTakesWhatIsLeft) {
  EXPECT_EQ(resolve({}, 1).data, 1);
  EXPECT_EQ(resolve({}, 6).data, 6);
  EXPECT_EQ(resolve({.pipeline = 2, .context = 1, .tensor = 4}, 24).data, 3);
  EXPECT_EQ(resolve({.data = 3, .tensor = 2}, 6).world(), 6);
}

TEST(Mesh, AWorldThatDoesNotDivideIsToldWhichNumbersWould) {
  EXPECT_THAT(refusal({.pipeline = 2, .tensor = 4}, 20),
              AllOf(HasSubstr("20 ranks"), HasSubstr("16 or 24"), HasSubstr("multiple of 8")));
  EXPECT_THAT(refusal({.tensor = 4}, 3), AllOf(HasSubstr("4 or 4"), HasSubstr("multiple of 4")));
  EXPECT_THAT(refusal({.data = 2}, 3), AllOf(HasSubstr("2 ranks, but 3 run"), HasSubstr("auto")));
  EXPECT_THAT(refusal({.data = -1}, 3), HasSubstr("1 or more"));
}

TEST(Mesh, CoordinatesCountTheTensorAxisFastest) {
  const MeshSizes sizes{.pipeline = 2, .data = 3, .context = 2, .tensor = 2};
  int rank = 0;
  for (int p = 0; p < 2; ++p)
    for (int d = 0; d < 3; ++d)
      for (int c = 0; c < 2; ++c)
        for (int t = 0; t < 2; ++t, ++rank) {
          EXPECT_EQ(coordinate(sizes, rank, nn::Axis::pipeline), p);
          EXPECT_EQ(coordinate(sizes, rank, nn::Axis::data), d);
          EXPECT_EQ(coordinate(sizes, rank, nn::Axis::context), c);
          EXPECT_EQ(coordinate(sizes, rank, nn::Axis::tensor), t);
        }
}

TEST(Mesh, GroupsAreTheRanksThatDifferInOneAxis) {
  run_ranks(12, [](Communicator& group) {
    const std::shared_ptr<Communicator> world(&group, [](Communicator*) {});
    const Mesh mesh(world, {.pipeline = 2, .context = 1, .tensor = 2});
    ASSERT_EQ(mesh.sizes().data, 3);
    for (nn::Axis axis : {nn::Axis::pipeline, nn::Axis::data, nn::Axis::tensor}) {
      Communicator& line = *mesh.group(axis);
      ASSERT_EQ(line.size(), mesh.sizes().of(axis));
      EXPECT_EQ(line.rank(), mesh.coordinate(axis));
      for (const std::string& text : line.gather_bytes(std::to_string(mesh.rank()))) {
        const int peer = std::stoi(text);
        for (nn::Axis other : {nn::Axis::pipeline, nn::Axis::data, nn::Axis::tensor})
          if (other != axis) {
            EXPECT_EQ(coordinate(mesh.sizes(), peer, other), mesh.coordinate(other));
          }
      }
    }
    EXPECT_EQ(mesh.group(nn::Axis::context)->size(), 1);
  });
}

}  // namespace
}  // namespace weft::parallel
