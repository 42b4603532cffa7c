// Any bytes as the index of a Megatron-LM dataset: refused with an InputError of one line, or its tokens are
// in range and its documents follow each other.
#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokens/token_stream.h"
#include "tests/fuzz/scratch_folder.h"

namespace {

constexpr int64_t kVocabSize = 100;
constexpr int64_t kMostTokens = 4096;

void read_all(const std::string& path) {
  const depthroute::TokenStream stream({path, path}, kVocabSize);
  const int64_t count = stream.num_tokens();
  DR_CHECK(stream.knows_documents());
  int64_t starts = 0;
  for (int64_t at = stream.next_document(0); at < count; at = stream.next_document(at + 1)) {
    DR_CHECK(stream.document_of(at) == at && (at == 0 || stream.document_of(at - 1) < at));
    ++starts;
  }
  DR_CHECK(count == 0 || (stream.next_document(0) == 0 && starts >= 2 && starts <= count));
  stream.check_contents(0, stream.read_contents(0));  // passes only where read() below does
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  stream.read(0, tokens);
  for (const int32_t token : tokens) DR_CHECK(token >= 0 && token < kVocabSize);
}

/// `index` with a .bin as long as the lengths say, where these are small.
void try_index(const depthroute::ScratchFolder& folder, std::string_view index) {
  constexpr size_t kHeaderBytes = 34, kTypeAt = 17, kSequencesAt = 18;
  constexpr int64_t kBytes[] = {1, 1, 1, 2, 4, 8, 8, 4, 2};
  int64_t tokens = 0, bytes = 1;
  if (index.size() >= kHeaderBytes) {
    uint64_t sequences = 0;
    std::memcpy(&sequences, index.data() + kSequencesAt, sizeof(sequences));
    const auto code = static_cast<uint8_t>(index[kTypeAt]);
    if (code < std::size(kBytes)) bytes = kBytes[code];
    for (uint64_t i = 0; i < std::min<uint64_t>(sequences, (index.size() - kHeaderBytes) / 4); ++i) {
      int32_t length = 0;
      std::memcpy(&length, index.data() + kHeaderBytes + 4 * i, sizeof(length));
      tokens = std::clamp<int64_t>(tokens + length, 0, kMostTokens);
    }
  }
  const std::string path = folder.write("a.idx", index);
  // Tokens 0, and, by the last byte of the index, a negative or too large one at the end.
  std::string bin(static_cast<size_t>(tokens * bytes), 0);
  if (!bin.empty() && !index.empty() && index.back() % 2 != 0) bin.back() = '\xff';
  folder.write("a.bin", bin);
  try {
    read_all(path);
  } catch (const depthroute::InputError& error) {
    depthroute::check_message(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const depthroute::ScratchFolder folder;
  const std::string input(reinterpret_cast<const char*>(data), size);
  try_index(folder, input);
  // Behind the magic and the version, so that the fuzzer need not find them first.
  try_index(folder, std::string("MMIDIDX\0\0\1\0\0\0\0\0\0\0", 17) + input);
  return 0;
}
