// The words of configurations: names and values are one to one.
#include <gtest/gtest.h>

#include "configs/terms.h"
#include "tests/configs/support.h"

namespace depthroute::test {
namespace {

template <typename Enum>
class Terms : public testing::Test {};
using AllTerms =
    testing::Types<Variant, Sublayer, Family, Band, Intervention, Replace, Average, TokenFilter, Choose,
                   DocumentsFrom, Split, TaskType, ClaimMeasure, EdgeChoice, RoutingWeights, Recompute,
                   DataOrder, LearningRateDecay, DeviceChoice, Precision, CollectiveBackend>;
TYPED_TEST_SUITE(Terms, AllTerms);

TYPED_TEST(Terms, NamesAndValuesAreOneToOne) {
  const std::vector<TypeParam> all = values<TypeParam>();
  const std::vector<std::string> texts = names<TypeParam>();
  ASSERT_EQ(all.size(), texts.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(all[i]), i);
    EXPECT_EQ(to_string(all[i]), texts[i]);
    EXPECT_EQ(parse<TypeParam>(texts[i]), all[i]);
    EXPECT_EQ(std::count(texts.begin(), texts.end(), texts[i]), 1) << texts[i];
  }
  for (const char* other : {"", "nothing_like_it", "Mask", "cpu "})
    EXPECT_FALSE(parse<TypeParam>(other)) << other;
}

TEST(Term, TheFinalSitesBandHasANameThatNoConfigurationCanUse) {
  EXPECT_STREQ(to_string(Band::none), "none");
  EXPECT_FALSE(parse<Band>("none"));
  EXPECT_EQ(names<Band>(), (std::vector<std::string>{"early", "mid", "late"}));
}

TEST(Term, UnknownNamesAreRefusedWithTheKnownOnes) {
  EXPECT_EQ(parse_or_fail<DeviceChoice>("--device", "auto"), DeviceChoice::automatic);
  EXPECT_EQ(message_of([] { parse_or_fail<DeviceChoice>("--device", "gpu"); }),
            "--device must be one of auto, cpu, cuda, got 'gpu'");
}

}  // namespace
}  // namespace depthroute::test
