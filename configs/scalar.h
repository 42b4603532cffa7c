// YAML scalars as this project reads them: exactly, without coercion. Plain `true` and `false` are booleans,
// plain digits are numbers, everything else is text. Refuses the many other spellings of YAML 1.1 (yes, 0x10,
// 1_000, .inf) instead of guessing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace depthroute {

/// Digits with an optional sign and no leading zero (YAML 1.1 reads 010 as eight), within int64.
std::optional<int64_t> parse_integer(std::string_view text);
/// A decimal number that a double can hold: no inf, nan, hexadecimal, overflow or underflow.
std::optional<double> parse_number(std::string_view text);
std::optional<bool> parse_boolean(std::string_view text);
/// null, Null, NULL, ~ or the empty string.
bool is_null_word(std::string_view text);

/// `text` as a YAML scalar that reads back as exactly this text: plain if that is safe, otherwise in double
/// quotes.
std::string yaml_text(std::string_view text);
std::string yaml_number(double value);  // shortest form that reads back as the same double

/// Returns the number of bytes before the first that is not UTF-8 (RFC 3629).
size_t valid_utf8_prefix(std::string_view text);

/// `text` as one line for a message: control characters and bytes that are not UTF-8 become \xNN.
std::string one_line(std::string_view text);

}  // namespace depthroute
