// Strict JSON: nlohmann's parser keeps the last of two equal keys and reads any depth; here both are errors.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace depthroute {

/// `text` as one JSON object. DataError "<where>: ..." for malformed JSON, a key given twice, deep nesting,
/// or anything but an object.
nlohmann::json parse_json_object(const std::string& text, const std::string& where);

/// Makes a name from a file fit for a one-line message: quoted, control characters shown as '?', long ones
/// cut.
std::string quote(std::string_view name);

/// nlohmann's message without its "[json.exception...] " prefix.
std::string json_error_text(const nlohmann::json::exception& error);

/// How a value reads in a message: its type, and the value itself if it is short.
std::string describe(const nlohmann::json& value);

}  // namespace depthroute
