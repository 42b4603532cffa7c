// Layout of an index, little-endian and without padding: 9 bytes of magic; uint64 version; uint8 type code;
// uint64 number S of sequences; uint64 number D of document boundaries; int32[S] lengths in tokens; int64[S]
// offsets in the .bin, in bytes; int64[D] boundaries, as sequence numbers from 0 to S; for multimodal data
// int8[S] modes.
#include "data/tokens/megatron_index.h"

#include <cstring>
#include <optional>
#include <string_view>

#include "configs/base/error.h"

namespace depthroute {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr uint64_t kVersion = 1;
constexpr int64_t kVersionAt = 9, kTypeAt = 17, kSequencesAt = 18, kDocumentsAt = 26, kHeaderBytes = 34;
constexpr int64_t kMostTokens = int64_t{1} << 59;  // times 8 bytes still an int64
constexpr const char* kIndexEnding = ".idx";
constexpr uint8_t kFloat64 = 6, kFloat32 = 7;

std::optional<TokenType> type_of(uint8_t code) {
  switch (code) {
    case 1:
      return TokenType::uint8;
    case 2:
      return TokenType::int8;
    case 3:
      return TokenType::int16;
    case 4:
      return TokenType::int32;
    case 5:
      return TokenType::int64;
    case 8:
      return TokenType::uint16;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::string megatron_bin_path(const std::string& index_path) {
  if (!index_path.ends_with(kIndexEnding))
    throw DataError(
        "{}: is the index of a Megatron-LM dataset, but its name does not end in {}, so that its .bin cannot be "
        "found: rename it",
        index_path, kIndexEnding);
  return index_path.substr(0, index_path.size() - std::strlen(kIndexEnding)) + ".bin";
}

bool MegatronIndex::starts(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

MegatronIndex::MegatronIndex(const std::string& path, MappedFile file) : path_(path), file_(std::move(file)) {
  read_header();
  check_sequences();
  check_documents();
}

template <typename T>
T MegatronIndex::load(int64_t offset) const {
  T value;
  std::memcpy(&value, file_.bytes().data() + offset, sizeof(value));
  return value;
}

void MegatronIndex::fail(const std::string& fault) const {
  throw DataError("{}: {}; the index is damaged: make it again", path_, fault);
}

void MegatronIndex::read_header() {
  const int64_t size = file_.size();
  if (size < kHeaderBytes)
    fail(fmt::format("{} bytes are too few for the header of {} of a Megatron-LM index", size, kHeaderBytes));
  if (const auto version = load<uint64_t>(kVersionAt); version != kVersion)
    throw DataError("{}: version {} of a Megatron-LM index; only version {} is known: make it again", path_,
                    version, kVersion);
  const auto code = load<uint8_t>(kTypeAt);
  if (code == kFloat64 || code == kFloat32)
    throw DataError("{}: holds {} (type code {}), which are no token ids: name a dataset of integers", path_,
                    code == kFloat64 ? "float64" : "float32", code);
  const std::optional<TokenType> type = type_of(code);
  if (!type) fail(fmt::format("type code {} is none of Megatron-LM's, which are 1 to 8", code));
  type_ = *type;
  const auto sequences = load<uint64_t>(kSequencesAt), boundaries = load<uint64_t>(kDocumentsAt);
  const auto room = static_cast<uint64_t>(size - kHeaderBytes);
  constexpr uint64_t kPerSequence = sizeof(int32_t) + sizeof(int64_t), kPerBoundary = sizeof(int64_t);
  // Division first: no count from the file is multiplied before it is known to be small.
  if (sequences > room / kPerSequence || boundaries > (room - sequences * kPerSequence) / kPerBoundary)
    fail(fmt::format(
        "header says {} sequences and {} document boundaries, for which {} bytes are too few: it is "
        "truncated or still being written",
        sequences, boundaries, size));
  const uint64_t rest = room - sequences * kPerSequence - boundaries * kPerBoundary;
  if (rest == sequences && sequences > 0)
    throw DataError(
        "{}: holds a mode for every sequence, as multimodal datasets do; only text can be read: name a "
        "dataset of tokens alone",
        path_);
  if (rest != 0)
    fail(fmt::format("{} bytes follow its {} sequences and {} document boundaries", rest, sequences,
                     boundaries));
  sequences_ = static_cast<int64_t>(sequences);
  boundaries_ = static_cast<int64_t>(boundaries);
  lengths_at_ = kHeaderBytes;
  pointers_at_ = lengths_at_ + sequences_ * static_cast<int64_t>(sizeof(int32_t));
  documents_at_ = pointers_at_ + sequences_ * static_cast<int64_t>(sizeof(int64_t));
}

/// The writer lays sequences one after another. That is what lets a .bin be read as one stream.
void MegatronIndex::check_sequences() {
  const int bytes = bytes_of(type_);
  for (int64_t i = 0; i < sequences_; ++i) {
    const auto length = load<int32_t>(lengths_at_ + i * static_cast<int64_t>(sizeof(int32_t)));
    const auto pointer = load<int64_t>(pointers_at_ + i * static_cast<int64_t>(sizeof(int64_t)));
    if (length < 0) fail(fmt::format("sequence {} has {} tokens", i, length));
    if (pointer != num_tokens_ * bytes)
      fail(fmt::format("sequence {} is said to begin at byte {}, but the sequences before it end at {}", i,
                       pointer, num_tokens_ * bytes));
    num_tokens_ += length;
    if (num_tokens_ > kMostTokens)
      fail(fmt::format("its first {} sequences have more tokens than a file can hold", i + 1));
  }
}

void MegatronIndex::check_documents() const {
  if (boundaries_ == 0) fail("it has no document boundaries, not even the first");
  int64_t previous = 0;
  for (int64_t i = 0; i < boundaries_; ++i) {
    const int64_t boundary = first_sequence(i);
    if (i == 0 && boundary != 0)
      fail(fmt::format("the first document begins with sequence {}, not 0", boundary));
    if (boundary < previous || boundary > sequences_)
      fail(fmt::format("document boundary {} is sequence {}, after {} of {} sequences", i, boundary, previous,
                       sequences_));
    previous = boundary;
  }
  if (previous != sequences_)
    fail(fmt::format("documents end with sequence {}, but there are {} sequences", previous, sequences_));
}

int64_t MegatronIndex::sequence_start(int64_t sequence) const {
  if (sequence == sequences_) return num_tokens_;
  return load<int64_t>(pointers_at_ + sequence * static_cast<int64_t>(sizeof(int64_t))) / bytes_of(type_);
}

int64_t MegatronIndex::first_sequence(int64_t document) const {
  return load<int64_t>(documents_at_ + document * static_cast<int64_t>(sizeof(int64_t)));
}

int64_t MegatronIndex::documents_before(int64_t position) const {
  int64_t low = 0, high = boundaries_;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (sequence_start(first_sequence(middle)) < position)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

int64_t MegatronIndex::next_document(int64_t position) const {
  // The last boundary is num_tokens_; documents without tokens begin where the next one does.
  const int64_t document = documents_before(position);
  return document == boundaries_ ? num_tokens_ : sequence_start(first_sequence(document));
}

int64_t MegatronIndex::document_of(int64_t position) const {
  DR_CHECK(position >= 0 && position < num_tokens_);
  return sequence_start(first_sequence(documents_before(position + 1) - 1));
}

}  // namespace depthroute
