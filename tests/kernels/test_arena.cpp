#include "configs/base/error.h"
#include "kernels/arena.h"
#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

TEST(Arena, TensorsAreZeroAlignedAndApart) {
  Arena arena(Device::cpu);
  std::vector<Tensor> slots(5);
  const std::vector<Shape> shapes = {{3}, {5, 7}, {1}, {2, 3, 4}, {100, 33}};
  for (size_t i = 0; i < slots.size(); ++i)
    arena.plan(i % 2 ? Purpose::workspace : Purpose::states, &slots[i], shapes[i]);
  for (const Tensor& slot : slots) EXPECT_FALSE(slot.defined());
  arena.allocate();
  for (size_t i = 0; i < slots.size(); ++i) {
    EXPECT_TRUE(slots[i].shape == shapes[i]);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(slots[i].pointer) % 256, 0u);
    for (int64_t e = 0; e < slots[i].numel(); ++e) ASSERT_EQ(slots[i].data<float>()[e], 0.0f);
    ops::fill(test::kCpu, slots[i], static_cast<float>(i + 1));  // tensors after it must still read 0
  }
  EXPECT_EQ(arena.bytes(Purpose::workspace), 256 * (1 + 1));
  EXPECT_EQ(arena.bytes(Purpose::states), 256 * (1 + 1 + 52));
  EXPECT_EQ(arena.total_bytes(), arena.bytes(Purpose::workspace) + arena.bytes(Purpose::states));
}

TEST(Arena, PlanningAloneTakesNoMemory) {
  Arena arena(Device::cpu);
  Tensor slot;
  arena.plan(Purpose::parameters, &slot, {int64_t{1} << 40, 64});  // 256 TiB
  EXPECT_EQ(arena.total_bytes(), int64_t{1} << 48);
  EXPECT_FALSE(slot.defined());
}

// Products and sums that overflow int64, and the largest that does not.
TEST(Arena, WhatCannotBeCountedIsAnErrorOfTheConfiguration) {
  constexpr int64_t k32 = int64_t{1} << 32;
  Arena arena(Device::cpu);
  Tensor slot;
  EXPECT_THROW(arena.plan(Purpose::states, &slot, {k32, k32}), ConfigError);                  // elements
  EXPECT_THROW(arena.plan(Purpose::states, &slot, {k32, k32 / 8}, DType::f64), ConfigError);  // bytes
  EXPECT_EQ(arena.total_bytes(), 0);
  arena.plan(Purpose::states, &slot, {k32, k32 / 32}, DType::f64);
  arena.plan(Purpose::states, &slot, {k32, k32 / 32});
  // All tensors together.
  EXPECT_THROW(arena.plan(Purpose::routing, &slot, {k32, k32 / 32}, DType::f64), ConfigError);
  EXPECT_EQ(arena.total_bytes(), 3 * (int64_t{1} << 61));
}

TEST(Tensor, ViewsSelectTheElementsTheirNamesSay) {
  std::vector<float> storage(5 * 7);
  for (size_t i = 0; i < storage.size(); ++i) storage[i] = static_cast<float>(i);
  const Tensor whole = host_tensor(storage.data(), {5, 7});
  const Tensor rows = whole.slice(2, 4);
  EXPECT_TRUE(rows.shape == (Shape{2, 7}));
  EXPECT_EQ(rows.data<float>()[0], 14.0f);
  const Tensor columns = whole.columns(3, 5);
  EXPECT_FALSE(columns.contiguous());
  EXPECT_EQ(columns.data<float>()[columns.row_stride() * 4 + 1], 32.0f);
  EXPECT_TRUE(whole.columns(0, 7).contiguous());
  EXPECT_TRUE(whole.reshape({35}).shape == Shape{35});
}

TEST(TensorDeathTest, MisuseAborts) {
  std::vector<float> storage(6);
  const Tensor x = host_tensor(storage.data(), {2, 3});
  EXPECT_DEATH(x.data<int32_t>(), "dtype");
  EXPECT_DEATH(x.reshape({7}), "numel");
  EXPECT_DEATH(x.columns(0, 2).slice(0, 1), "contiguous");
  EXPECT_DEATH(x.slice(1, 3), "shape");
}

}  // namespace
}  // namespace depthroute
