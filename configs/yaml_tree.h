// YAML text as a small tree that remembers the line of everything. Built from yaml-cpp's events rather than
// its nodes, which drop duplicate keys and the difference between 5 and "5". Refuses aliases, tags, several
// documents and keys that are not text. Bounds size and nesting, so that no text can hang or exhaust the
// reader.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace depthroute {

inline constexpr size_t kMaxConfigBytes = size_t{1} << 20;
inline constexpr int kMaxConfigDepth = 16;

/// A position: a line of the file (from 1; 0: the whole file), or the index of a --set argument.
struct Mark {
  int line = 0;
  int override_index = -1;
};

struct YamlEntry;
struct YamlNode {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  Mark mark;
  std::string text;  // of a scalar
  bool quoted = false;
  std::vector<YamlNode> items;
  std::vector<YamlEntry> entries;  // keys are unique

  const YamlNode* find(const std::string& key) const;
};
struct YamlEntry {
  std::string key;
  Mark mark;  // of the key; the value's mark is the same
  YamlNode value;
};

/// Describes a value for messages: 'abc', the text "5", a list, a map, nothing (null).
std::string describe_value(const YamlNode& node);

struct YamlDocument {
  std::string where;  // file name
  std::vector<std::string> overrides;
  YamlNode root;  // always a map

  /// Throws ConfigError "FILE:LINE: message" or "--set key=value: message", always one line.
  [[noreturn]] void fail(Mark mark, const std::string& message) const;
};

/// Parses `text` and applies the overrides "key.path=value" in order. A number in the path indexes a list.
YamlDocument parse_yaml(const std::string& text, const std::string& where,
                        const std::vector<std::string>& overrides);

}  // namespace depthroute
