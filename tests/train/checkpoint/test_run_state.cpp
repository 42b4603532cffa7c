#include <gtest/gtest.h>

#include "configs/cli.h"
#include "tests/support/temp_folder.h"
#include "train/checkpoint/format.h"

namespace depthroute {
namespace {

const RunState kState = {.step = 7,
                         .tokens = 448,
                         .position = 14,
                         .skipped_steps = 2,
                         .bad_in_a_row = 1,
                         .data_fingerprint = "contents-a",
                         .val_fingerprint = "contents-b"};

// Byte for byte what earlier versions wrote.
TEST(RunState, IsWrittenWithThoseWhoWroteIt) {
  TrainConfig config;
  config.seed = 5;
  config.data.seq_len = 32;
  EXPECT_EQ(state_to_json(kState, config, 3), fmt::format(R"({{
  "step": 7,
  "tokens": 448,
  "sampler": {{
    "position": 14,
    "order": "shuffled",
    "seq_len": 32
  }},
  "rng": {{
    "kind": "counter",
    "seed": 5
  }},
  "processes": 3,
  "skipped_steps": 2,
  "bad_in_a_row": 1,
  "data_fingerprint": "contents-a",
  "val_fingerprint": "contents-b",
  "program": {{
    "version": "{}",
    "commit": "{}"
  }}
}}
)",
                                                          program_version(), program_commit()));
}

TEST(RunState, SurvivesBothForms) {
  for (const std::string& text : {state_to_json(kState), state_to_json(kState, TrainConfig{}, 2)}) {
    const RunState read = state_from_json(text, "state.json");
    EXPECT_EQ(state_to_json(read), state_to_json(kState)) << text;
  }
}

TEST(RunState, WhatIsMissingOrOfAnotherTypeIsNamed) {
  const auto refusal = [](const std::string& from, const std::string& to) {
    std::string text = state_to_json(kState);
    text.replace(text.find(from), from.size(), to);
    return message_of([&] { state_from_json(text, "state.json"); });
  };
  for (const char* key : {"step", "tokens", "sampler", "position", "skipped_steps", "bad_in_a_row",
                          "data_fingerprint", "val_fingerprint"}) {
    const std::string text = refusal(std::string("\"") + key + '"', "\"other\"");
    EXPECT_TRUE(text.starts_with("state.json: not the state of a run: ")) << text;
    EXPECT_TRUE(has(text, std::string("'") + key + "'")) << text;
  }
  EXPECT_TRUE(has(refusal("448", "\"many\""), "must be number")) << refusal("448", "\"many\"");
  EXPECT_TRUE(has(refusal("\"contents-a\"", "3"), "must be string"));
}

}  // namespace
}  // namespace depthroute
