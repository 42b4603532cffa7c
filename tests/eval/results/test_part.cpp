// Part files: what is written reads back bit for bit, damage is noticed, and nobody writes a part twice at
// once.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "eval/cells/known_answers.h"
#include "eval/results/output_lock.h"
#include "eval/results/part.h"
#include "tests/eval/eval_fixture.h"

namespace depthroute {
namespace {

/// Two batches of a small evaluation with all weights.
class Part : public testing::Test {
 protected:
  Part() : session_(session_config("reset")) {
    write_shard(folder_ / "tokens.bin", random_tokens(60));
    const TokenStream tokens({folder_ / "tokens.bin"}, 97);
    const auto known_answers = make_known_answers(session_.model->plan(), {});
    std::vector<Comparison> list;
    for (const KnownAnswer& known_answer : known_answers)
      list.push_back({known_answer.name, known_answer.first_site, known_answer.site_changes});
    measure(*make_single_world(), *session_.evaluator, session_.stream,
            {tokens, BatchRange::all(5, 2).part(1, 2), list, true},
            [&](BatchRecord&& record) { records_.push_back(std::move(record)); });
    records_[0].outcomes[1].kl[1] = std::nan("");
    records_[0].outcomes[1].largest_change = std::nan("");
    records_[1].outcomes[2].delta_nll[0] = -INFINITY;
    provenance_.config_hash = "aa";
    provenance_.checkpoint_checksum = "bb";
    provenance_.data_paths = {"a.bin", "b.bin"};
    provenance_.data_checksums = {"cc", "dd"};
    provenance_.parameters_before = provenance_.parameters_after = "ee";
    provenance_.precision = "fp32";
    provenance_.devices = {"one", "two"};
  }
  PartLayout layout() const {
    std::vector<std::string> names = {"identity",           "identity_from_middle", "scale_all_by_2",
                                      "uniform_everywhere", "hold_everywhere",      "permuted_sources"};
    return {session_.model->plan(), BatchRange::all(5, 2).part(1, 2), 7, names, true};
  }
  std::string write(const std::string& name) {
    PartWriter writer(folder_ / name, layout());
    for (const BatchRecord& record : records_) writer.write(record);
    writer.commit({1, 2}, provenance_, true);
    return folder_ / name;
  }
  std::string read(const std::string& path) const {
    std::string bytes;
    PartReader(path).read(layout(), [&](BatchRecord&& record) { bytes += to_bytes(record); });
    return bytes;
  }
  std::string expected() const { return to_bytes(records_[0]) + to_bytes(records_[1]); }

  TempFolder folder_;
  EvalSession session_;
  std::vector<BatchRecord> records_;
  Provenance provenance_;
};

TEST_F(Part, ReadsBackBitForBit) {
  ASSERT_EQ(records_.size(), 2u);
  const std::string path = write("part.h5");
  EXPECT_EQ(read(path), expected());
  const PartReader part(path);
  EXPECT_EQ(part.difference(provenance_), "");
  EXPECT_TRUE(part.known_answers_passed());
  Provenance merged;
  part.add_to(merged);
  EXPECT_EQ(merged.precision, "fp32");
  EXPECT_EQ(merged.devices, provenance_.devices);
  EXPECT_EQ(merged.parameters_before, "ee");
  write("again.h5");
  EXPECT_EQ(hash_file(path), hash_file(folder_ / "again.h5"));
}

TEST_F(Part, OfAnotherEvaluationIsTold) {
  const PartReader part(write("part.h5"));
  const auto told = [&](std::string Provenance::*which, const std::string& word) {
    Provenance other = provenance_;
    other.*which = "zz";
    EXPECT_NE(part.difference(other).find(word), std::string::npos) << part.difference(other);
  };
  told(&Provenance::config_hash, "configuration");
  told(&Provenance::checkpoint_checksum, "checkpoint");
  Provenance other = provenance_;
  other.data_checksums = {"cc"};
  EXPECT_NE(part.difference(other).find("data"), std::string::npos);
  PartLayout cells = layout();
  cells.comparisons[0] = "another";
  EXPECT_THROW(part.read(cells, [](BatchRecord&&) {}), DataError);
  Provenance before;
  before.parameters_before = "another";
  EXPECT_THROW(part.add_to(before), DataError);
  before = {};
  before.precision = "bf16";
  EXPECT_THROW(part.add_to(before), DataError);
}

TEST_F(Part, AnyDamageIsNoticed) {
  const std::string whole = read_file(write("part.h5")), path = folder_ / "damaged.h5";
  for (uint64_t i = 0; i < 300; ++i) {
    std::string bytes = whole;
    const size_t place = i < 20 ? i * 25 : random_below(3, i, whole.size());
    bytes[place] = static_cast<char>(bytes[place] ^ (1 << (i % 8)));
    write_file_atomically(path, bytes);
    EXPECT_THROW(PartReader reader(path), DataError) << place;
  }
  write_file_atomically(path, whole + "x");
  EXPECT_THROW(PartReader reader(path), DataError);
  for (size_t size : {size_t{0}, size_t{7}, whole.size() / 2, whole.size() - 1}) {
    write_file_atomically(path, whole.substr(0, size));
    EXPECT_THROW(read(path), DataError) << size;
  }
}

TEST_F(Part, IsLockedWhileItIsMeasuredAndLeftoversGo) {
  const std::string path = folder_ / "parts/part.h5";
  {
    const OutputLock lock(path);
    EXPECT_THROW(OutputLock second(path), ConfigError);
    const OutputLock other(folder_ / "parts/part2.h5");
  }
  write_file_atomically(path + ".tmp-1", "half");
  write_file_atomically(folder_ / "parts/part2.h5.tmp-1", "of another part");
  write_file_atomically(path + ".lock", "");  // left by a killed task
  {
    const OutputLock lock(path);
    EXPECT_FALSE(std::filesystem::exists(path + ".tmp-1"));
  }
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "parts"))
    left.push_back(entry.path().filename());
  EXPECT_EQ(left, std::vector<std::string>{"part2.h5.tmp-1"});
}

}  // namespace
}  // namespace depthroute
