// Damaged presets: read or refused in one line, never anything else.
#include <gtest/gtest.h>

#include <random>

#include "tests/configs/support.h"

namespace depthroute::test {
namespace {

std::string mutated(std::string text, std::mt19937& random) {
  static const std::vector<std::string> kTokens = {
      "{", "}", "[",  "]", ": ", "- ",    "\n",    "  ",   "&a ",  "*a", "!!str ", "? ",           "|",
      ">", "'", "\"", "#", "%",  "---\n", "...\n", "null", "<<: ", "\t", "\xff",   "\xef\xbb\xbf", "1e999",
      "-", ",", "@",  "`", "\\", "\r"};
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % std::max<size_t>(n, 1)); };
  for (size_t edits = 1 + below(4); edits > 0; --edits) {
    const size_t at = below(text.size());
    switch (random() % 5) {
      case 0:
        text.insert(at, kTokens[below(kTokens.size())]);
        break;
      case 1:
        text.erase(at, 1 + below(20));
        break;
      case 2:
        if (!text.empty()) text[at] = static_cast<char>(random() % 256);
        break;
      case 3:
        text.insert(at, text.substr(below(text.size()), below(60)));
        break;
      default:
        text.resize(at);
    }
  }
  return text;
}

template <typename Config, typename Parse>
bool survives(const std::string& text, Parse parse) {
  try {
    const Config config = parse(text, "m.yaml");
    EXPECT_EQ(flatten(parse(to_yaml(config), "again.yaml")), flatten(config)) << text;
    return true;
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.rfind("m.yaml", 0), 0u) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return false;
  }
}

TEST(Mutations, AreReadOrRefused) {
  std::mt19937 random(20240601);
  std::vector<std::string> texts;
  std::vector<bool> eval;
  for (const auto& path : presets()) {
    texts.push_back(slurp(path));
    eval.push_back(is_eval(path));
  }
  texts.push_back(kEveryEvalKey);
  eval.push_back(true);
  int read = 0;
  constexpr int kMutations = 5000;
  for (int i = 0; i < kMutations; ++i) {
    const size_t which = random() % texts.size();
    const std::string text = mutated(texts[which], random);
    const auto train_parse = [](const std::string& t, const std::string& name) {
      return parse_train_config(t, name);
    };
    const auto eval_parse = [](const std::string& t, const std::string& name) {
      return parse_eval_config(t, name);
    };
    read += eval[which] ? survives<EvalConfig>(text, eval_parse) : survives<TrainConfig>(text, train_parse);
  }
  EXPECT_GT(read, kMutations / 50);  // both sides are exercised
  EXPECT_LT(read, kMutations * 9 / 10);
}

}  // namespace
}  // namespace depthroute::test
