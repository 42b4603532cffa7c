#include "configs/yaml_tree.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <utility>

#include "configs/base/error.h"
#include "configs/scalar.h"

namespace depthroute {
namespace {

constexpr size_t kMostKeys = 1000;

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const YamlDocument& document, int override_index)
      : document_(document), override_index_(override_index) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0)
      fail(mark, "a second YAML document begins here (---); one file holds one configuration");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(mark, {}); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "aliases (*name) are not supported; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    YamlNode node;
    node.kind = YamlNode::Kind::scalar;
    node.text = value;
    node.quoted = tag == "!";  // how yaml-cpp marks a quoted or block scalar; a plain one has "?"
    if (!node.quoted) check_tag(mark, tag);
    if (!node.quoted && is_null_word(value)) node.kind = YamlNode::Kind::null;
    add(mark, std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, YamlNode::Kind::list);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, YamlNode::Kind::map);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

  YamlNode take_root() { return std::move(root_); }
  Mark at(const YAML::Mark& mark) const {
    if (override_index_ >= 0) return {0, override_index_};
    return {mark.is_null() ? 0 : mark.line + 1, -1};
  }

 private:
  // A collection being read and, for a map, the key whose value comes next.
  struct Frame {
    YamlNode node;
    bool has_key = false;
    std::string key;
    Mark key_mark;
  };

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& message) const {
    document_.fail(at(mark), message);
  }

  void check_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!tag.empty() && tag != "?") fail(mark, fmt::format("YAML tags are not supported, got '{}'", tag));
  }

  bool key_expected() const {
    return !stack_.empty() && stack_.back().node.kind == YamlNode::Kind::map && !stack_.back().has_key;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YamlNode::Kind kind) {
    if (tag != "!") check_tag(mark, tag);
    if (key_expected()) fail(mark, "a key must be text, got a list or a map (is a bracket left open?)");
    if (static_cast<int>(stack_.size()) >= kMaxConfigDepth)
      fail(mark, fmt::format("nested more than {} levels deep", kMaxConfigDepth));
    Frame frame;
    frame.node.kind = kind;
    frame.node.mark = at(mark);
    stack_.push_back(std::move(frame));
  }

  void close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    place(std::move(node));
  }

  void add(const YAML::Mark& mark, YamlNode node) {
    node.mark = at(mark);
    if (!key_expected()) return place(std::move(node));
    if (node.kind == YamlNode::Kind::null) fail(mark, "a key must be text, got nothing");
    Frame& frame = stack_.back();
    // Bounds the search for duplicates; no section has nearly as many keys.
    if (frame.node.entries.size() >= kMostKeys)
      fail(mark, fmt::format("more than {} keys in one map", kMostKeys));
    for (const YamlEntry& entry : frame.node.entries)
      if (entry.key == node.text) fail_duplicate(mark, entry);
    frame.has_key = true;
    frame.key = node.text;
    frame.key_mark = node.mark;
  }

  [[noreturn]] void fail_duplicate(const YAML::Mark& mark, const YamlEntry& first) const {
    std::string path;
    for (const Frame& frame : stack_)
      if (frame.has_key) path += frame.key + ".";
    const std::string place = first.mark.line > 0 ? fmt::format(" (first on line {})", first.mark.line) : "";
    fail(mark, fmt::format("key '{}{}' is given twice{}", path, first.key, place));
  }

  void place(YamlNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& frame = stack_.back();
    if (frame.node.kind == YamlNode::Kind::list) {
      frame.node.items.push_back(std::move(node));
      return;
    }
    node.mark = frame.key_mark;
    frame.node.entries.push_back({std::move(frame.key), frame.key_mark, std::move(node)});
    frame.has_key = false;
    frame.key.clear();
  }

  const YamlDocument& document_;
  int override_index_;
  int documents_ = 0;
  std::vector<Frame> stack_;
  YamlNode root_;
};

void check_utf8(const std::string& text, const YamlDocument& document, int override_index) {
  const size_t valid = valid_utf8_prefix(text);
  if (valid == text.size()) return;
  const int line =
      static_cast<int>(std::count(text.begin(), text.begin() + static_cast<int64_t>(valid), '\n')) + 1;
  document.fail(
      override_index < 0 ? Mark{line, -1} : Mark{0, override_index},
      fmt::format("holds the byte \\x{:02x}, which is not UTF-8", static_cast<unsigned char>(text[valid])));
}

YamlNode parse_value(const std::string& text, const YamlDocument& document, int override_index) {
  const Mark whole = {0, override_index};
  if (text.size() > kMaxConfigBytes)
    document.fail(whole, fmt::format("longer than {} bytes, too long for a configuration", kMaxConfigBytes));
  // yaml-cpp takes a NUL for the end of input and would silently drop the rest.
  if (text.find('\0') != std::string::npos) document.fail(whole, "holds a NUL byte, so it is not YAML text");
  check_utf8(text, document, override_index);
  TreeBuilder builder(document, override_index);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    document.fail(builder.at(error.mark), "YAML syntax: " + error.msg);
  }
  return builder.take_root();
}

void apply_override(YamlDocument& document, int index) {
  const std::string& argument = document.overrides[static_cast<size_t>(index)];
  const Mark mark = {0, index};
  const size_t equals = argument.find('=');
  if (equals == std::string::npos || equals == 0) document.fail(mark, "expected key.path=value");
  check_utf8(argument, document, index);
  if (argument[equals - 1] == '.') document.fail(mark, "the key path has an empty part");
  std::istringstream path(argument.substr(0, equals));
  YamlNode value = parse_value(argument.substr(equals + 1), document, index);
  value.mark = mark;

  YamlNode* node = &document.root;
  int depth = 0;
  for (std::string part; std::getline(path, part, '.');) {
    if (part.empty()) document.fail(mark, "the key path has an empty part");
    if (++depth > kMaxConfigDepth) document.fail(mark, "the key path has too many parts");
    if (node->kind == YamlNode::Kind::list) {
      const auto position = parse_integer(part);
      const auto size = static_cast<int64_t>(node->items.size());
      if (!position || *position < 0 || *position >= size)
        document.fail(mark, fmt::format("'{}' is not an index into this list of {} entries", part, size));
      node = &node->items[static_cast<size_t>(*position)];
      continue;
    }
    if (node->kind == YamlNode::Kind::null) node->kind = YamlNode::Kind::map;
    if (node->kind != YamlNode::Kind::map)
      document.fail(mark, fmt::format("'{}' stands under a key that holds {}", part, describe_value(*node)));
    YamlEntry* found = nullptr;
    for (YamlEntry& entry : node->entries)
      if (entry.key == part) found = &entry;
    if (found == nullptr) {
      node->entries.push_back({part, mark, {}});
      found = &node->entries.back();
      found->value.mark = mark;
    }
    node = &found->value;
  }
  *node = std::move(value);
}

}  // namespace

const YamlNode* YamlNode::find(const std::string& key) const {
  for (const YamlEntry& entry : entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

std::string describe_value(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::null) return "nothing (null)";
  if (node.kind == YamlNode::Kind::list) return "a list";
  if (node.kind == YamlNode::Kind::map) return "a map";
  constexpr size_t kMostShown = 80;
  const std::string cut = node.text.size() > kMostShown ? node.text.substr(0, kMostShown) + "..." : node.text;
  if (node.quoted) return fmt::format("the text \"{}\"", cut);
  return fmt::format("'{}'", cut);
}

void YamlDocument::fail(Mark mark, const std::string& message) const {
  std::string place = where;
  if (mark.override_index >= 0)
    place = "--set " + overrides[static_cast<size_t>(mark.override_index)];
  else if (mark.line > 0)
    place = fmt::format("{}:{}", where, mark.line);
  throw ConfigError(one_line(place + ": " + message));
}

YamlDocument parse_yaml(const std::string& text, const std::string& where,
                        const std::vector<std::string>& overrides) {
  YamlDocument document;
  document.where = where;
  document.overrides = overrides;
  document.root = parse_value(text, document, -1);
  if (document.root.kind == YamlNode::Kind::null && overrides.empty())
    document.fail({}, "the configuration is empty");
  if (document.root.kind == YamlNode::Kind::null) document.root.kind = YamlNode::Kind::map;
  if (document.root.kind != YamlNode::Kind::map)
    document.fail(document.root.mark,
                  "a configuration is a map of keys, got " + describe_value(document.root));
  for (int i = 0; i < static_cast<int>(overrides.size()); ++i) apply_override(document, i);
  return document;
}

}  // namespace depthroute
