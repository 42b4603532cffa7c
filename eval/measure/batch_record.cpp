#include "eval/measure/batch_record.h"

#include <cstring>
#include <iterator>
#include <new>
#include <type_traits>

#include "configs/base/check.h"
#include "configs/base/error.h"

namespace depthroute {
namespace {

constexpr int64_t kMagic = 0x3264726f63657262;  // another layout needs another number

/// Writes what list_fields() names.
class ByteWriter {
 public:
  template <typename T>
  void value(const T& number) {
    raw(&number, sizeof number);
  }
  template <typename T>
  void array(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    value(static_cast<int64_t>(values.size()));
    raw(values.data(), values.size() * sizeof(T));
  }
  void size(const std::vector<Outcome>& outcomes) { value(static_cast<int64_t>(outcomes.size())); }
  std::string take() { return std::move(bytes_); }

 private:
  void raw(const void* data, size_t size) { bytes_.append(static_cast<const char*>(data), size); }
  std::string bytes_;
};

/// Reads it back. DataError if the bytes are too few, or claim more than there is.
class ByteReader {
 public:
  explicit ByteReader(const std::string& bytes) : bytes_(bytes) {}
  template <typename T>
  void value(T& number) {
    raw(&number, sizeof number);
  }
  template <typename T>
  void array(std::vector<T>& values) {
    values.resize(count(sizeof(T)));
    if (!values.empty()) raw(values.data(), values.size() * sizeof(T));
  }
  void size(std::vector<Outcome>& outcomes) {
    constexpr size_t kSmallest = std::size(kOutcomeSums) * sizeof(int64_t) + sizeof(double);
    outcomes.resize(count(kSmallest));
  }
  void end() const {
    if (at_ != bytes_.size()) fail();
  }
  [[noreturn]] static void fail() {
    throw DataError("a batch's record from another rank is damaged: do all ranks run one build?");
  }

 private:
  /// Reads a number of things that take at least `least` bytes each.
  size_t count(size_t least) {
    int64_t n = 0;
    value(n);
    if (n < 0 || static_cast<uint64_t>(n) > (bytes_.size() - at_) / least) fail();
    return static_cast<size_t>(n);
  }
  void raw(void* data, size_t size) {
    if (bytes_.size() - at_ < size) fail();
    std::memcpy(data, bytes_.data() + at_, size);
    at_ += size;
  }
  const std::string& bytes_;
  size_t at_ = 0;
};

/// The fields of a record, once for both directions. `Record` is const where `archive` writes.
template <typename Archive, typename Record>
void list_fields(Archive& archive, Record& record) {
  archive.value(record.batch.first);
  archive.value(record.batch.size);
  archive.array(record.clean_nll);
  archive.size(record.outcomes);
  for (auto& outcome : record.outcomes) {
    for (const OutcomeSum& sum : kOutcomeSums) archive.array(outcome.*sum.values);
    archive.value(outcome.largest_change);
  }
  archive.value(record.routing.tokens);
  archive.array(record.routing.moments);
  archive.array(record.routing.entropy);
  archive.array(record.routing.weights);
}

}  // namespace

void BatchRecord::fill_from(BatchRecord&& other) {
  DR_CHECK(batch == other.batch && outcomes.size() == other.outcomes.size());
  for (size_t i = 0; i < outcomes.size(); ++i)
    if (outcomes[i].delta_nll.empty()) outcomes[i] = std::move(other.outcomes[i]);
  if (clean_nll.empty()) clean_nll = std::move(other.clean_nll);
  if (routing.tokens == 0) routing = std::move(other.routing);
}

std::string to_bytes(const BatchRecord& record) {
  ByteWriter writer;
  writer.value(kMagic);
  list_fields(writer, record);
  return writer.take();
}

BatchRecord record_from_bytes(const std::string& bytes) {
  ByteReader reader(bytes);
  int64_t magic = 0;
  reader.value(magic);
  if (magic != kMagic) ByteReader::fail();
  BatchRecord record;
  list_fields(reader, record);
  reader.end();
  return record;
}

int64_t Evaluation::bytes(int64_t sequences, int64_t seq_len, int64_t comparisons) {
  constexpr int64_t kPerOutcome = std::size(kOutcomeSums) * sizeof(double);
  return sequences * (seq_len * static_cast<int64_t>(sizeof(float)) + static_cast<int64_t>(sizeof(int64_t)) +
                      comparisons * kPerOutcome);
}

void Evaluation::reserve(int64_t count) {
  try {
    clean_nll.reserve(static_cast<size_t>(count * seq_len));
    tokens.reserve(static_cast<size_t>(count));
    for (Outcome& outcome : outcomes)
      for (const OutcomeSum& sum : kOutcomeSums) (outcome.*sum.values).reserve(static_cast<size_t>(count));
  } catch (const std::bad_alloc&) {
    const int64_t needed = bytes(count, seq_len, static_cast<int64_t>(outcomes.size()));
    throw SystemError(
        "data.sequences: the results of {} sequences need {} MiB of memory, more than there is: set fewer",
        count, needed >> 20);
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
