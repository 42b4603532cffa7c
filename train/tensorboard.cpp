#include "train/tensorboard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "data/atomic_path.h"
#include "data/files.h"

namespace depthroute {

namespace {

constexpr std::string_view kBegin = "events.out.tfevents.", kEnd = ".depthroute";
constexpr size_t kHeaderBytes = 12, kFooterBytes = 4;
constexpr int64_t kMostLogBytes = int64_t{1} << 40;

// Field numbers of event.proto and summary.proto; the wire types of protocol buffers.
enum : uint32_t { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
enum : uint32_t { kSummaryValue = 1, kTag = 1, kSimpleValue = 2, kSessionStatus = 1, kSessionStart = 1 };
enum : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string key(uint32_t field, uint32_t wire_type) { return varint(field << 3 | wire_type); }
template <typename Number>
std::string raw(Number value) {  // little-endian, as this program's machines are
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}
std::string message(uint32_t field, const std::string& bytes) {
  return key(field, kBytes) + varint(bytes.size()) + bytes;
}

std::string event(int64_t step, const std::string& what) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return key(kWallTime, kFixed64) + raw(now) + key(kStep, kVarint) + varint(static_cast<uint64_t>(step)) +
         what;
}

void add_scalars(const nlohmann::ordered_json& object, const std::string& prefix, std::string& summary) {
  for (const auto& [name, value] : object.items()) {
    if (value.is_object()) add_scalars(value, prefix + name + "/", summary);
    if (!value.is_number() || (prefix.empty() && name == "step")) continue;
    summary += message(kSummaryValue,
                       message(kTag, prefix + name) + key(kSimpleValue, kFixed32) + raw(value.get<float>()));
  }
}

uint32_t masked_crc(std::string_view data) {
  const uint32_t crc = crc32c(data);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

std::string framed(const std::string& data) {
  const std::string length = raw(uint64_t{data.size()});
  return length + raw(masked_crc(length)) + data + raw(masked_crc(data));
}

template <typename Number>
Number number_at(std::string_view bytes, size_t at) {
  Number number;
  std::memcpy(&number, bytes.data() + at, sizeof(number));
  return number;
}

/// The data of the record at `at`; nothing if it is cut short or damaged.
std::optional<std::string_view> record_at(std::string_view file, size_t at) {
  if (file.size() - at < kHeaderBytes + kFooterBytes) return std::nullopt;
  const auto length = number_at<uint64_t>(file, at);
  if (number_at<uint32_t>(file, at + 8) != masked_crc(file.substr(at, 8))) return std::nullopt;
  if (length > file.size() - at - kHeaderBytes - kFooterBytes) return std::nullopt;
  const std::string_view data = file.substr(at + kHeaderBytes, length);
  if (number_at<uint32_t>(file, at + kHeaderBytes + length) != masked_crc(data)) return std::nullopt;
  return data;
}

/// The step of an event as event() writes it.
int64_t step_of(std::string_view data) {
  uint64_t step = 0;
  int shift = 0;
  for (size_t i = 10; i < data.size() && shift < 64; ++i, shift += 7) {
    step |= uint64_t{static_cast<unsigned char>(data[i]) & 0x7fu} << shift;
    if ((data[i] & 0x80) == 0) break;
  }
  return static_cast<int64_t>(step);
}

/// Cuts a file of an earlier start behind its last event of a step up to `step`. False if none is left.
bool cut_behind(const std::string& path, int64_t step) {
  const std::string file = read_file(path, kMostLogBytes);
  size_t at = 0, kept = 0;
  for (int number = 0;; ++number) {
    const auto data = record_at(file, at);
    if (!data) break;
    // The first two are the version and the session start, which is of the step that follows.
    if (number >= 2 && step_of(*data) > step) break;
    at += kHeaderBytes + data->size() + kFooterBytes;
    if (number >= 2) kept = at;
  }
  if (kept == 0 || kept == file.size()) return kept != 0;
  // In place: a TensorBoard that has the file open goes on to the next one.
  if (::truncate(path.c_str(), static_cast<off_t>(kept)) != 0)
    throw SystemError("{}: cannot be cut: {}", path, errno_text(errno));
  return true;
}

/// The number in the name of an event file; 0 for any other name.
int64_t number_of(const std::string& name) {
  if (!name.starts_with(kBegin) || !name.ends_with(kEnd)) return 0;
  const std::string digits = name.substr(kBegin.size(), name.size() - kBegin.size() - kEnd.size());
  if (digits.size() != 10 || digits.find_first_not_of("0123456789") != std::string::npos) return 0;
  return std::stoll(digits);
}

/// Prepares the files of earlier starts and returns the number of this one.
int64_t rewind(const std::string& folder, int64_t step) {
  int64_t last = 0;
  for (const std::string& name : list_folder(folder)) {
    if (number_of(name) == 0) continue;
    last = number_of(name);
    const std::string path = folder + "/" + name;
    if (!cut_behind(path, step) && ::unlink(path.c_str()) != 0)
      throw SystemError("{}: cannot be removed: {}", path, errno_text(errno));
  }
  return last + 1;
}

}  // namespace

uint32_t crc32c(std::string_view data) {
  static const auto table = [] {
    std::array<uint32_t, 256> remainders{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t value = byte;
      for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? value >> 1 ^ 0x82f63b78u : value >> 1;
      remainders[byte] = value;
    }
    return remainders;
  }();
  uint32_t crc = ~0u;
  for (const char c : data) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

TensorBoardLog::TensorBoardLog(const std::string& folder, int64_t step) {
  make_folder_of(folder + "/x");
  path_ = fmt::format("{}/{}{:010}{}", folder, kBegin, rewind(folder, step), kEnd);
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) throw SystemError("{}: cannot be made: {}", path_, errno_text(errno));
  append(event(0, message(kFileVersion, "brain.Event:2")));
  append(event(step + 1, message(kSessionLog, key(kSessionStatus, kVarint) + varint(kSessionStart))));
}

TensorBoardLog::~TensorBoardLog() { ::close(fd_); }

void TensorBoardLog::write(const nlohmann::ordered_json& line) {
  std::string summary;
  add_scalars(line, "", summary);
  append(event(line.at("step").get<int64_t>(), message(kSummary, summary)));
}

void TensorBoardLog::sync() {
  if (::fsync(fd_) != 0) throw SystemError("{}: cannot be written to disk: {}", path_, errno_text(errno));
}

void TensorBoardLog::append(const std::string& event) {
  const std::string record = framed(event);
  for (size_t done = 0; done < record.size();) {
    const ssize_t n = ::write(fd_, record.data() + done, record.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw SystemError("{}: cannot be written: {}", path_, errno_text(errno));
    done += static_cast<size_t>(n);
  }
}

}  // namespace depthroute
