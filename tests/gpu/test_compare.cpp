// The figures gpu_check.sh judges by: planted differences are found where they are, NaN never passes.
#include <gtest/gtest.h>

#include <cmath>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "eval/results/hdf5.h"
#include "tests/gpu/compare.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

class Compare : public testing::Test {
 protected:
  std::string metrics(const std::string& name, int count, int odd_step, const std::string& odd_loss) {
    std::string text;
    for (int step = 1; step <= count; ++step) {
      const std::string loss = step == odd_step ? odd_loss : fmt::format("{}", 4.0 / step);
      text += fmt::format("{{\"step\":{},\"loss\":{},\"lr\":0.1}}\n", step, loss);
      if (step % 3 == 0) text += fmt::format("{{\"step\":{},\"val_loss\":9}}\n", step);
    }
    write_file_atomically(folder_ / name, text);
    return folder_ / name;
  }
  std::string results(const std::string& name, double kl, float nll) {
    const std::string path = folder_ / name;
    Hdf5Writer file(path);
    for (const char* group : {"/cell", "/clean", "/routing"}) file.group(group);
    const std::vector<std::string> cells = {"x", "y"};
    file.scale("/cell/cell", std::span(cells), {"", "cell"});
    const std::vector<double> effects = {0.5, NAN}, kls = {kl, NAN}, masses = {0.1, 0.2};
    file.write("/cell/delta_nll", std::span<const double>(effects), {"/cell/cell"}, {"nats", "effect"});
    file.write("/cell/kl", std::span<const double>(kls), {"/cell/cell"}, {"nats", "kl"});
    file.write("/cell/mass", std::span<const double>(masses), {"/cell/cell"}, {"1", "mass"});
    file.write("/routing/mean", std::span<const double>(masses), {"/cell/cell"}, {"1", "mean"});
    const std::vector<float> values = {1.0f, nll};
    file.write("/clean/nll", std::span<const float>(values), {"/cell/cell"}, {"nats", "nll"});
    file.close();
    return path;
  }
  TempFolder folder_;
};

TEST_F(Compare, FindsTheStepThatDiffers) {
  const std::string a = metrics("a", 10, 7, "0.75"), b = metrics("b", 10, 0, "");
  const Distance distance = compare_losses(a, b, 0);
  EXPECT_NEAR(distance.figure, 0.75 - 4.0 / 7, 1e-12);
  EXPECT_EQ(distance.where, "at step 7");
  EXPECT_EQ(compare_losses(a, b, 6).figure, 0);
  EXPECT_NEAR(compare_mean_losses(a, b, 5).figure, (0.75 - 4.0 / 7) / 5, 1e-12);
  EXPECT_EQ(compare_mean_losses(a, b, 3).figure, 0);
}

TEST_F(Compare, NothingNotFinitePasses) {
  const std::string nan = metrics("nan", 10, 4, "null"), same = metrics("same", 10, 0, "");
  EXPECT_FALSE(compare_losses(nan, same, 0).within(1e30));
  EXPECT_FALSE(compare_losses(nan, nan, 0).within(1e30));
  EXPECT_FALSE(compare_mean_losses(nan, same, 8).within(1e30));
  EXPECT_FALSE(compare_results(results("a.h5", NAN, 2), results("b.h5", 1, 2), true).within(1e30));
}

TEST_F(Compare, RunsOfDifferentLengthAreRefused) {
  const std::string a = metrics("a", 10, 0, ""), b = metrics("b", 9, 0, "");
  EXPECT_THROW(compare_losses(a, b, 0), DataError);
  EXPECT_THROW(compare_mean_losses(a, b, 10), DataError);
}

TEST_F(Compare, ResultsDifferRelativelyAboveOne) {
  const std::string a = results("a.h5", 4.0, 2.0f), b = results("b.h5", 4.4, 2.0f);
  EXPECT_EQ(compare_results(a, a, true).figure, 0);
  EXPECT_NEAR(compare_results(a, b, true).figure, 0.1 / 1.1, 1e-12);
  EXPECT_EQ(compare_results(a, b, true).where, "/cell/kl of x");
  const std::string c = results("c.h5", 4.0, 2.25f);
  EXPECT_NEAR(compare_results(c, a, true).figure, 0.125, 1e-12);
  EXPECT_EQ(compare_results(c, a, true).where, "/clean/nll[1]");
  EXPECT_EQ(compare_results(c, a, false).figure, 0);
}

}  // namespace
}  // namespace depthroute
