#include "data/json.h"

#include <set>
#include <vector>

#include "configs/base/error.h"

namespace depthroute {

namespace {
constexpr int kMaxJsonDepth = 64;
}

std::string quote(std::string_view name) {
  constexpr size_t kMost = 120;
  std::string text = "\"";
  for (const char c : name.substr(0, kMost))
    text += (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) ? '?' : c;
  return text + (name.size() > kMost ? "...\"" : "\"");
}

std::string json_error_text(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return end == std::string::npos ? text : text.substr(end + 2);
}

std::string describe(const nlohmann::json& value) {
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() <= 60) return text;
  return fmt::format("{} {}...", value.type_name(), text.substr(0, 50));
}

nlohmann::json parse_json_object(const std::string& text, const std::string& where) {
  using nlohmann::json;
  if (text.find('\0') != std::string::npos)  // nlohmann's parser takes it for the end
    throw DataError("{}: not valid JSON: it holds a zero byte", where);
  std::vector<std::set<std::string>> keys;  // of every object still open
  const auto note_keys = [&](int depth, json::parse_event_t event, json& parsed) {
    // The value's destructor and everything that prints it recurse.
    if (depth > kMaxJsonDepth) throw DataError("{}: nested more than {} levels deep", where, kMaxJsonDepth);
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second)
        throw DataError("{}: the key {} is given twice; keep one of them", where, quote(key));
    }
    return true;
  };
  json value;
  try {
    value = json::parse(text, note_keys);
  } catch (const json::exception& error) {
    throw DataError("{}: not valid JSON: {}", where, json_error_text(error));
  }
  if (!value.is_object()) throw DataError("{}: holds {}, not a JSON object", where, value.type_name());
  return value;
}

}  // namespace depthroute
