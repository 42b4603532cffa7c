#include "eval/measure/batch_record.h"

#include <cstring>
#include <new>
#include <type_traits>

#include "configs/base/check.h"
#include "configs/base/error.h"

namespace depthroute {
namespace {

constexpr int64_t kMagic = 0x3164726f63657262;  // another layout needs another number

class ByteWriter {
 public:
  void number(int64_t value) { raw(&value, sizeof value); }
  void number(double value) { raw(&value, sizeof value); }
  template <typename T>
  void array(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    number(static_cast<int64_t>(values.size()));
    raw(values.data(), values.size() * sizeof(T));
  }
  std::string take() { return std::move(bytes_); }

 private:
  void raw(const void* data, size_t size) { bytes_.append(static_cast<const char*>(data), size); }
  std::string bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(const std::string& bytes) : bytes_(bytes) {}
  int64_t integer() { return value<int64_t>(); }
  double real() { return value<double>(); }
  /// A number of things that take at least `least` bytes each.
  int64_t count(size_t least) {
    const int64_t n = integer();
    if (n < 0 || static_cast<uint64_t>(n) > (bytes_.size() - at_) / least) fail();
    return n;
  }
  template <typename T>
  std::vector<T> array() {
    std::vector<T> values(static_cast<size_t>(count(sizeof(T))));
    if (!values.empty()) raw(values.data(), values.size() * sizeof(T));
    return values;
  }
  void end() const {
    if (at_ != bytes_.size()) fail();
  }
  [[noreturn]] static void fail() {
    throw DataError("a batch's record from another process is damaged: do all processes run one build?");
  }

 private:
  template <typename T>
  T value() {
    T result;
    raw(&result, sizeof result);
    return result;
  }
  void raw(void* data, size_t size) {
    if (bytes_.size() - at_ < size) fail();
    if (size > 0) std::memcpy(data, bytes_.data() + at_, size);
    at_ += size;
  }
  const std::string& bytes_;
  size_t at_ = 0;
};

}  // namespace

void BatchRecord::fill_from(BatchRecord&& other) {
  DR_CHECK(batch == other.batch && outcomes.size() == other.outcomes.size());
  for (size_t i = 0; i < outcomes.size(); ++i)
    if (outcomes[i].delta_nll.empty()) outcomes[i] = std::move(other.outcomes[i]);
  if (clean_nll.empty()) clean_nll = std::move(other.clean_nll);
  if (routing.tokens == 0) routing = std::move(other.routing);
}

std::string to_bytes(const BatchRecord& record) {
  ByteWriter to;
  to.number(kMagic);
  to.number(record.batch.first);
  to.number(record.batch.size);
  to.array(record.clean_nll);
  to.number(static_cast<int64_t>(record.outcomes.size()));
  for (const Outcome& outcome : record.outcomes) {
    to.array(outcome.delta_nll);
    to.array(outcome.kl);
    to.array(outcome.flips);
    to.number(outcome.largest_change);
  }
  to.number(record.routing.tokens);
  to.array(record.routing.moments);
  to.array(record.routing.entropy);
  to.array(record.routing.weights);
  return to.take();
}

BatchRecord record_from_bytes(const std::string& bytes) {
  ByteReader from(bytes);
  if (from.integer() != kMagic) ByteReader::fail();
  BatchRecord record;
  record.batch.first = from.integer();
  record.batch.size = from.integer();
  record.clean_nll = from.array<float>();
  constexpr size_t kSmallestOutcome = 3 * sizeof(int64_t) + sizeof(double);
  record.outcomes.resize(static_cast<size_t>(from.count(kSmallestOutcome)));
  for (Outcome& outcome : record.outcomes) {
    outcome.delta_nll = from.array<double>();
    outcome.kl = from.array<double>();
    outcome.flips = from.array<double>();
    outcome.largest_change = from.real();
  }
  record.routing.tokens = from.integer();
  record.routing.moments = from.array<WeightMoments>();
  record.routing.entropy = from.array<double>();
  record.routing.weights = from.array<uint16_t>();
  from.end();
  return record;
}

int64_t Evaluation::bytes(int64_t sequences, int64_t seq_len, int64_t comparisons) {
  constexpr int64_t kPerOutcome = 3 * sizeof(double);
  return sequences * (seq_len * static_cast<int64_t>(sizeof(float)) + static_cast<int64_t>(sizeof(int64_t)) +
                      comparisons * kPerOutcome);
}

void Evaluation::reserve(int64_t count) {
  try {
    clean_nll.reserve(static_cast<size_t>(count * seq_len));
    tokens.reserve(static_cast<size_t>(count));
    for (Outcome& outcome : outcomes)
      for (std::vector<double>* values : {&outcome.delta_nll, &outcome.kl, &outcome.flips})
        values->reserve(static_cast<size_t>(count));
  } catch (const std::bad_alloc&) {
    const int64_t needed = bytes(count, seq_len, static_cast<int64_t>(outcomes.size()));
    throw SystemError(
        "data.sequences: results of {} sequences need {} MiB of memory, more than there is: set fewer", count,
        needed >> 20);
  }
}

void Evaluation::append(const BatchRecord& record) {
  DR_CHECK(record.batch.first == static_cast<int64_t>(tokens.size()));
  DR_CHECK(outcomes.size() == record.outcomes.size());
  DR_CHECK(static_cast<int64_t>(record.clean_nll.size()) == record.batch.size * seq_len);
  clean_nll.insert(clean_nll.end(), record.clean_nll.begin(), record.clean_nll.end());
  tokens.insert(tokens.end(), static_cast<size_t>(record.batch.size), seq_len);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    DR_CHECK(static_cast<int64_t>(record.outcomes[i].delta_nll.size()) == record.batch.size);
    outcomes[i].append(record.outcomes[i]);
  }
  sequences = static_cast<int64_t>(tokens.size());
}

}  // namespace depthroute
