#include "eval/sequences/sequences.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/base/random.h"
#include "data/files.h"
#include "data/tokens/sampler.h"
#include "eval/sequences/documents.h"

namespace depthroute {
namespace {

[[noreturn]] void fail_too_few(const EvalDataConfig& data, Split split, int64_t count,
                               const std::string& available) {
  const char* key = split == data.split ? "data.sequences" : "splits.calibration_sequences";
  if (split == Split::all) throw ConfigError("{} is {}, but data.shards hold {}", key, count, available);
  throw ConfigError("{} is {}, but the {} split of data.shards holds {}", key, count, to_string(split),
                    available);
}

/// floor((i + 0.5) * available / count)
int64_t spaced(int64_t i, int64_t count, int64_t available) {
  const auto twice = static_cast<unsigned __int128>(2 * i + 1) * static_cast<uint64_t>(available);
  return static_cast<int64_t>(twice / static_cast<uint64_t>(2 * count));
}

/// `count` of `available` windows, ascending.
std::vector<int64_t> choose(const EvalDataConfig& data, int64_t count, int64_t available) {
  std::vector<int64_t> windows(static_cast<size_t>(count));
  const Sampler order(available, DataOrder::shuffled, stream_key(data.seed, "windows"));
  for (int64_t i = 0; i < count; ++i) {
    int64_t& window = windows[static_cast<size_t>(i)];
    window = i;
    if (data.choose == Choose::spaced) window = spaced(i, count, available);
    if (data.choose == Choose::shuffled) window = order.sample(i);
  }
  std::sort(windows.begin(), windows.end());
  return windows;
}

/// Of `numbers`, so many documents in a random order as hold `count` sequences; ascending.
std::vector<int64_t> first_at_random(const RequestFile& requests, const std::vector<int64_t>& numbers,
                                     const EvalDataConfig& data, Split split, int64_t count) {
  const Sampler order(std::ssize(numbers), DataOrder::shuffled, stream_key(data.seed, "windows"));
  std::vector<int64_t> chosen;
  int64_t sequences = 0;
  for (int64_t i = 0; i < std::ssize(numbers) && sequences < count; ++i) {
    chosen.push_back(numbers[static_cast<size_t>(order.sample(i))]);
    sequences += requests.documents()[static_cast<size_t>(chosen.back())].requests;
  }
  if (sequences < count)
    throw ConfigError(
        "splits.calibration_sequences is {}, but the {} split of data.requests holds {} sequences", count,
        to_string(split), sequences);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

Sequences::Sequences(const TokenStream& stream, const EvalDataConfig& data, const SplitsConfig& splits,
                     Split split, int64_t count)
    : stream_(&stream),
      read_([&stream](int64_t begin, std::span<int32_t> out) { stream.read(begin, out); }),
      seq_len_(data.seq_len) {
  DR_CHECK(count >= 1);
  documents_from_ = Documents(stream, data.separator).from();
  if (data.choose == Choose::documents && documents_from_ == DocumentsFrom::none)
    throw ConfigError(
        "data.choose: documents needs data.separator, which says where they end: data.shards are not all Megatron-LM "
        "datasets, which say so themselves");
  const std::vector<Block> blocks = blocks_of(stream, data, splits, split);
  if (data.choose == Choose::documents)
    choose_documents(blocks, data, split, count);
  else
    choose_windows(blocks, data, split, count);
  count_documents();
}

Sequences::Sequences(const RequestFile& requests, const EvalDataConfig& data, const SplitsConfig& splits,
                     Split split, std::optional<int64_t> limit)
    : requests_(&requests),
      read_([&requests](int64_t begin, std::span<int32_t> out) { requests.read(begin, out); }),
      seq_len_(requests.longest()),
      documents_from_(DocumentsFrom::requests) {
  const std::vector<RequestDocument>& documents = requests.documents();
  std::vector<int64_t> numbers =
      task_documents_of(static_cast<int64_t>(documents.size()), data.seed, splits, split);
  if (limit) numbers = first_at_random(requests, numbers, data, split, *limit);
  for (const int64_t number : numbers) {
    const RequestDocument& document = documents[static_cast<size_t>(number)];
    for (const Request& request : requests.requests_of(document)) {
      if (limit && size() == *limit) break;
      first_segments_.push_back(size());
      segments_.push_back({document.number, size(), request.context - 1, request.continuation});
      request_indices_.push_back(document.first_request + request.choice);
      const bool later_window = requests.type() == TaskType::loglikelihood_rolling && request.choice > 0;
      begins_document_.push_back(request.cut == 0 && !later_window);
      append(request.first_token, request.inputs());
    }
  }
  count_documents();
}

void Sequences::count_documents() {
  first_segments_.push_back(static_cast<int64_t>(segments_.size()));
  for (size_t i = 0; i < segments_.size(); ++i)  // documents come in order, too
    documents_ += i == 0 || segments_[i].document != segments_[i - 1].document;
}

void Sequences::append(int64_t first_token, int64_t length) {
  first_tokens_.push_back(first_token);
  lengths_.push_back(length);
}

void Sequences::choose_windows(const std::vector<Block>& blocks, const EvalDataConfig& data, Split split,
                               int64_t count) {
  int64_t available = 0, tokens = 0;
  for (const Block& block : blocks) {
    available += block.windows(seq_len_);
    tokens += block.end - block.begin;
  }
  if (count > available)
    fail_too_few(data, split, count,
                 fmt::format("{} windows of seq_len {} ({} tokens)", available, seq_len_, tokens));
  auto block = blocks.begin();
  int64_t before = 0;  // windows of earlier blocks
  for (const int64_t window : choose(data, count, available)) {
    for (; window - before >= block->windows(seq_len_); ++block) before += block->windows(seq_len_);
    append(block->begin + (window - before) * seq_len_, seq_len_);
  }
  find_segments(blocks, data);
}

void Sequences::find_segments(const std::vector<Block>& blocks, const EvalDataConfig& data) {
  const Documents documents(*stream_, data.separator);
  if (!documents.known()) {
    for (int64_t i = 0; i < size(); ++i) {
      first_segments_.push_back(i);
      segments_.push_back({first_token(i), i, 0, seq_len_});
      begins_document_.push_back(true);
    }
    return;
  }
  auto block = blocks.begin();
  int64_t document = block->begin, floor = document;  // the document of the position `floor`
  for (int64_t i = 0; i < size(); ++i) {
    const int64_t first_target = first_token(i) + 1, end = first_target + length(i);
    while (first_target >= block->end) {
      ++block;
      document = floor = block->begin;
    }
    document = documents.start_of(first_token(i), document, floor);
    begins_document_.push_back(document == first_token(i));
    first_segments_.push_back(static_cast<int64_t>(segments_.size()));
    Segment segment = {document, i, 0, 0};
    const auto close = [&](int64_t until) {
      segment.tokens = until - first_target - segment.first_token;
      segments_.push_back(segment);
    };
    documents.for_each_start(document, first_target, end, [&](int64_t start) {
      if (start > first_target) close(start);
      segment = {start, i, start - first_target, 0};
      return true;
    });
    close(end);
    document = segment.document;
    floor = end - 1;
  }
}

void Sequences::choose_documents(const std::vector<Block>& blocks, const EvalDataConfig& data, Split split,
                                 int64_t count) {
  // Every document draws a number; those with the least are chosen. Needs no second pass and no list of all.
  struct Candidate {
    uint64_t draw;
    int64_t begin, end;
    bool operator<(const Candidate& other) const {
      return std::pair(draw, begin) < std::pair(other.draw, other.begin);
    }
  };
  std::priority_queue<Candidate> chosen;
  int64_t available = 0;
  const uint64_t key = stream_key(data.seed, "documents");
  const auto offer = [&](int64_t begin, int64_t end) {
    if (end - begin < 2) return;  // no target
    ++available;
    chosen.push({random_bits(key, static_cast<uint64_t>(begin)), begin, end});
    if (static_cast<int64_t>(chosen.size()) > count) chosen.pop();
  };
  const Documents documents(*stream_, data.separator);
  for (const Block& block : blocks) {
    int64_t begin = block.begin;
    documents.for_each_start(block.begin, block.begin + 1, block.end, [&](int64_t start) {
      offer(begin, start);
      begin = start;
      return true;
    });
    offer(begin, block.end);
  }
  if (available < count)
    fail_too_few(data, split, count, fmt::format("{} documents of at least 2 tokens", available));
  std::vector<Candidate> ordered;
  for (; !chosen.empty(); chosen.pop()) ordered.push_back(chosen.top());
  std::sort(ordered.begin(), ordered.end(),
            [](const Candidate& a, const Candidate& b) { return a.begin < b.begin; });
  for (const Candidate& document : ordered) {
    const int64_t targets = document.end - document.begin - 1;
    documents_cut_ += targets > seq_len_;
    first_segments_.push_back(size());
    segments_.push_back({document.begin, size(), 0, std::min(targets, seq_len_)});
    begins_document_.push_back(true);
    append(document.begin, std::min(targets, seq_len_));
  }
}

std::span<const Segment> Sequences::segments_of(int64_t first_sequence, int64_t count) const {
  DR_CHECK(first_sequence >= 0 && count >= 0 && first_sequence + count <= size());
  const auto begin = static_cast<size_t>(first_segments_[static_cast<size_t>(first_sequence)]);
  const auto end = static_cast<size_t>(first_segments_[static_cast<size_t>(first_sequence + count)]);
  return std::span(segments_).subspan(begin, end - begin);
}

int64_t Sequences::tokens(int64_t sequence) const {
  int64_t tokens = 0;
  for (const Segment& segment : segments_of(sequence, 1)) tokens += segment.tokens;
  return tokens;
}

const Request& Sequences::request(int64_t sequence) const {
  DR_CHECK(requests_ != nullptr && sequence >= 0 && sequence < size());
  return requests_->requests()[static_cast<size_t>(request_indices_[static_cast<size_t>(sequence)])];
}

void Sequences::read(int64_t sequence, std::span<int32_t> tokens, std::span<int32_t> targets) const {
  DR_CHECK(sequence >= 0 && sequence < size());
  DR_CHECK(std::ssize(tokens) == seq_len_ && std::ssize(targets) == seq_len_);
  const auto real = static_cast<ptrdiff_t>(length(sequence));
  const std::span<const Segment> segments = segments_of(sequence, 1);
  const ptrdiff_t first = segments.front().first_token, scored = first + this->tokens(sequence);
  read_(first_token(sequence), tokens.first(static_cast<size_t>(real)));
  read_(first_token(sequence) + 1 + first,
        targets.subspan(static_cast<size_t>(first), static_cast<size_t>(scored - first)));
  std::fill(tokens.begin() + real, tokens.end(), 0);
  std::fill(targets.begin(), targets.begin() + first, -1);
  std::fill(targets.begin() + scored, targets.end(), -1);
}

std::vector<int64_t> Sequences::document_starts(int64_t sequence) const {
  std::vector<int64_t> starts;
  if (begins_document_[static_cast<size_t>(sequence)]) starts.push_back(0);
  if (requests_) return starts;
  for (const Segment& segment : segments_of(sequence, 1)) {
    const int64_t input = segment.document - first_token(sequence);  // the last target is no input
    if (input > 0 && input < seq_len_) starts.push_back(input);
  }
  return starts;
}

std::string Sequences::fingerprint() const {
  static_assert(sizeof(Segment) == 4 * sizeof(int64_t), "hashed as it lies in memory");
  Hasher hasher;
  hasher.update(std::as_bytes(std::span(&seq_len_, 1)));
  hasher.update(std::as_bytes(std::span(first_tokens_)));
  hasher.update(std::as_bytes(std::span(lengths_)));
  hasher.update(std::as_bytes(std::span(segments_)));
  return hasher.hex();
}

}  // namespace depthroute
