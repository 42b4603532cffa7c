// The header is read as a stream of events, not into a document: whatever does not fit the format ends the
// reading at once, so a hostile header of the allowed 100 MB costs no more memory than its tensors' names.
#include "data/model/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "configs/base/error.h"
#include "data/json.h"

namespace depthroute {
namespace {

using nlohmann::json;

/// Accepts {"__metadata__": {string: string}, NAME: {"dtype": string, "shape": [n...], "data_offsets": [n,
/// n]}}.
class HeaderEvents : public json::json_sax_t {
 public:
  SafetensorsHeader header;
  std::string problem;

  bool start_object(size_t) override {
    switch (at_) {
      case At::start:
        return move_to(At::top);
      case At::top:
        if (name_ == "__metadata__") return move_to(At::metadata);
        current_ = TensorEntry{name_};
        has_dtype_ = has_shape_ = has_offsets_ = false;
        return move_to(At::tensor);
      default:
        return unexpected("an object");
    }
  }

  bool key(string_t& text) override {
    if (at_ == At::top) {
      name_ = text;
      return names_.insert(text).second || fail("the tensor " + quote(text) + " is given twice");
    }
    if (at_ == At::metadata) {
      field_ = text;
      return header.metadata.count(text) == 0 || fail("the metadata key " + quote(text) + " is given twice");
    }
    field_ = text;
    bool* seen = text == "dtype"          ? &has_dtype_
                 : text == "shape"        ? &has_shape_
                 : text == "data_offsets" ? &has_offsets_
                                          : nullptr;
    if (seen == nullptr) return fail(tensor() + " has the unknown key " + quote(text));
    if (*seen) return fail(tensor() + " has the key " + quote(text) + " twice");
    *seen = true;
    return true;
  }

  bool string(string_t& text) override {
    if (at_ == At::metadata) {
      header.metadata.emplace(field_, text);
      return true;
    }
    if (at_ != At::tensor || field_ != "dtype") return unexpected("a string");
    current_.dtype = text;
    return true;
  }

  bool start_array(size_t) override {
    if (at_ != At::tensor || field_ == "dtype") return unexpected("a list");
    numbers_.clear();
    return move_to(At::numbers);
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (at_ != At::numbers) return unexpected("a number");
    if (value > uint64_t{INT64_MAX})
      return fail(tensor() + ": " + field_ + " holds " + std::to_string(value));
    numbers_.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool end_array() override {
    at_ = At::tensor;
    if (field_ == "shape") {
      current_.shape = numbers_;
      return true;
    }
    if (numbers_.size() != 2) return fail(tensor() + ": data_offsets must be two numbers");
    current_.begin = numbers_[0];
    current_.end = numbers_[1];
    return true;
  }

  bool end_object() override {
    if (at_ == At::top) return move_to(At::start);
    if (at_ == At::tensor) {
      if (!has_dtype_ || !has_shape_ || !has_offsets_)
        return fail(tensor() + " lacks " + (!has_dtype_ ? "dtype" : !has_shape_ ? "shape" : "data_offsets"));
      header.entries.push_back(current_);
    }
    return move_to(At::top);
  }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a truth value"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return unexpected("a fraction or too large a number");
  }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool parse_error(size_t, const std::string&, const json::exception& error) override {
    return fail("the header is not valid JSON: " + json_error_text(error));
  }

 private:
  enum class At { start, top, metadata, tensor, numbers };

  bool move_to(At at) {
    at_ = at;
    return true;
  }
  bool fail(const std::string& text) {
    if (problem.empty()) problem = text;
    return false;
  }
  std::string tensor() const { return "tensor " + quote(name_); }
  bool unexpected(const char* what) {
    if (at_ == At::start) return fail(std::string("the header is ") + what + ", not an object");
    if (at_ == At::metadata)
      return fail("the metadata value of " + quote(field_) + " is " + what + ", not a string");
    if (at_ == At::top) return fail(tensor() + " is described by " + what + ", not an object");
    return fail(tensor() + ": " + field_ + " holds " + what);
  }

  At at_ = At::start;
  std::string name_, field_;
  TensorEntry current_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  std::vector<int64_t> numbers_;
  std::set<std::string> names_;
};

/// Bytes the dtype and shape ask for.
int64_t bytes_needed(const TensorEntry& entry, const std::string& where) {
  int64_t bits = dtype_bits(entry.dtype);
  if (bits == 0)
    throw DataError("{}: tensor {} has the unknown dtype {}", where, quote(entry.name), quote(entry.dtype));
  // In the order of the shape, as the reference reader multiplies: 2^62 * 2^62 * 0 is an error, not 0.
  int64_t numel = 1;
  bool overflow = false;
  for (const int64_t size : entry.shape) overflow = overflow || __builtin_mul_overflow(numel, size, &numel);
  if (overflow || __builtin_mul_overflow(numel, bits, &bits))
    throw DataError("{}: tensor {} has an impossible shape [{}]: its size overflows", where,
                    quote(entry.name), fmt::join(entry.shape, ", "));
  if (bits % 8 != 0) throw DataError("{}: tensor {} does not end on a whole byte", where, quote(entry.name));
  return bits / 8;
}

}  // namespace

int dtype_bits(std::string_view dtype) {
  static const std::map<std::string_view, int> kBits = {
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},   {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"I16", 16}, {"F8_E5M2FNUZ", 8},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32}, {"F32", 32},
      {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};
  const auto found = kBits.find(dtype);
  return found == kBits.end() ? 0 : found->second;
}

SafetensorsHeader parse_safetensors_header(std::string_view text, int64_t data_size,
                                           const std::string& where) {
  if (text.empty() || text.front() != '{')
    throw DataError("{}: the header does not start with '{{'; not a safetensors file", where);
  if (text.find('\0') != std::string_view::npos)  // nlohmann's parser takes it for the end
    throw DataError("{}: the header is not valid JSON: it holds a zero byte", where);
  HeaderEvents events;
  if (!json::sax_parse(text.begin(), text.end(), &events)) throw DataError("{}: {}", where, events.problem);

  auto& entries = events.header.entries;
  std::sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t expected = 0;
  for (const TensorEntry& entry : entries) {
    const std::string name = quote(entry.name);
    const int64_t bytes = bytes_needed(entry, where);
    if (entry.end < entry.begin || entry.end - entry.begin != bytes)
      throw DataError("{}: tensor {} is {} [{}], {} bytes, but its data_offsets are [{}, {}]", where, name,
                      entry.dtype, fmt::join(entry.shape, ", "), bytes, entry.begin, entry.end);
    if (entry.end > data_size)
      throw DataError(
          "{}: tensor {} ends at byte {} of the data, but the file holds {}; it is truncated: copy or "
          "download it again",
          where, name, entry.end, data_size);
    if (entry.begin != expected)
      throw DataError("{}: tensor {} begins at byte {} of the data, where {} would follow the one before: {}",
                      where, name, entry.begin, expected,
                      entry.begin < expected ? "they overlap" : "there is a hole");
    expected = entry.end;
  }
  if (expected != data_size)
    throw DataError("{}: {} bytes follow the last tensor; the file is damaged: copy or download it again",
                    where, data_size - expected);
  return std::move(events.header);
}

}  // namespace depthroute
