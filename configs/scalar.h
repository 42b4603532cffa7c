// YAML scalars as this project reads them: exact, nothing coerced. Plain `true`/`false` are booleans, plain
// digits numbers, everything else text; the many other spellings of YAML 1.1 (yes, 0x10, 1_000, .inf) are
// refused, not guessed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace depthroute {

/// Digits with an optional sign, no leading zero (YAML 1.1 reads 010 as eight), within int64.
std::optional<int64_t> parse_integer(std::string_view text);
/// A decimal number that a double can hold: not inf, nan, hexadecimal, nor over- or underflowing.
std::optional<double> parse_number(std::string_view text);
std::optional<bool> parse_boolean(std::string_view text);
bool is_null_word(std::string_view text);  // null, Null, NULL, ~ and nothing at all

/// `text` as a YAML scalar that reads back as exactly this text: plain where that is safe, else in double
/// quotes.
std::string yaml_text(std::string_view text);
std::string yaml_number(double value);  // shortest form that reads back as the same double

/// How many bytes of `text` come before the first that is not UTF-8 (RFC 3629).
size_t valid_utf8_prefix(std::string_view text);

/// One line fit for a message: control characters, and bytes that are not UTF-8, as \xNN.
std::string one_line(std::string_view text);

}  // namespace depthroute
