// Requests of a task as sequences: every scored target and no other, whole documents in one split each.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "eval/sequences/sequences.h"
#include "tests/support/request_text.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

using testing_support::choice;
using testing_support::document;
using testing_support::request;
using testing_support::request_text;

class TaskSequences : public testing::Test {
 protected:
  RequestFile read(const std::string& text) const {
    write_file_atomically(folder_ / "task.jsonl", text);
    return RequestFile(folder_ / "task.jsonl");
  }
  TempFolder folder_;
};

TEST_F(TaskSequences, AreReadAndScoredAsTheRequestsSay) {
  const RequestFile file = read(
      request_text("multiple_choice",
                   {document(3, {choice({1, 2, 3}, {4, 5}, 1), choice({1, 2, 3}, {6}, 1)}, "\"gold\": 1, "),
                    document(8, {request({7}, {8, 9, 10, 11, 12}, ", \"characters\": 1, \"bytes\": 1", 2)},
                             "\"gold\": 0, ")}));
  const Sequences sequences(file, {}, {}, Split::all);
  ASSERT_EQ(sequences.size(), 3);
  EXPECT_EQ(sequences.seq_len(), 5);
  EXPECT_EQ(sequences.documents(), 2);
  EXPECT_EQ(sequences.segments(), (std::vector<Segment>{{3, 0, 2, 2}, {3, 1, 2, 1}, {8, 2, 0, 5}}));
  const std::vector<std::vector<int32_t>> tokens = {{1, 2, 3, 4, 0}, {1, 2, 3, 0, 0}, {7, 8, 9, 10, 11}};
  const std::vector<std::vector<int32_t>> targets = {
      {-1, -1, 4, 5, -1}, {-1, -1, 6, -1, -1}, {8, 9, 10, 11, 12}};
  for (int64_t i = 0; i < 3; ++i) {
    std::vector<int32_t> ours(5, -7), scored(5, -7);
    sequences.read(i, ours, scored);
    EXPECT_EQ(ours, tokens[static_cast<size_t>(i)]);
    EXPECT_EQ(scored, targets[static_cast<size_t>(i)]);
  }
  EXPECT_EQ(sequences.tokens(0), 2);
  EXPECT_EQ(sequences.length(0), 4);
  EXPECT_EQ(sequences.request(1).choice, 1);
  EXPECT_EQ(sequences.document_starts(0), (std::vector<int64_t>{0}));
  EXPECT_EQ(sequences.document_starts(2), (std::vector<int64_t>{}));  // its beginning was cut
}

TEST_F(TaskSequences, ALaterWindowBeginsNoDocument) {
  const RequestFile file = read(request_text(
      "loglikelihood_rolling",
      {document(0, {request({0}, {1, 2}), request({2}, {3, 4})}, "\"words\": 3, \"bytes\": 17, ")}));
  const Sequences sequences(file, {}, {}, Split::all);
  EXPECT_EQ(sequences.document_starts(0), (std::vector<int64_t>{0}));
  EXPECT_EQ(sequences.document_starts(1), (std::vector<int64_t>{}));
  EXPECT_EQ(sequences.documents(), 1);
}

TEST_F(TaskSequences, SplitsShareNoDocumentAndLoseNone) {
  std::vector<std::string> documents;
  for (int i = 0; i < 40; ++i)
    documents.push_back(document(2 * i, {choice({1}, {2}, 1), choice({1}, {3, 4}, 1)}, "\"gold\": 0, "));
  const RequestFile file = read(request_text("multiple_choice", documents));
  EvalDataConfig data;
  std::map<int64_t, int> seen;
  std::map<Split, int64_t> sizes;
  for (const Split split : {Split::calibration, Split::exploration, Split::confirmation}) {
    const Sequences sequences(file, data, {}, split);
    sizes[split] = sequences.documents();
    for (const Segment& segment : sequences.segments()) ++seen[segment.document];
    EXPECT_EQ(Sequences(file, data, {}, split).fingerprint(), sequences.fingerprint());
  }
  EXPECT_EQ(seen.size(), 40u);
  for (const auto& [number, count] : seen) EXPECT_EQ(count, 2) << number;  // both choices, in one split
  EXPECT_EQ(sizes[Split::calibration], 8);
  EXPECT_EQ(sizes[Split::exploration], 16);

  std::set<std::string> fingerprints;
  for (data.seed = 0; data.seed < 5; ++data.seed)
    fingerprints.insert(Sequences(file, data, {}, Split::exploration).fingerprint());
  EXPECT_EQ(fingerprints.size(), 5u);

  EXPECT_EQ(Sequences(file, data, {}, Split::calibration, 5).size(), 5);
  const std::string few = message_of<ConfigError>([&] { Sequences(file, data, {}, Split::calibration, 17); });
  EXPECT_NE(
      few.find("splits.calibration_sequences is 17, but the calibration split of data.requests holds 16"),
      std::string::npos)
      << few;
  const RequestFile two = read(
      request_text("loglikelihood", {document(0, {request({1}, {2})}), document(1, {request({1}, {2})})}));
  const std::string too_few = message_of<ConfigError>([&] { Sequences(two, data, {}, Split::exploration); });
  EXPECT_NE(too_few.find("2 documents for 3 splits"), std::string::npos) << too_few;
}

}  // namespace
}  // namespace depthroute
