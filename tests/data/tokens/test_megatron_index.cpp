// Megatron-LM's indexed datasets as token shards.
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <set>

#include "data/files.h"
#include "data/tokens/token_stream.h"
#include "tests/support/megatron_dataset.h"

namespace depthroute {
namespace {

std::vector<int32_t> read_all(const TokenStream& stream) {
  std::vector<int32_t> tokens(static_cast<size_t>(stream.num_tokens()));
  stream.read(0, tokens);
  return tokens;
}

std::string open_message(const std::string& path, int64_t vocab_size = 256) {
  return message_of([&] { TokenStream stream({path}, vocab_size); });
}

struct TypeCode {
  uint8_t code;
  int64_t largest;
  bool has_sign;
  int bytes;
};
constexpr TypeCode kTypeCodes[] = {{1, 255, false, 1},       {2, 127, true, 1},        {3, 32767, true, 2},
                                   {4, 2147483647, true, 4}, {5, 2147483647, true, 8}, {8, 65535, false, 2}};

// A random stream of documents of several sequences, some of them empty, in several datasets of every type,
// read in pieces across all borders.
TEST(MegatronIndex, EveryTypeReadsAsItsTokensAndDocuments) {
  const TempFolder folder;
  std::mt19937_64 random(5);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  std::vector<int32_t> all;
  std::vector<int64_t> starts;
  std::vector<std::string> paths;
  for (int round = 0; round < 4; ++round)
    for (const auto& [code, largest, has_sign, bytes] : kTypeCodes) {
      MegatronDataset dataset(code);
      for (int64_t documents = below(6); documents > 0; --documents) {
        std::vector<std::vector<int64_t>> sequences(static_cast<size_t>(below(4)));
        for (auto& sequence : sequences)
          for (int64_t length = below(3) == 0 ? 0 : below(40); length > 0; --length)
            sequence.push_back(below(8) == 0 ? largest : below(largest));
        const size_t begin = all.size();
        for (const auto& sequence : sequences) all.insert(all.end(), sequence.begin(), sequence.end());
        if (all.size() > begin) starts.push_back(static_cast<int64_t>(begin));
        dataset.document(sequences);
      }
      paths.push_back(dataset.write(folder / fmt::format("{}_{}", round, code)));
    }
  const TokenStream stream(paths, int64_t{1} << 31);
  ASSERT_EQ(read_all(stream), all);
  ASSERT_GT(starts.size(), 20u);
  ASSERT_TRUE(stream.knows_documents());
  for (size_t i = 0; i < paths.size(); ++i) {
    EXPECT_EQ(stream.shards()[i].token_bytes, kTypeCodes[i % 6].bytes);
    EXPECT_NO_THROW(stream.check_contents(i, stream.read_contents(i)));
  }
  for (int64_t position = 0; position <= stream.num_tokens(); ++position) {
    const auto next = std::lower_bound(starts.begin(), starts.end(), position);
    ASSERT_EQ(stream.next_document(position), next == starts.end() ? stream.num_tokens() : *next) << position;
    if (position == stream.num_tokens()) continue;
    ASSERT_EQ(stream.document_of(position), *(std::upper_bound(starts.begin(), starts.end(), position) - 1));
    const int64_t count = std::min(below(90), stream.num_tokens() - position);
    std::vector<int32_t> part(static_cast<size_t>(count));
    stream.read(position, part);
    ASSERT_TRUE(std::equal(part.begin(), part.end(), all.begin() + position)) << position;
  }
}

TEST(MegatronIndex, StandsBesideLlmcShardsWhichSayNothingOfDocuments) {
  const TempFolder folder;
  const std::string index = MegatronDataset(8).document({{1, 2}, {3}}).write(folder / "a");
  ShardWriter writer(folder / "b.bin", 256);
  writer.append(std::vector<int32_t>{4, 5});
  writer.close();
  const TokenStream both({index, folder / "b.bin"}, 256);
  EXPECT_EQ(read_all(both), (std::vector<int32_t>{1, 2, 3, 4, 5}));
  EXPECT_FALSE(both.knows_documents());
  EXPECT_FALSE(TokenStream({folder / "b.bin"}, 256).knows_documents());
}

// The types differ in what their bits mean: of the same bytes, one may hold a negative token.
TEST(MegatronIndex, NegativeAndTooLargeTokensAreNamed) {
  const TempFolder folder;
  for (const auto& [code, largest, has_sign, bytes] : kTypeCodes)
    for (const int64_t bad : {int64_t{-1}, int64_t{-128}, int64_t{100}, int64_t{127}, int64_t{1} << 40}) {
      const bool fits = bad < 0 ? has_sign : bad <= largest || bytes == 8;
      if (!fits) continue;
      const std::string path = MegatronDataset(code).document({{1, 99}, {0, bad, 3}}).write(folder / "a");
      const TokenStream stream({path}, 100);
      std::vector<int32_t> tokens(2);
      EXPECT_NO_THROW(stream.read(0, tokens));
      const std::string said = fmt::format(
          "{}: token 3 (of 5) is {}, outside the vocabulary of 100; tokenise with this model's tokenizer "
          "or set model.vocab_size",
          path, bad);
      EXPECT_EQ(message_of([&] { stream.read(2, tokens); }), said);
      const ShardContents contents = stream.read_contents(0);
      EXPECT_EQ(contents.largest_token, bad < 0 ? std::numeric_limits<int64_t>::max() : bad);
      EXPECT_EQ(message_of([&] { stream.check_contents(0, contents); }), said);
    }
}

TEST(MegatronIndex, ChecksumAndFingerprintCoverIndexAndTokens) {
  const TempFolder folder;
  const auto look = [&](const MegatronDataset& dataset) {
    const TokenStream stream({dataset.write(folder / "a")}, 256);
    write_raw(folder / "both", dataset.index() + dataset.bin);
    const std::vector<ShardContents> contents = {stream.read_contents(0)};
    EXPECT_EQ(contents[0].checksum, hash_file(folder / "both"));
    EXPECT_EQ(contents[0].largest_token, 9);
    EXPECT_EQ(stream.files(0).size(), 2u);
    EXPECT_EQ(stream.files(0)[0].identity, identify(folder / "a.idx"));
    EXPECT_EQ(stream.files(0)[1].identity, identify(folder / "a.bin"));
    return stream.fingerprint(contents) + stream.outline();
  };
  std::set<std::string> seen = {look(MegatronDataset(8).document({{1, 2, 9}}).document({{4}}))};
  seen.insert(
      look(MegatronDataset(3).document({{1, 2, 9}}).document({{4}})));  // another type, the same bytes
  seen.insert(
      look(MegatronDataset(8).document({{1, 2}}).document({{9, 4}})));  // other documents, the same tokens
  seen.insert(look(MegatronDataset(8).document({{1}, {2, 9}}).document({{4}})));  // other sequences
  seen.insert(look(MegatronDataset(8).document({{1, 2, 9}}).document({{5}})));
  EXPECT_EQ(seen.size(), 5u);
}

MegatronDataset sound() { return MegatronDataset(8).document({{1, 2}, {3}}).document({{4, 5, 6}}); }

TEST(MegatronIndex, MalformedDatasetsNameFileFaultAndRemedy) {
  const TempFolder folder;
  const auto changed = [](auto change) {
    MegatronDataset dataset = sound();
    change(dataset);
    return dataset;
  };
  using D = MegatronDataset;
  constexpr uint64_t kHuge = uint64_t{1} << 63;
  const std::pair<MegatronDataset, std::string> cases[] = {
      {changed([](D& d) { d.version = 2; }), "version 2 of a Megatron-LM index; only version 1 is known"},
      {changed([](D& d) { d.version = kHuge; }), "version 9223372036854775808"},
      {changed([](D& d) { d.code = 0; }),
       "type code 0 is none of Megatron-LM's, which are 1 to 8; the index is"},
      {changed([](D& d) { d.code = 9; }), "type code 9 is none"},
      {changed([](D& d) { d.code = 6; }),
       "holds float64 (type code 6), which are no token ids: name a dataset of"},
      {changed([](D& d) { d.code = 7; }), "holds float32 (type code 7)"},
      {changed([](D& d) { d.modes = std::string(3, 0); }), "holds a mode for every sequence, as multimodal"},
      {changed([](D& d) { d.modes = std::string(2, 0); }),
       "2 bytes follow its 3 sequences and 3 document boundaries"},
      {changed([](D& d) { d.sequence_count = 4; }),
       "header says 4 sequences and 3 document boundaries, for which 94 bytes are too few: it is truncated"},
      {changed([](D& d) { d.sequence_count = kHuge + 3; }), "header says 9223372036854775811 sequences"},
      {changed([](D& d) { d.boundary_count = kHuge + 3; }), "9223372036854775811 document boundaries"},
      {changed([](D& d) { d.sequence_count = ~uint64_t{0}, d.boundary_count = ~uint64_t{0}; }),
       "header says"},
      {changed([](D& d) { d.boundary_count = 2; }),
       "8 bytes follow its 3 sequences and 2 document boundaries"},
      {changed([](D& d) { d.boundaries.clear(), d.boundary_count = 0; }), "no document boundaries, not even"},
      {changed([](D& d) { d.lengths[1] = -1; }),
       "sequence 1 has -1 tokens; the index is damaged: make it again"},
      {changed([](D& d) { d.lengths[0] = 1; }),
       "sequence 1 is said to begin at byte 4, but the sequences before it end at 2"},
      {changed([](D& d) { std::swap(d.pointers[1], d.pointers[2]); }),
       "sequence 1 is said to begin at byte 6"},
      {changed([](D& d) { d.pointers[0] = 1; }), "sequence 0 is said to begin at byte 1"},
      {changed([](D& d) { d.pointers[2] = -6; }), "sequence 2 is said to begin at byte -6"},
      {changed([](D& d) { d.pointers[2] = std::numeric_limits<int64_t>::max(); }),
       "sequence 2 is said to begin"},
      {changed([](D& d) { d.code = 4; }),
       "sequence 1 is said to begin at byte 4, but the sequences before it end at 8"},
      {changed([](D& d) { d.boundaries[0] = 1; }), "the first document begins with sequence 1, not 0"},
      {changed([](D& d) {
         d.boundaries = {0, 3, 2};
       }),
       "document boundary 2 is sequence 2, after 3 of 3 sequences"},
      {changed([](D& d) { d.boundaries[1] = 4; }),
       "document boundary 1 is sequence 4, after 0 of 3 sequences"},
      {changed([](D& d) { d.boundaries[1] = -1; }), "document boundary 1 is sequence -1"},
      {changed([](D& d) { d.boundaries[2] = 2; }),
       "documents end with sequence 2, but there are 3 sequences"},
  };
  for (const auto& [dataset, part] : cases) {
    const std::string path = dataset.write(folder / "a"), text = open_message(path);
    EXPECT_TRUE(has(text, part)) << text;
    EXPECT_EQ(text.rfind(path + ": ", 0), 0u) << text;
  }
}

// More tokens than int64 bytes can hold, in an index that says so consistently.
TEST(MegatronIndex, LengthsThatAddUpToTooMuchAreRefused) {
  const TempFolder folder;
  MegatronDataset dataset(5);
  dataset.lengths.assign(1 << 20, std::numeric_limits<int32_t>::max());
  for (size_t i = 0; i < dataset.lengths.size(); ++i)
    dataset.pointers.push_back(static_cast<int64_t>(i) * std::numeric_limits<int32_t>::max() * 8);
  dataset.boundaries = {0, 1 << 20};
  dataset.sequence_count = 1 << 20;
  dataset.boundary_count = 2;
  const std::string needed =
      fmt::format("says {} tokens of 8 bytes, but it holds 0", (int64_t{1} << 51) - (1 << 20));
  EXPECT_TRUE(has(open_message(dataset.write(folder / "a")), needed));
}

TEST(MegatronIndex, TokensThatDisagreeWithTheIndexAreRefused) {
  const TempFolder folder;
  MegatronDataset dataset = sound();
  dataset.bin.pop_back();
  const std::string index = dataset.write(folder / "a"), bin = folder / "a.bin";
  EXPECT_EQ(open_message(index),
            bin + ": " + index +
                " says 6 tokens of 2 bytes, but it holds 5; it is truncated or still being "
                "written: make both again");
  dataset.bin += "abc";
  dataset.write(folder / "a");
  EXPECT_EQ(open_message(index),
            bin + ": " + index +
                " says 6 tokens of 2 bytes, but it holds 14 bytes; the two belong to different "
                "datasets, or the index was written too early: make both again");
  std::filesystem::remove(bin);
  EXPECT_TRUE(has(open_message(index), bin + ": cannot open"));
}

TEST(MegatronIndex, EveryTruncationOfTheIndexIsFound) {
  const TempFolder folder;
  const std::string path = sound().write(folder / "a"), whole = read_file(path);
  for (size_t size = 0; size < whole.size(); ++size) {
    write_raw(path, whole.substr(0, size));
    ASSERT_FALSE(open_message(path).empty()) << size;
  }
}

TEST(MegatronIndex, OtherNamesOfADatasetLeadToItsIndex) {
  const TempFolder folder;
  const std::string index = sound().write(folder / "a"), bin = folder / "a.bin";
  const std::string hint = " a Megatron-LM dataset is named by its index: " + index;
  EXPECT_EQ(open_message(bin), bin + ": is no token shard by itself;" + hint);
  EXPECT_EQ(open_message(folder / "a"), folder / "a: there is no such file;" + hint);
  write_raw(folder / "b.index", sound().index());
  EXPECT_TRUE(has(open_message(folder / "b.index"), "its name does not end in .idx"));
  EXPECT_EQ(TokenStream({folder / "*.idx"}, 256).num_tokens(), 6);
}

}  // namespace
}  // namespace depthroute
