#include <algorithm>
#include <bit>

#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::BF16;
using test::F32;
using test::I32;

/// Every bit pattern, NaN with payloads among them.
template <typename Values>
Values random_bits(Shape shape, uint64_t seed) {
  std::mt19937_64 engine(seed);
  Values result(shape);
  for (int64_t i = 0; i < result.size(); ++i) {
    const uint32_t word = static_cast<uint32_t>(engine()) | (i % 3 == 0 ? 0x7f800000u : 0u);
    if constexpr (std::is_same_v<Values, BF16>) {
      result[i].bits = static_cast<uint16_t>(word >> 16);
    } else {
      std::memcpy(&result[i], &word, sizeof(word));
    }
  }
  return result;
}

// Rows of any length, from any row on: what a GPU moves at once depends on both.
TEST(SelectRows, TakesTheRowsOfTheMaskBitForBit) {
  test::for_each_activation_type([]<typename Values>() {
    for (int64_t columns : {1, 3, 4, 7, 8, 33, 1024})
      for (int64_t rows : {1, 5, 130})
        for (int64_t skip : {0, 1}) {
          SCOPED_TRACE(testing::Message() << rows << " x " << columns << " from " << skip);
          const Values from = random_bits<Values>({rows + skip, columns}, 1);
          Values to = random_bits<Values>({rows + skip, columns}, 2), want = to;
          I32 mask = test::random_i32({rows}, 3, -1, 3);
          mask[0] = 7;
          for (int64_t row = 0; row < rows; ++row)
            if (mask[row] != 0)
              std::copy_n(from.data() + (skip + row) * columns, columns,
                          want.data() + (skip + row) * columns);
          ops::select_rows(test::stream(), mask, from.tensor().slice(skip, skip + rows),
                           to.tensor().slice(skip, skip + rows));
          EXPECT_TRUE(to == want);
        }
  });
}

// More than a GPU's largest grid handles at once.
TEST(SelectRows, LargeTensorsTakeSeveralTurns) {
  constexpr int64_t kRows = 600'001, kColumns = 3;
  const F32 from({kRows, kColumns}, 2.0f);
  F32 to({kRows, kColumns}, 1.0f);
  I32 mask({kRows}, 0);
  for (int64_t row = 0; row < kRows; row += 2) mask[row] = 1;
  ops::select_rows(test::stream(), mask, from, to);
  const std::vector<float> values = to.values();
  for (int64_t i = 0; i < to.size(); ++i) ASSERT_EQ(values[i], i / kColumns % 2 == 0 ? 2.0f : 1.0f) << i;
}

}  // namespace
}  // namespace depthroute
