#include <algorithm>

#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::F64;
using test::I32;

template <typename Values>
F64 run(const Values& x, const Tensor& mask, F64 sums) {
  // An array of float64, as its alignment requires.
  const F64 scratch({std::max<int64_t>(ops::column_sums_workspace(test::device(), sums.size()) / 2, 1)});
  Tensor workspace = scratch;
  workspace.dtype = DType::f32;
  workspace.shape = {2 * scratch.size()};
  ops::column_sums(test::stream(), x, mask, sums, workspace);
  return sums;
}

struct Size {
  int64_t rows, columns;
};
class ColumnSums : public testing::TestWithParam<Size> {};

// Sums in float32 would be wrong by 1e-7: the values are far from 0.
TEST_P(ColumnSums, AddUpInFloat64) {
  test::for_each_activation_type([]<typename Values>() {
    const auto [rows, columns] = GetParam();
    const Values x = test::random_activations<Values>({rows, columns}, 1, 1.0, 100.0);
    F64 before({columns});
    for (int64_t c = 0; c < columns; ++c) before[c] = 0.1 * static_cast<double>(c);
    const F64 got = run(x, {}, before);
    const std::vector<double> values = x.doubles();
    for (int64_t c = 0; c < columns; ++c) {
      double want = before[c];
      for (int64_t row = 0; row < rows; ++row) want += values[row * columns + c];
      ASSERT_NEAR(got[c], want, 1e-13 * want) << "column " << c;
    }
  });
}

// The rows that do not count may hold anything.
TEST_P(ColumnSums, TakeTheRowsOfTheMaskAlone) {
  test::for_each_activation_type([]<typename Values>() {
    const auto [rows, columns] = GetParam();
    Values x = test::random_activations<Values>({rows, columns}, 2);
    const I32 mask = test::random_i32({rows}, 3, -1, 2);
    std::vector<double> want(columns);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t c = 0; c < columns; ++c) {
        auto& value = x.data()[row * columns + c];
        if (mask[row] != 0)
          want[c] += static_cast<double>(value);
        else
          value = std::numeric_limits<float>::quiet_NaN();
      }
    const F64 got = run(x, mask, F64({columns}, 0.0));
    for (int64_t c = 0; c < columns; ++c)
      ASSERT_NEAR(got[c], want[c], 1e-13 * static_cast<double>(rows)) << "column " << c;
    const F64 none = run(x, I32({rows}, 0), F64({columns}, 0.3));
    EXPECT_TRUE(none == F64({columns}, 0.3));
  });
}
INSTANTIATE_TEST_SUITE_P(Sizes, ColumnSums,
                         testing::Values(Size{1, 1}, Size{7, 9}, Size{63, 33}, Size{300, 64}, Size{5000, 3},
                                         Size{2100, 9}, Size{150, 1030}, Size{3, 5000}, Size{70, 3000},
                                         Size{8, 20'011}));

TEST(ColumnSumsOrder, DoesNotDependOnThreads) {
  for (const auto& [rows, columns] : {Size{3000, 9}, Size{300, 1000}, Size{40, 5000}}) {
    // Over many orders of magnitude: equal values would add up exactly in any order.
    F32 x = test::random_f32({rows, columns}, 4);
    for (int64_t i = 0; i < x.size(); ++i)
      x.data()[i] = std::ldexp(x.data()[i], static_cast<int>(i % 61) - 30);
    test::expect_independent_of_threads([&, c = columns] {
      const F64 sums = run(x, {}, F64({c}, 0.0));
      F32 halves({2 * c});
      std::memcpy(halves.data(), sums.data(), static_cast<size_t>(c) * sizeof(double));
      return std::vector{halves};
    });
  }
}

}  // namespace
}  // namespace depthroute
