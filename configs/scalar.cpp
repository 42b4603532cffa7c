#include "configs/scalar.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <system_error>

namespace depthroute {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

// Words that some YAML reader takes for something other than text.
bool is_special_word(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return is_null_word(text) || one_of(lower, {"true", "false", "yes", "no", "on", "off", "y", "n", "null"});
}

bool is_plain_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
         std::string_view("_./-*").find(c) != std::string_view::npos;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  if (!text.empty() && text.front() == '+') {
    text.remove_prefix(1);
    if (!text.empty() && text.front() == '-') return std::nullopt;
  }
  const std::string_view digits = !text.empty() && text.front() == '-' ? text.substr(1) : text;
  if (digits.empty() || (digits.size() > 1 && digits.front() == '0')) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  if (!text.empty() && text.front() == '+') {
    text.remove_prefix(1);
    if (!text.empty() && text.front() == '-') return std::nullopt;
  }
  const bool has_digit = std::any_of(text.begin(), text.end(), is_digit);
  const bool has_other = text.find_first_not_of("0123456789+-.eE") != std::string_view::npos;
  if (!has_digit || has_other) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

bool is_null_word(std::string_view text) { return one_of(text, {"", "~", "null", "Null", "NULL"}); }

std::string yaml_text(std::string_view text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), is_plain_character) &&
                     text.front() != '-' && text.front() != '*' && !is_digit(text.front()) &&
                     text.front() != '.' && !is_special_word(text);
  // Keeps a relative path such as ../shards readable; nothing takes it for a number.
  const bool dotted = text.substr(0, 2) == "./" || text.substr(0, 3) == "../";
  if (plain || (dotted && std::all_of(text.begin(), text.end(), is_plain_character)))
    return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      quoted += fmt::format("\\{}", c);
    else if (byte < 0x20 || byte == 0x7f)
      quoted += fmt::format("\\x{:02x}", byte);
    else
      quoted += c;
  }
  return quoted + '"';
}

std::string yaml_number(double value) { return fmt::format("{}", value); }

namespace {

/// Returns the size in bytes of the well-formed character at the start of `text`, 0 if there is none.
size_t utf8_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const size_t size = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  // Overlong forms, surrogates and values beyond U+10FFFF.
  const unsigned start = byte(0) << 8 | byte(1);
  const bool refused = (start >= 0xe080 && start < 0xe0a0) || (start >= 0xeda0 && start <= 0xedbf) ||
                       (start >= 0xf080 && start < 0xf090) || start >= 0xf490;
  return refused ? 0 : size;
}

}  // namespace

size_t valid_utf8_prefix(std::string_view text) {
  size_t valid = 0;
  while (valid < text.size()) {
    const size_t size = utf8_character(text.substr(valid));
    if (size == 0) break;
    valid += size;
  }
  return valid;
}

std::string one_line(std::string_view text) {
  std::string line;
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text.front());
    const size_t size = byte < 0x20 || byte == 0x7f ? 0 : utf8_character(text);
    line += size == 0 ? fmt::format("\\x{:02x}", byte) : std::string(text.substr(0, size));
    text.remove_prefix(std::max<size_t>(size, 1));
  }
  return line;
}

}  // namespace depthroute
