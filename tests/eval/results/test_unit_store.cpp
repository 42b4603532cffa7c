// Unit files and their store: what is written reads back bit for bit, damage is noticed, only what is missing is
// missing, and nobody writes an output twice at once.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "eval/results/output_lock.h"
#include "eval/results/unit_store.h"
#include "tests/eval/eval_fixture.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

/// A small evaluation with all weights: 5 windows in batches of 1, 2 and 2.
class Units : public testing::Test {
 protected:
  Units()
      : config_(session_config("reset")),
        plan_(make_depth_plan(open_eval_model(config_, config_.model.from).config)),
        known_answers_(make_known_answers(plan_, {})),
        list_(comparisons_of(known_answers_)),
        session_(config_, needs_of(plan_, list_)) {
    list_[1].per_token = true;
    write_shard(folder_ / "tokens.bin", random_tokens(60));
    tokens_ = std::make_unique<TokenStream>(std::vector<std::string>{folder_ / "tokens.bin"}, 97);
    sequences_ = std::make_unique<Sequences>(session_.windows(*tokens_, 5));
    measure(*make_single_world(), *session_.evaluator, session_.stream,
            {*sequences_, batches_, list_, {.all_weights = true}}, all_missing(batches_, list_.size()),
            [&](UnitRecord&& record) { records_.push_back(std::move(record)); });
    records_[0].outcomes[1][CellColumn::kl][0] = std::nan("");
    records_[0].outcomes[1][CellColumn::largest_change] = {std::nan("")};
    records_[1].outcomes[2][CellColumn::delta_nll][0] = -INFINITY;
    from_.parameters_before = from_.parameters_after = "ee";
    from_.precision = "fp32";
    from_.devices = {"one", "two"};
  }
  UnitStore store(const std::string& measurement = "00112233445566778899",
                  const std::string& clean = "clean") {
    UnitStore store(folder_ / "results.h5", measurement, {plan_, *sequences_, batches_, list_, clean, 0});
    store.make_folder();
    store.scan();
    return store;
  }
  void write_all() {
    for (const UnitRecord& record : records_) store().write(record, from_);
  }
  std::vector<std::string> paths() {
    std::vector<std::string> paths;
    for (const auto& entry : fs::directory_iterator(store().folder())) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    return paths;
  }

  TempFolder folder_;
  EvalConfig config_;
  DepthPlan plan_;
  std::vector<KnownAnswer> known_answers_;
  std::vector<Comparison> list_;
  EvalSession session_;
  const BatchRange batches_ = BatchRange::all(5, 2);
  std::unique_ptr<TokenStream> tokens_;
  std::unique_ptr<Sequences> sequences_;
  std::vector<UnitRecord> records_;
  Provenance from_;
};

TEST_F(Units, ReadBackBitForBit) {
  ASSERT_EQ(records_.size(), 3u);
  EXPECT_EQ(store().missing(batches_).size(), 3u);
  write_all();
  const UnitStore there = store();
  EXPECT_TRUE(there.missing(batches_).empty());
  for (const UnitRecord& record : records_) {
    const UnitRecord read = there.read(record.batch);
    for (size_t i = 0; i < std::size(kCleanColumns); ++i)
      EXPECT_TRUE(same_bits(read.clean.values[i], record.clean.values[i])) << kCleanColumns[i].name;
    EXPECT_EQ(read.weights, record.weights);
    for (size_t k = 0; k < record.comparisons.size(); ++k)
      for (size_t i = 0; i < std::size(kCellColumns); ++i)
        EXPECT_TRUE(same_bits(read.outcomes[record.comparisons[k]].values[i], record.outcomes[k].values[i]))
            << k << " " << kCellColumns[i].name;
  }
  Provenance merged;
  there.add_to(merged, batches_);
  EXPECT_EQ(merged.precision, "fp32");
  EXPECT_EQ(merged.devices, from_.devices);
  EXPECT_EQ(merged.parameters_before, "ee");
  const std::string path = paths().front(), hash = hash_file(path);
  write_all();
  EXPECT_EQ(hash_file(path), hash);  // no time in it
}

TEST_F(Units, OnlyWhatIsMissingIsMissing) {
  write_all();
  std::vector<Comparison> more = list_;
  more.push_back({"new", "its hash", 3, known_answers_[0].site_changes});
  UnitStore wider(folder_ / "results.h5", "00112233445566778899",
                  {plan_, *sequences_, batches_, more, "clean", 0});
  wider.scan();
  ASSERT_EQ(wider.missing(batches_).size(), 3u);
  for (const Missing& missing : wider.missing(batches_)) {
    EXPECT_FALSE(missing.clean);
    EXPECT_EQ(missing.comparisons, std::vector<int>{static_cast<int>(list_.size())});
  }
  for (const Missing& missing : store("00112233445566778899", "clean and more").missing(batches_)) {
    EXPECT_TRUE(missing.clean);
    EXPECT_TRUE(missing.comparisons.empty());
  }
  EXPECT_EQ(store("another measurement").missing(batches_).size(), 3u);
  fs::remove(paths().back());
  const std::vector<Missing> left = store().missing(batches_);
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].batch, 2);
  EXPECT_EQ(left[0].comparisons.size(), list_.size());
}

TEST_F(Units, OfDifferentPrecisionOrParametersDoNotMix) {
  write_all();
  Provenance before;
  before.parameters_before = "another";
  EXPECT_THROW(store().add_to(before, batches_), DataError);
  before = {};
  before.precision = "bf16";
  EXPECT_THROW(store().add_to(before, batches_), DataError);
}

TEST_F(Units, AnyDamageIsNoticed) {
  write_all();
  const std::string path = paths().front(), whole = read_file(path), damaged = folder_ / "damaged.h5";
  for (uint64_t i = 0; i < 300; ++i) {
    std::string bytes = whole;
    const size_t place = i < 20 ? i * 25 : random_below(3, i, whole.size());
    bytes[place] = static_cast<char>(bytes[place] ^ (1 << (i % 8)));
    write_file_atomically(damaged, bytes);
    EXPECT_THROW(UnitReader reader(damaged), DataError) << place;
  }
  write_file_atomically(damaged, whole + "x");
  EXPECT_THROW(UnitReader reader(damaged), DataError);
  for (size_t size : {size_t{0}, size_t{7}, whole.size() / 2, whole.size() - 1}) {
    write_file_atomically(damaged, whole.substr(0, size));
    EXPECT_THROW(UnitReader reader(damaged), DataError) << size;
  }
  write_file_atomically(path, whole.substr(0, whole.size() / 2));
  EXPECT_EQ(store().missing(batches_).size(), 1u);
}

TEST(OutputLocks, OneWriterAtATimeAndLeftoversGo) {
  const TempFolder folder;
  const std::string path = folder / "units/part";
  {
    const OutputLock lock(path);
    EXPECT_THROW(OutputLock second(path), ConfigError);
    const OutputLock other(folder / "units/part2");
  }
  write_file_atomically(path + ".tmp-1", "half");
  write_file_atomically(folder / "units/part2.tmp-1", "of another part");
  write_file_atomically(path + ".lock", "");  // left by a killed task
  {
    const OutputLock lock(path);
    EXPECT_FALSE(fs::exists(path + ".tmp-1"));
  }
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder / "units")) left.push_back(entry.path().filename());
  EXPECT_EQ(left, std::vector<std::string>{"part2.tmp-1"});
}

}  // namespace
}  // namespace depthroute
