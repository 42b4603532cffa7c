#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "configs/scalar.h"
#include "configs/yaml_tree.h"

namespace depthroute {
namespace {

TEST(Scalar, IntegersAreExact) {
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer("-12"), -12);
  EXPECT_EQ(parse_integer("+12"), 12);
  EXPECT_EQ(parse_integer("9223372036854775807"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(parse_integer("-9223372036854775808"), std::numeric_limits<int64_t>::min());
  for (const char* text : {"", "+", "-", "+-1", "--1", "1.0", "1e3", "0x10", "0o17", "010", "1_000", "1 ",
                           " 1", "abc", "9223372036854775808", "99999999999999999999", "true", ".5"})
    EXPECT_FALSE(parse_integer(text).has_value()) << text;
}

TEST(Scalar, NumbersAreFinite) {
  EXPECT_EQ(parse_number("1.0e-8"), 1.0e-8);
  EXPECT_EQ(parse_number("+3"), 3.0);
  EXPECT_EQ(parse_number("-.5"), -0.5);
  for (const char* text : {"", ".", "e5", "inf", ".inf", "-inf", "nan", ".nan", "1e999", "-1e999", "1e-999",
                           "0x1p3", "1_0", "1.0f", "1,5", "1e", "+-1", "1.2.3"})
    EXPECT_FALSE(parse_number(text).has_value()) << text;
}

TEST(Scalar, NumbersSurvivePrinting) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    const uint64_t bits = random();
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    const auto back = parse_number(yaml_number(value));
    // from_chars refuses numbers below the smallest normal on some libraries; no setting is that small.
    if (std::abs(value) < std::numeric_limits<double>::min()) continue;
    ASSERT_TRUE(back.has_value()) << yaml_number(value);
    ASSERT_EQ(*back, value);
  }
}

// Any text, however odd, comes back from YAML as itself and as text.
TEST(Scalar, TextSurvivesPrinting) {
  std::vector<std::string> texts = {"null", "~",   "true", "No",   "on",      "12",   "1e5", "0x1", ".5",
                                    "-",    "- a", "*a",   "&a",   "a: b",    "a #b", "#a",  "'",   "\"",
                                    "\\",   "\n",  "",     "../a", "a/*.bin", "é",    "{a}", "[a]", "a,b",
                                    "!x",   "%a",  "@a",   "?",    " a ",     ".",    "..",  "..."};
  std::mt19937 random(2);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (uint32_t n = random() % 12; n > 0; --n) text += static_cast<char>(1 + random() % 126);
    texts.push_back(text);
  }
  for (const std::string& text : texts) {
    const YamlDocument document = parse_yaml("a: [" + yaml_text(text) + "]\n", "t", {});
    const YamlNode& item = document.root.find("a")->items.at(0);
    ASSERT_EQ(item.kind, YamlNode::Kind::scalar) << text;
    ASSERT_EQ(item.text, text);
    if (item.quoted) continue;
    EXPECT_FALSE(parse_number(text) || parse_boolean(text) || is_null_word(text)) << text;
  }
}

TEST(Scalar, MessagesStayOnOneLine) { EXPECT_EQ(one_line("a\nb\tc\x7f"), "a\\x0ab\\x09c\\x7f"); }

std::string encoded(uint32_t c) {
  const auto continued = [c](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3f)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | c >> 6), continued(0)};
  if (c < 0x10000) return {static_cast<char>(0xe0 | c >> 12), continued(6), continued(0)};
  return {static_cast<char>(0xf0 | c >> 18), continued(12), continued(6), continued(0)};
}
bool is_character(uint32_t c) { return c < 0x110000 && (c < 0xd800 || c > 0xdfff); }

TEST(Scalar, Utf8IsToldFromOtherBytes) {
  for (uint32_t c = 0; c < 0x200000; ++c) {
    const std::string text = encoded(c);
    ASSERT_EQ(valid_utf8_prefix(text), is_character(c) ? text.size() : 0) << c;
    for (size_t cut = 1; cut < text.size(); ++cut) ASSERT_EQ(valid_utf8_prefix(text.substr(0, cut)), 0U) << c;
  }
  // Every pair of bytes before two that continue, overlong forms among them: a character only if it would
  // have been encoded so.
  for (uint32_t pair = 0; pair < 0x10000; ++pair) {
    const uint32_t a = pair >> 8, b = pair & 0xff;
    const std::string text = {static_cast<char>(a), static_cast<char>(b), '\x80', '\x80'};
    const bool first = [&] {
      for (const uint32_t c : {a, (a & 0x1f) << 6 | (b & 0x3f), (a & 0x0f) << 12 | (b & 0x3f) << 6,
                               (a & 0x07) << 18 | (b & 0x3f) << 12})
        if (is_character(c) && text.rfind(encoded(c), 0) == 0) return true;
      return false;
    }();
    ASSERT_EQ(valid_utf8_prefix(text) > 0, first) << pair;
  }
  EXPECT_EQ(one_line("\xc3\xa9\xe9\xc3"), "\xc3\xa9\\xe9\\xc3");
}

}  // namespace
}  // namespace depthroute
