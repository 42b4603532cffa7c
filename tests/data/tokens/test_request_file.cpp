// Files of task requests: what they hold is read as written, and whatever is wrong is named with its line.
#include <gtest/gtest.h>

#include "data/files.h"
#include "data/tokens/request_file.h"
#include "tests/support/request_text.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

using testing_support::choice;
using testing_support::document;
using testing_support::request;
using testing_support::request_text;

class RequestFiles : public testing::Test {
 protected:
  RequestFile read(const std::string& text) const {
    write_raw(folder_ / "task.jsonl", text);
    return RequestFile(folder_ / "task.jsonl");
  }
  std::string message(const std::string& text) const {
    return message_of([&] { read(text); });
  }
  /// Expects a message of one line that holds `part`.
  void expect_refused(const std::string& text, const std::string& part) const {
    const std::string said = message(text);
    EXPECT_NE(said.find(part), std::string::npos) << said << "\n" << text;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
    EXPECT_EQ(said.rfind(folder_ / "task.jsonl", 0), 0u) << said;
  }
  TempFolder folder_;
};

TEST_F(RequestFiles, HoldDocumentsOfChoices) {
  const RequestFile file = read(
      request_text("multiple_choice",
                   {document(0, {choice({1, 2, 3}, {4, 5}, 7), choice({1, 2, 3}, {6}, 2)}, "\"gold\": 1, "),
                    document(5, {choice({7}, {8, 9, 10, 11}, 12)}, "\"gold\": 0, ")}));
  EXPECT_EQ(file.task(), "by_hand");
  EXPECT_EQ(file.type(), TaskType::multiple_choice);
  EXPECT_EQ(file.max_length(), 64);
  EXPECT_EQ(file.longest(), 4);
  EXPECT_EQ(file.scored_tokens(), 7);
  EXPECT_EQ(file.checksum(), hash_file(file.path()));
  ASSERT_EQ(file.documents().size(), 2u);
  EXPECT_EQ(file.documents()[0].gold, 1);
  EXPECT_EQ(file.documents()[1].number, 5);
  const auto second = file.requests_of(file.documents()[1]);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].document, 1);
  EXPECT_EQ(second[0].characters, 12);
  std::vector<int32_t> tokens(static_cast<size_t>(second[0].context + second[0].continuation));
  file.read(second[0].first_token, tokens);
  EXPECT_EQ(tokens, (std::vector<int32_t>{7, 8, 9, 10, 11}));
  EXPECT_EQ(file.requests()[1].choice, 1);
  EXPECT_EQ(file.requests()[1].inputs(), 3);
}

TEST_F(RequestFiles, HoldWindowsAndContinuations) {
  const RequestFile windows = read(request_text(
      "loglikelihood_rolling",
      {document(0, {request({0}, {1, 2}), request({2}, {3, 4}, "", 1)}, "\"words\": 3, \"bytes\": 17, ")}));
  EXPECT_EQ(windows.documents()[0].words, 3);
  EXPECT_EQ(windows.documents()[0].bytes, 17);
  EXPECT_EQ(windows.requests()[1].cut, 1);
  const RequestFile one = read(request_text("loglikelihood", {document(3, {request({1, 2}, {3})})}));
  EXPECT_EQ(one.documents()[0].gold, -1);
  EXPECT_EQ(one.scored_tokens(), 1);
}

TEST_F(RequestFiles, WhatIsWrongIsNamedWithItsLine) {
  const std::string good = request_text(
      "loglikelihood", {document(0, {request({1, 2}, {3})}), document(1, {request({4}, {5, 6})})});
  EXPECT_EQ(read(good).scored_tokens(), 3);
  const auto replaced = [&](const std::string& from, const std::string& to, const std::string& text) {
    std::string changed = text;
    const size_t at = changed.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return changed.replace(at, from.size(), to);
  };
  const auto refuse = [&](const std::string& from, const std::string& to, const std::string& part) {
    expect_refused(replaced(from, to, good), part);
  };
  expect_refused("", "is empty");
  expect_refused("{}\n", "is no file of task requests");
  expect_refused("[1]\n", ":1: holds array");
  refuse("\"version\": 1", "\"version\": 2", "of version 2, and this program reads 1");
  refuse("\"output_type\": \"loglikelihood\"", "\"output_type\": \"generate_until\"", "cannot score");
  refuse("\"harness\": \"none\"", "\"harness\": 3", ":1: \"harness\" is 3, not text");
  refuse("\"harness\": \"none\"", "\"harness\": \"a\\u0007\"", "control characters");
  refuse("\"max_length\": 64", "\"max_length\": 0", ":1: \"max_length\" is 0");
  refuse("\"max_length\": 64", "\"max_length\": 1",
         ":2: request 0: 2 tokens are read, more than max_length = 1");
  refuse("\"documents\": 2", "\"documents\": 3", "holds 2 documents, but line 1 says 3");
  refuse("\"requests\": 2", "\"requests\": 1", "holds 2 requests, but line 1 says 1");
  refuse("\"tokens\": 6", "\"tokens\": 7", "holds 6 tokens, but line 1 says 7");
  refuse("\"tokens\": 6", "\"tokens\": 6, \"colour\": 1", ":1: the key \"colour\" is unknown");
  refuse("\"doc\": 1", "\"doc\": 0", ":3: document 0 comes after 0");
  refuse("\"doc\": 1", "\"doc\": -1", ":3: \"doc\" is -1");
  refuse("\"doc\": 1", "\"doc\": 1, \"gold\": 0", ":3: the key \"gold\" is unknown");
  refuse("[5, 6]", "[]", ":3: request 0: \"continuation\" is empty");
  refuse("[4]", "[]", ":3: request 0: \"context\" is empty");
  refuse("[4]", "[-4]", ":3: request 0: \"context\" holds -4, not a token");
  refuse("[4]", "[2147483648]", "holds 2147483648, not a token");
  refuse("[4]", "[4.0]", "holds 4.0, not a token");
  refuse("[4]", "4", "\"context\" is 4, not a list");
  refuse(", \"cut\": 0", "", ":2: request 0: the key \"cut\" is missing");
  refuse("\"cut\": 0", "\"cut\": 0, \"cut\": 0", "given twice");
  refuse("\"cut\": 0", "\"cut\": 18446744073709551615", "\"cut\" is 18446744073709551615");
  for (size_t length = 1; length < good.size(); length += 7)
    expect_refused(good.substr(0, length), good[length - 1] == '\n' ? "but line 1 says" : "is truncated");
  expect_refused(request_text("loglikelihood", {document(0, {request({1}, {2}), request({1}, {3})})}),
                 ":2: 2 requests, but loglikelihood has one");
  const std::string items = request_text(
      "multiple_choice", {document(0, {choice({1}, {2}, 1), choice({1}, {3}, 1)}, "\"gold\": 1, ")});
  expect_refused(replaced("\"gold\": 1", "\"gold\": 2", items), "\"gold\" is 2, but there are 2 choices");
  expect_refused(replaced("\"gold\": 1, ", "", items), "\"gold\" is missing");
  expect_refused(replaced(", \"characters\": 1", "", items), "request 0: the key \"characters\" is missing");
  expect_refused(request_text("loglikelihood_rolling",
                              {document(0, {request({1}, {2})}, "\"words\": 0, \"bytes\": 1, ")}),
                 "\"words\" is 0");
}

TEST_F(RequestFiles, TokensBeyondTheVocabularyAreRefused) {
  const RequestFile file = read(request_text("loglikelihood", {document(4, {request({1, 96}, {3})})}));
  file.check_vocabulary(97);
  const std::string said = message_of([&] { file.check_vocabulary(96); });
  EXPECT_NE(said.find("document 4, request 0: token 96 is outside the model's vocabulary of 96"),
            std::string::npos)
      << said;
}

}  // namespace
}  // namespace depthroute
