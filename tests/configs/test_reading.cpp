// YAML text and --set arguments: what is refused, and in which words.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/configs/support.h"

namespace depthroute::test {
namespace {

TEST(Reading, MessagesInFull) {
  EXPECT_EQ(train_error(kTrain + "train:\n  step: 3\n"),
            "run.yaml:4: unknown key 'train.step'; did you mean 'train.steps'?");
  EXPECT_EQ(train_error(kTrain + "train: {steps: abc}"),
            "run.yaml:3: train.steps must be an integer, got 'abc'");
  EXPECT_EQ(train_error(kTrain + "train: {steps: 2e4}"),
            "run.yaml:3: train.steps must be an integer, got '2e4'; write 20000");
  EXPECT_EQ(train_error(kTrain + "train: {steps: 1.0e6}"),
            "run.yaml:3: train.steps must be an integer, got '1.0e6'; write 1000000");
  EXPECT_EQ(train_error(kTrain + "train: {steps: 0}"),
            "run.yaml:3: train.steps must be in [1, 1000000000], got 0");
  EXPECT_EQ(train_error(kTrain + "seed: \"5\""), "run.yaml:3: seed must be an integer, got the text \"5\"");
  EXPECT_EQ(train_error(kTrain + "seed: 99999999999999999999"),
            "run.yaml:3: seed must be an integer, got '99999999999999999999'");
  EXPECT_EQ(train_error(kTrain + "optimizer: {beta1: 1.0}"),
            "run.yaml:3: optimizer.beta1 must be in [0, 1), got 1.0");
  EXPECT_EQ(train_error(kTrain + "optimizer: {lr: .inf}"),
            "run.yaml:3: optimizer.lr must be a finite number, got '.inf'");
  EXPECT_EQ(train_error(kTrain + "device: gpu"),
            "run.yaml:3: device must be one of auto, cpu, cuda, got 'gpu'");
  EXPECT_EQ(train_error(kTrain + "model: {tie_embeddings: yes}"),
            "run.yaml:3: model.tie_embeddings must be true or false, got 'yes'");
  EXPECT_EQ(train_error("output: 5\ndata: {train: [a]}"),
            "run.yaml:1: output must be text, got '5'; put it in quotes if it is meant");
  EXPECT_EQ(train_error("output: a\ndata: {train: a.bin}"),
            "run.yaml:2: data.train must be a list of text, got 'a.bin'");
  EXPECT_EQ(train_error("output: a\ndata: {train: [a, [b]]}"),
            "run.yaml:2: data.train[1] must be text, got a list");
  EXPECT_EQ(train_error("output: a\ndata: {train: []}"), "run.yaml:2: data.train must not be an empty list");
  EXPECT_EQ(train_error(kTrain + "log:"), "run.yaml:3: log must be a map of keys, got nothing (null)");
  EXPECT_EQ(train_error(kTrain + "log: 3"), "run.yaml:3: log must be a map of keys, got '3'");
  EXPECT_EQ(train_error(kTrain + "lr: 3"), "run.yaml:3: unknown key 'lr'; did you mean 'optimizer.lr'?");
  EXPECT_EQ(train_error(kTrain + "log: {zebra: 3}"),
            "run.yaml:3: unknown key 'log.zebra'; keys here: every, tensorboard");
  EXPECT_EQ(train_error("data: {train: [a]}"),
            "run.yaml: required key 'output' is missing (folder for metrics.jsonl and checkpoints/)");
  EXPECT_EQ(
      train_error("output: a\n\ndata: {val: [a]}"),
      "run.yaml:3: required key 'data.train' is missing (token shards to train on: llm.c's .bin or Megatron-LM's "
      ".idx; paths may hold * and ?)");
}

TEST(Reading, YamlItself) {
  EXPECT_EQ(train_error(kTrain + "log:\n  every: 1\n  every: 2\n"),
            "run.yaml:5: key 'log.every' is given twice (first on line 4)");
  EXPECT_EQ(train_error(""), "run.yaml: the configuration is empty");
  EXPECT_EQ(train_error("# nothing\n"), "run.yaml: the configuration is empty");
  EXPECT_EQ(train_error("- a\n"), "run.yaml:1: a configuration is a map of keys, got a list");
  EXPECT_EQ(train_error("just words"), "run.yaml:1: a configuration is a map of keys, got 'just words'");
  EXPECT_EQ(train_error(kTrain + "---\nseed: 1\n"),
            "run.yaml:3: a second YAML document begins here (---); one file holds one configuration");
  EXPECT_EQ(train_error(kTrain + "seed: &a 1\nlog: {every: *a}"),
            "run.yaml:4: aliases (*name) are not supported; write the value out");
  EXPECT_EQ(train_error(kTrain + "seed: !!int 1"),
            "run.yaml:3: YAML tags are not supported, got 'tag:yaml.org,2002:int'");
  EXPECT_EQ(train_error(kTrain + "? [a, b]\n: 1\n"),
            "run.yaml:3: a key must be text, got a list or a map (is a bracket left open?)");
  EXPECT_EQ(train_error(kTrain + "log: {every: 1"), "run.yaml:3: YAML syntax: end of map flow not found");
  EXPECT_EQ(train_error(kTrain + "a\0b: 1\n" + std::string(1, '\0')),
            "run.yaml: holds a NUL byte, so it is not YAML text");
  EXPECT_EQ(train_error(kTrain + "\"a\\nb\": 1"),
            "run.yaml:3: unknown key 'a\\x0ab'; keys here: seed, output, device, precision, deterministic, "
            "model, data, "
            "train, optimizer, validate, checkpoint, distributed, log");
}

// Texts made to exhaust a reader: bounded, refused in one line.
TEST(Reading, HostileTexts) {
  const auto many = [](const std::string& part, size_t count) {
    std::string text;
    for (size_t i = 0; i < count; ++i) text += part;
    return text;
  };
  EXPECT_TRUE(contains(train_error(kTrain + "seed: " + many("[", 1000) + many("]", 1000)),
                       "nested more than 16 levels deep"));
  EXPECT_TRUE(contains(train_error(kTrain + "seed: " + many("[", 100000)), "a key must be text"));
  EXPECT_TRUE(
      contains(train_error(kTrain + "seed: " + many("{a: ", 1000)), "nested more than 16 levels deep"));
  EXPECT_TRUE(contains(train_error(many("- ", 20000)), "nested more than 16 levels deep"));
  EXPECT_TRUE(contains(train_error(many("a ", size_t{1} << 20)), "too long for a configuration"));
  std::string wide;
  for (int i = 0; i < 20000; ++i) wide += fmt::format("k{}: 1\n", i);
  EXPECT_EQ(train_error(wide), "run.yaml:1001: more than 1000 keys in one map");
  EXPECT_FALSE(train_error(kTrain + many("x", 100000) + ": 1").empty());
}

TEST(Reading, Overrides) {
  const TrainConfig config = parse_train_config(
      kTrain + "optimizer: {lr: 1.0e-3}\n", "run.yaml",
      {"train.steps=2000", "optimizer.lr=5e-3", "data.val=[x.bin, y.bin]", "model.residual={variant: kimi}",
       "model.residual.num_blocks=null", "model.residual.sublayers_per_block=2", "data.train.0=b.bin",
       "log.every=7", "output=a=b", "model.from="});
  EXPECT_EQ(config.train.steps, 2000);
  EXPECT_EQ(config.optimizer.lr, 5e-3);
  EXPECT_EQ(config.data.val, (std::vector<std::string>{"x.bin", "y.bin"}));
  EXPECT_EQ(config.model.residual.variant, Variant::kimi);
  EXPECT_EQ(config.model.residual.sublayers_per_block, 2);
  EXPECT_EQ(config.data.train, std::vector<std::string>{"b.bin"});
  EXPECT_EQ(config.log.every, 7);
  EXPECT_EQ(config.output, "a=b");
  EXPECT_FALSE(config.model_from.has_value());

  const auto error = [](const std::string& argument) { return train_error(kTrain, {argument}); };
  EXPECT_EQ(error("train.steps=abc"), "--set train.steps=abc: train.steps must be an integer, got 'abc'");
  EXPECT_EQ(error("train.step=3"),
            "--set train.step=3: unknown key 'train.step'; did you mean 'train.steps'?");
  EXPECT_EQ(error("modle.head_dim=3"), "--set modle.head_dim=3: unknown key 'modle'; did you mean 'model'?");
  EXPECT_EQ(error("train.steps"), "--set train.steps: expected key.path=value");
  EXPECT_EQ(error("=3"), "--set =3: expected key.path=value");
  EXPECT_EQ(error("train..steps=3"), "--set train..steps=3: the key path has an empty part");
  EXPECT_EQ(error("train.=3"), "--set train.=3: the key path has an empty part");
  EXPECT_EQ(error("output.x=3"), "--set output.x=3: 'x' stands under a key that holds 'out'");
  EXPECT_EQ(error("data.train.1=3"), "--set data.train.1=3: '1' is not an index into this list of 1 entries");
  EXPECT_EQ(error("log={every: 1"),
            "--set log={every: 1: a key must be text, got a list or a map (is a bracket left open?)");
  EXPECT_EQ(error("log={every: 1, every: 2}"), "--set log={every: 1, every: 2}: key 'every' is given twice");
  EXPECT_EQ(error("optimizer.warmup=30000"),
            "--set optimizer.warmup=30000: optimizer.warmup = 30000 is more than train.steps = 20000");
  EXPECT_EQ(error("train.steps=10"),
            "--set train.steps=10: optimizer.warmup = 1000 is more than train.steps = 10");
  // A whole configuration can come from arguments.
  EXPECT_EQ(train_error("# empty\n", {"output=o", "data.train=[a]"}), "");
}

TEST(Reading, RemembersWhichKeysWereGivenAndPrintsNoneOfIt) {
  const TrainConfig config =
      parse_train_config(kTrain + "model: {from: null, head_dim: 128, residual: {variant: cumulative}}\n",
                         "run.yaml", {"train.steps=20000"});
  EXPECT_EQ(config.given, (std::set<std::string>{"output", "data.train", "model.head_dim",
                                                 "model.residual.variant", "train.steps"}));
  TrainConfig nothing_given = config;
  nothing_given.given.clear();
  EXPECT_EQ(to_yaml(config), to_yaml(nothing_given));
  EXPECT_EQ(flatten(config), flatten(nothing_given));
}

TEST(Reading, OnlyUtf8WithoutNul) {
  EXPECT_EQ(train_error(kTrain + "# caf\xe9\n"), "run.yaml:3: holds the byte \\xe9, which is not UTF-8");
  EXPECT_EQ(train_error(kTrain + "output: \xed\xa0\x80"),
            "run.yaml:3: holds the byte \\xed, which is not UTF-8");
  EXPECT_EQ(train_error(kTrain, {"output=a\xff"}),
            "--set output=a\\xff: holds the byte \\xff, which is not UTF-8");
  EXPECT_EQ(train_error(kTrain, {"outp\xfft=a"}),
            "--set outp\\xfft=a: holds the byte \\xff, which is not UTF-8");
  EXPECT_EQ(train_error("data: {train: [a.bin]}\noutput: \"a\\0b\"\n"),
            "run.yaml:2: output holds a NUL character, which no path or name may");
  EXPECT_EQ(train_error(kTrain, {"data.val=[x, \"a\\0b\"]"}),
            "--set data.val=[x, \"a\\0b\"]: data.val[1] holds a NUL character, which no path or name may");
  EXPECT_EQ(train_error(kTrain, {"device=\"cpu\\0\""}),
            "--set device=\"cpu\\0\": device holds a NUL character, which no path or name may");
  EXPECT_TRUE(
      contains(train_error(kTrain, {"train.steps=\"5\\0\""}), "must be an integer, got the text \"5\\x00\""));
  EXPECT_EQ(parse_train_config(kTrain, "", {"output=caf\xc3\xa9/\xf0\x9f\x8e\x89"}).output,
            "caf\xc3\xa9/\xf0\x9f\x8e\x89");
}

TEST(Reading, Files) {
  EXPECT_EQ(message_of([] { read_train_config("/nowhere/run.yaml"); }),
            "/nowhere/run.yaml: cannot open the configuration: No such file or directory");
  EXPECT_EQ(message_of([] { read_eval_config("/"); }), "/: is a folder, not a file");
  EXPECT_EQ(message_of([] { read_eval_config("/dev/zero"); }), "/dev/zero: is a device, not a file");
}

}  // namespace
}  // namespace depthroute::test
