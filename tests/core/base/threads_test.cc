#include "core/base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace weft {
namespace {

class ParallelFor : public testing::TestWithParam<int> {
 protected:
  ParallelFor() : before_(num_threads()) { set_num_threads(GetParam()); }
  ~ParallelFor() override { set_num_threads(before_); }

 private:
  int before_;
};

TEST_P(ParallelFor, CoversEachElementOnce) {
  for (int64_t n : {0, 1, 2, 7, 100, 1001}) {
    std::vector<std::atomic<int>> visits(static_cast<size_t>(n));
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
    });
    for (const std::atomic<int>& count : visits) EXPECT_EQ(count, 1);
  }
}

TEST_P(ParallelFor, GivesNoPartLessThanTheGrain) {
  std::mutex mutex;
  std::vector<int64_t> lengths;
  parallel_for(100, 40, [&](int64_t begin, int64_t end) {
    std::lock_guard lock(mutex);
    lengths.push_back(end - begin);
  });
  EXPECT_LE(lengths.size(), 2u);
  for (int64_t length : lengths) EXPECT_GE(length, 40);
}

TEST_P(ParallelFor, RethrowsAnExceptionOfTheBody) {
  EXPECT_THROW(
      parallel_for(8, 1,
                   [](int64_t, int64_t) { fail(ErrorKind::bad_data, "one part cannot go on"); }),
      Error);
  EXPECT_THROW(parallel_for(8, 1,
                            [](int64_t, int64_t end) {
                              if (end == 8) throw std::runtime_error("the last part");
                            }),
               std::runtime_error);
}

TEST_P(ParallelFor, WorksInsideItself) {
  std::atomic<int> visits = 0;
  parallel_for(4, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      parallel_for(10, 1, [&](int64_t b, int64_t e) { visits += static_cast<int>(e - b); });
  });
  EXPECT_EQ(visits, 40);
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelFor, testing::Values(1, 2, 3, 7));

TEST(NumThreads, IsAtLeastOne) {
  const int before = num_threads();
  set_num_threads(0);
  EXPECT_EQ(num_threads(), 1);
  set_num_threads(before);
}

}  // namespace
}  // namespace weft
