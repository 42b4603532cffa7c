#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "data/files.h"
#include "data/tokens/token_stream.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int32_t> draw(0, static_cast<int32_t>(vocab_size - 1));
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = draw(generator);
  return tokens;
}

void write_shard(const std::string& path, const std::vector<int32_t>& tokens, int64_t vocab_size) {
  ShardWriter writer(path, vocab_size);
  writer.append(tokens);
  writer.close();
}

std::vector<int32_t> read(const TokenStream& stream, int64_t begin, int64_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  stream.read(begin, tokens);
  return tokens;
}

/// A shard's bytes made by hand, independently of ShardWriter.
std::string shard_bytes(const std::vector<int32_t>& header, const std::string& body) {
  std::vector<int32_t> words = header;
  words.resize(256);
  return std::string(reinterpret_cast<const char*>(words.data()), 1024) + body;
}

std::string open_message(const std::string& path, int64_t vocab_size = 256) {
  return message_of([&] { TokenStream stream({path}, vocab_size); });
}

// Reading any range across shard borders equals the concatenation, also with empty and one-token shards and
// two widths.
TEST(TokenStream, IsTheConcatenationOfItsShards) {
  const TempFolder folder;
  const int64_t vocab = 70000;
  std::vector<int32_t> all;
  int number = 0;
  for (const int64_t count : {5, 0, 1, 37, 0, 1000, 3}) {
    const int64_t shard_vocab = number % 2 == 0 ? 65536 : vocab;
    const auto tokens = random_tokens(count, shard_vocab, 7 + number);
    write_shard(folder / fmt::format("s{}.bin", number++), tokens, shard_vocab);
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  const TokenStream stream({folder / "s*.bin"}, vocab);
  ASSERT_EQ(stream.num_tokens(), static_cast<int64_t>(all.size()));
  ASSERT_EQ(stream.shards().size(), 7u);
  EXPECT_EQ(stream.shards()[0].token_bytes, 2);
  EXPECT_EQ(stream.shards()[1].token_bytes, 4);
  for (int64_t begin = 0; begin <= stream.num_tokens(); begin = begin < 60 ? begin + 1 : begin + 97)
    for (const int64_t count :
         {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{40}, stream.num_tokens() - begin}) {
      if (begin + count > stream.num_tokens()) continue;
      const std::vector<int32_t> expected(all.begin() + begin, all.begin() + begin + count);
      ASSERT_EQ(read(stream, begin, count), expected) << begin << " + " << count;
    }
}

TEST(TokenStream, ReadsBothFormatsOfLlmc) {
  const TempFolder folder;
  write_raw(folder / "a", shard_bytes({20240520, 1, 3}, std::string("\x01\x00\xff\xff\x00\x80", 6)));
  write_raw(folder / "b", shard_bytes({20240801, 7, 2}, std::string("\x7f\x51\x02\x00\x02\x00\x00\x00", 8)));
  const TokenStream stream({folder / "a", folder / "b"}, 151936);
  EXPECT_EQ(read(stream, 0, 5), (std::vector<int32_t>{1, 65535, 32768, 151935, 2}));
}

TEST(TokenStream, CountsSamplesThatOverlapByOneToken) {
  const TempFolder folder;
  for (int64_t count = 0; count < 12; ++count) {
    write_shard(folder / "s", random_tokens(count, 10, 1), 10);
    const TokenStream stream({folder / "s"}, 10);
    for (int64_t seq_len = 1; seq_len < 13; ++seq_len) {
      int64_t expected = 0;
      while ((expected + 1) * seq_len + 1 <= count) ++expected;
      EXPECT_EQ(stream.num_samples(seq_len), expected) << count << " tokens, T = " << seq_len;
    }
  }
}

TEST(TokenStream, MalformedShardsNameFileFaultAndRemedy) {
  const TempFolder folder;
  const std::string four(4, 0);
  const std::pair<std::string, std::string> cases[] = {
      {"", "0 bytes are too few"},
      {shard_bytes({20240520, 1, 0}, "").substr(0, 1023), "1023 bytes are too few"},
      {shard_bytes({20240521, 1, 2}, four), "starts with the word 20240521, not a token shard"},
      {shard_bytes({20240326, 3, 2}, four), "is an llm.c model, not a token shard"},
      {shard_bytes({20240522, 1, 2}, four), "is an llm.c evaluation file"},
      {"BIN.TOK\n" + std::string(1020, 0), "is an llmq token file"},
      {std::string("MMIDIDX\0\0", 9) + std::string(1020, 0), "its name does not end in .idx"},
      {shard_bytes({20240520, 7, 2}, four), "version 7 of a token shard with magic 20240520"},
      {shard_bytes({20240801, 1, 1}, four), "version 1 of a token shard with magic 20240801"},
      {shard_bytes({20240520, 1, -1}, four), "header says -1 tokens"},
      {shard_bytes({20240520, 1, 2, 5}, four), "header word 3 is 5"},
      {shard_bytes({20240520, 1, 1000}, std::string(1800, 0)),
       "header says 1000 tokens of 2 bytes, but the file holds 900 after its header; it is truncated or "
       "still being "
       "written: make it again"},
      {shard_bytes({20240520, 1, INT32_MAX}, four),
       "header says 2147483647 tokens of 2 bytes, but the file holds 2"},
      {shard_bytes({20240801, 7, INT32_MAX}, four),
       "header says 2147483647 tokens of 4 bytes, but the file holds 1"},
      {shard_bytes({20240520, 1, 2}, four + "x"), "but 5 bytes follow its header"},
      {shard_bytes({20240520, 1, 1}, four), "but 4 bytes follow its header"},
  };
  const std::string path = folder / "a.bin";
  for (const auto& [content, part] : cases) {
    write_raw(path, content);
    const std::string text = open_message(path);
    EXPECT_TRUE(has(text, part)) << text;
    EXPECT_EQ(text.rfind(path + ": ", 0), 0u) << text;
  }
  EXPECT_TRUE(has(open_message(folder / "absent.bin"), "cannot open"));
  EXPECT_TRUE(has(open_message(folder.path()), "is a folder"));
  EXPECT_TRUE(has(open_message(folder / "*.none"), "no file matches"));
}

TEST(TokenStream, EveryTruncationAndEveryFlippedHeaderBitIsFound) {
  const TempFolder folder;
  const std::string path = folder / "a.bin";
  for (const int64_t vocab : {256, 70000}) {
    write_shard(path, random_tokens(5, 256, 3), vocab);
    const std::string whole = read_file(path);
    for (size_t size = 0; size < whole.size(); ++size) {
      write_raw(path, whole.substr(0, size));
      ASSERT_FALSE(open_message(path).empty()) << size;
    }
    for (size_t bit = 0; bit < 8 * 1024; ++bit) {
      std::string changed = whole;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
      write_raw(path, changed);
      ASSERT_FALSE(open_message(path).empty()) << "bit " << bit;
    }
  }
}

TEST(TokenStream, TokenOutsideTheVocabularyIsNamed) {
  const TempFolder folder;
  write_shard(folder / "a.bin", random_tokens(100, 50, 1), 256);
  std::vector<int32_t> tokens = random_tokens(100, 50, 2);
  tokens[61] = 200;
  write_shard(folder / "b.bin", tokens, 256);
  const TokenStream stream({folder / "*.bin"}, 200);
  EXPECT_EQ(read(stream, 90, 71).size(), 71u);  // up to just before it
  const std::string text = message_of([&] { read(stream, 90, 100); });
  EXPECT_TRUE(has(text, folder / "b.bin: token 61 (of 100) is 200, outside the vocabulary of 200")) << text;
  write_raw(folder / "c.bin", shard_bytes({20240801, 7, 1}, "\xff\xff\xff\xff"));  // negative as int32
  const TokenStream wide({folder / "c.bin"}, 151936);
  EXPECT_TRUE(has(message_of([&] { read(wide, 0, 1); }), "is 4294967295, outside"));
}

TEST(TokenStream, FingerprintFollowsContentsAndOrderNotTheFolder) {
  const TempFolder folder, elsewhere;
  const auto a = random_tokens(100, 256, 1), b = random_tokens(200000, 256, 2);
  write_shard(folder / "a", a, 256);
  write_shard(folder / "b", b, 256);
  write_shard(elsewhere / "x", a, 256);
  write_shard(elsewhere / "y", b, 256);
  const auto fingerprint = [](const std::vector<std::string>& paths) {
    const TokenStream stream(paths, 256);
    std::vector<ShardContents> contents;
    for (size_t i = 0; i < paths.size(); ++i) contents.push_back(stream.read_contents(i));
    return stream.fingerprint(contents);
  };
  const std::string original = fingerprint({folder / "a", folder / "b"});
  EXPECT_TRUE(original.starts_with(kFingerprintKind)) << original;
  EXPECT_EQ(fingerprint({elsewhere / "x", elsewhere / "y"}), original);
  EXPECT_NE(fingerprint({folder / "b", folder / "a"}), original);
  EXPECT_NE(fingerprint({folder / "b"}), original);
  EXPECT_NE(fingerprint({folder / "a", folder / "b", folder / "a"}), original);
  for (const size_t edited : {size_t{0}, b.size() / 2, b.size() - 1}) {
    auto changed = b;
    changed[edited] ^= 1;
    write_shard(elsewhere / "y", changed, 256);
    EXPECT_NE(fingerprint({elsewhere / "x", elsewhere / "y"}), original);
  }
  write_shard(elsewhere / "x", a, 70000);  // the same tokens, wider
  write_shard(elsewhere / "y", b, 256);
  EXPECT_NE(fingerprint({elsewhere / "x", elsewhere / "y"}), original);
}

TEST(TokenStream, ReadingAllOfAShardTellsChecksumAndLargestToken) {
  const TempFolder folder;
  auto tokens = random_tokens(5'000'000, 60000, 3);  // several chunks
  tokens[4'999'999] = 60001;
  for (const int64_t vocab : {65536, 151936}) {
    write_shard(folder / "a", tokens, vocab);
    int chunks = 0;
    const TokenStream stream({folder / "a"}, 60001);
    const ShardContents contents = stream.read_contents(0, [&] { ++chunks; });
    EXPECT_EQ(contents.checksum, hash_file(folder / "a"));
    EXPECT_EQ(contents.largest_token, 60001);
    EXPECT_GT(chunks, 2);
    EXPECT_TRUE(has(message_of([&] { stream.check_contents(0, contents); }),
                    "token 4999999 (of 5000000) is 60001, outside the vocabulary of 60001"));
    EXPECT_NO_THROW(TokenStream({folder / "a"}, 60002).check_contents(0, contents));
    EXPECT_THROW(stream.read_contents(0, [] { throw DataError("enough"); }), DataError);
  }
}

TEST(ShardWriter, IsInvisibleUntilCloseAndLeavesNothingWithoutIt) {
  const TempFolder folder;
  {
    ShardWriter writer(folder / "a", 256);
    writer.append(random_tokens(3'000'000, 256, 1));  // more than its buffer
    EXPECT_EQ(writer.num_tokens(), 3'000'000);
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(ShardWriter, AppendingInPiecesEqualsAppendingAtOnce) {
  const TempFolder folder;
  const auto tokens = random_tokens(700'000, 151936, 4);
  write_shard(folder / "once", tokens, 151936);
  ShardWriter writer(folder / "pieces", 151936);
  for (size_t begin = 0; begin < tokens.size();) {
    const size_t count = std::min<size_t>(begin % 1013 + 1, tokens.size() - begin);
    writer.append(std::span(tokens).subspan(begin, count));
    begin += count;
  }
  writer.close();
  EXPECT_EQ(hash_file(folder / "pieces"), hash_file(folder / "once"));
}

TEST(ShardWriter, TokenOutsideTheVocabularyIsNamed) {
  const TempFolder folder;
  ShardWriter writer(folder / "a", 10);
  for (const int32_t token : {10, -1})
    EXPECT_TRUE(has(message_of([&] {
                      writer.append(std::vector<int32_t>{3, token});
                    }),
                    "is " + std::to_string(token) + ", outside the vocabulary of 10"));
}

}  // namespace
}  // namespace depthroute
