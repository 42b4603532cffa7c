// Properties of every key of both schemas.
#include <gtest/gtest.h>

#include <cmath>

#include "configs/schema.h"
#include "tests/configs/support.h"

namespace depthroute::test {
namespace {

TrainConfig every_train_key() {
  TrainConfig config = parse_train_config(kTrain, "run.yaml");
  config.model_from = "folder";
  return config;
}

// One letter changed, dropped, added or swapped with its neighbour.
std::vector<std::string> misspellings(const std::string& key) {
  std::vector<std::string> words;
  for (size_t i = 0; i < key.size(); ++i) {
    std::string changed = key, dropped = key, added = key, swapped = key;
    changed[i] = 'q';
    dropped.erase(i, 1);
    added.insert(i, 1, 'q');
    if (i + 1 < key.size()) std::swap(swapped[i], swapped[i + 1]);
    words.insert(words.end(), {changed, dropped, added, swapped});
  }
  std::erase_if(words, [&](const std::string& word) { return word == key || word.empty(); });
  return words;
}

// Every line `key: ...` of the printed configuration, misspelt in every way: the error names that line and
// the key.
void expect_misspellings_named(const std::string& yaml, std::string (*error)(const std::string&)) {
  const std::vector<std::string> lines = lines_of(yaml);
  int keys = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const size_t begin = lines[i].find_first_not_of(" -"), end = lines[i].find(':');
    const std::string key = lines[i].substr(begin, end - begin);
    ++keys;
    for (const std::string& word : misspellings(key)) {
      std::vector<std::string> changed = lines;
      changed[i] = lines[i].substr(0, begin) + word + lines[i].substr(end);
      const std::string message = error(joined(changed));
      EXPECT_TRUE(contains(message, ".yaml:" + std::to_string(i + 1) + ": unknown key '"))
          << word << ": " << message;
      EXPECT_TRUE(contains(message, "." + key + "'") || contains(message, "'" + key + "'"))
          << word << ": " << message;
    }
  }
  EXPECT_GT(keys, 40);
}

TEST(Schema, EveryMisspeltKeyIsNamed) {
  expect_misspellings_named(to_yaml(every_train_key()),
                            [](const std::string& text) { return train_error(text); });
  const std::string eval = to_yaml(parse_eval_config(kEveryEvalKey, "eval.yaml"));
  expect_misspellings_named(eval, [](const std::string& text) { return eval_error(text); });
}

std::vector<std::string> wrong_values(const Key& key) {
  const std::string type = type_name(key.field);
  std::vector<std::string> wrong = {"{a: 1}", "[[]]"};
  const auto add = [&](std::initializer_list<std::string> values) { wrong.insert(wrong.end(), values); };
  if (!key.null_ok) add({"null", "~", ""});
  if (type == "integer" || type == "number")
    add({"abc", "\"5\"", "true", "[1]", "nan", ".inf", "1e999", "0x10", "1_0"});
  if (type == "integer") add({"1.5", "1.0", "1e3", "010", "9223372036854775808", "-99999999999999999999"});
  if (type == "true or false") add({"yes", "no", "on", "1", "\"true\"", "True", "[true]"});
  if (type == "text" || type == "text or null") add({"5", "1.5", "true", "[a]", "\"\""});
  if (type == "list of text") add({"a", "\"a\"", "[1]", "[null]", "[true]", "[{a: 1}]"});
  if (type == "list of integers") add({"1", "[a]", "[1.0]", "[\"1\"]", "[1, 1]", "[-1]"});
  if (type == "number or list of numbers") add({"a", "[a]", "[nan]", "[]", "\"1\""});
  if (type == "integer or list of integers") add({"a", "[a]", "[1.0]", "[]", "\"1\"", "-1", "[3, -1]"});
  if (type == "list of families or positions") add({"1", "current", "[1, current]", "[1.5]", "[-1]", "[]"});
  if (type == "list of maps") add({"1", "[1]", "[null]"});
  if (!key.choices.empty() && type != "list of families or positions")
    add({"[nothing_like_it]", "nothing_like_it"});
  return wrong;
}

template <typename Error>
void expect_wrong_types_named(const Schema& schema, const std::string& base, Error error) {
  for (const Key& key : schema.keys())
    for (const std::string& value : wrong_values(key)) {
      const std::string argument = base + key.path + "=" + value;
      const std::string message = error(argument);
      EXPECT_TRUE(contains(message, "--set " + argument + ": ")) << argument << " gives: " << message;
      EXPECT_TRUE(contains(message.substr(std::min(message.size(), argument.size() + 8)),
                           key.path.substr(key.path.rfind('.') + 1)))
          << argument << " gives: " << message;
    }
}

TEST(Schema, EveryWrongTypeIsNamed) {
  TrainConfig train;
  expect_wrong_types_named(describe(train), "",
                           [](const std::string& argument) { return train_error(kTrain, {argument}); });
  EvalConfig eval;
  expect_wrong_types_named(describe(eval), "",
                           [](const std::string& argument) { return eval_error(kEveryEvalKey, {argument}); });
  for (const std::string list : {"grids", "cells", "claims"})
    expect_wrong_types_named(
        std::get<EntryList>(describe(eval).find(list)->field).blank(), list + ".0.",
        [](const std::string& argument) { return eval_error(kEveryEvalKey, {argument}); });
}

// Just outside every bound: refused; a bound that belongs to the range: not for its range.
TEST(Schema, EveryBoundHolds) {
  TrainConfig train;
  const Schema schema = describe(train);
  int bounds = 0;
  for (const Key& key : schema.keys()) {
    const auto refused = [&](double value) {
      const std::string text = std::abs(value) < 1e15 ? std::to_string(value) : "0";
      const bool integer = type_name(key.field) == "integer";
      const std::string number = integer ? text.substr(0, text.find('.')) : text;
      return contains(train_error(kTrain, {key.path + "=" + number}),
                      key.path + " must be " + key.range.text());
    };
    if (key.range.low) {
      EXPECT_TRUE(refused(*key.range.low - 1)) << key.path;
      EXPECT_EQ(refused(*key.range.low), key.range.low_open) << key.path;
      ++bounds;
    }
    if (key.range.high) {
      EXPECT_TRUE(refused(*key.range.high + 1)) << key.path;
      EXPECT_EQ(refused(*key.range.high), key.range.high_open) << key.path;
      ++bounds;
    }
  }
  EXPECT_GT(bounds, 30);
}

TEST(Schema, FlattenHasEveryKeyWhateverTheValues) {
  TrainConfig plain, other = every_train_key();
  other.model.residual.sublayers_per_block = 3;
  other.data.val = {"a", "b"};
  const auto a = flatten(plain), b = flatten(other);
  ASSERT_EQ(a.size(), b.size());
  const Schema schema = describe(plain);
  ASSERT_EQ(a.size(), schema.keys().size() - 1) << "all but data.mix, which stands for data.train";
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].first, b[i].first);
  const auto value = [&](const std::string& key) {
    for (const auto& [name, text] : b)
      if (name == key) return text;
    return std::string("absent");
  };
  EXPECT_EQ(value("data.val"), "[a, b]");
  EXPECT_EQ(value("model.from"), "folder");
  EXPECT_EQ(value("model.residual.num_blocks"), "null");
  EXPECT_EQ(value("model.residual.sublayers_per_block"), "3");
  EXPECT_EQ(value("optimizer.eps"), "1e-08");
}

TEST(Schema, EveryKeyIsInTheReference) {
  TrainConfig train;
  const Schema schema = describe(train);
  const std::string table = train_reference();
  for (const Key& key : schema.keys()) {
    EXPECT_TRUE(contains(table, "\n| `" + key.path + "` | ")) << key.path;
    EXPECT_FALSE(key.help.empty()) << key.path;
  }
  for (const char* row : {"| `grids[].families` | list of text |", "| `cells[].layers` | list of integers |",
                          "| `model.wrap.recency_bias` | ", "| `output` | text | required |",
                          "| `micro_batch` | integer | `8` | in [1, 1000000] |"})
    EXPECT_TRUE(contains(eval_reference(), row)) << row;
  for (const std::string& reference : {train_reference(), eval_reference()}) {
    const std::vector<std::string> lines = lines_of(reference);
    ASSERT_GT(lines.size(), 20u);
    EXPECT_EQ(lines[0].rfind("## Keys of depthroute-", 0), 0u) << lines[0];
    for (size_t i = 2; i < lines.size(); ++i)
      EXPECT_EQ(std::count(lines[i].begin(), lines[i].end(), '|'), 6) << lines[i];
  }
}

TEST(Nearest, Distances) {
  const std::vector<std::string> known = {"steps", "sequences", "beta1", "beta2", "lr"};
  EXPECT_EQ(nearest("step", known), std::vector<std::string>{"steps"});
  EXPECT_EQ(nearest("setps", known), std::vector<std::string>{"steps"});
  EXPECT_EQ(nearest("beta", known), (std::vector<std::string>{"beta1", "beta2"}));
  EXPECT_EQ(nearest("rl", known), std::vector<std::string>{"lr"});
  EXPECT_TRUE(nearest("xx", known).empty());
  EXPECT_TRUE(nearest(std::string(100000, 's'), known).empty());
}

}  // namespace
}  // namespace depthroute::test
