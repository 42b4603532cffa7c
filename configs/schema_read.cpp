// Fills the fields of a schema from the YAML tree and refuses whatever does not fit exactly.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "configs/scalar.h"
#include "configs/schema.h"

namespace depthroute {
namespace {

class FieldReader {
 public:
  FieldReader(const YamlDocument& document, Given& given) : document_(document), given_(given) {}

  // `base` leads from the root of the document to this schema's root: "" or "cells[2].".
  void read_map(const Schema& schema, const YamlNode& node, const std::string& section,
                const std::string& base) {
    if (node.kind != YamlNode::Kind::map)
      document_.fail(node.mark, fmt::format("{} must be a map of keys, got {}", name_of(base, section),
                                            describe_value(node)));
    for (const YamlEntry& entry : node.entries) {
      const std::string path = section.empty() ? entry.key : section + "." + entry.key;
      if (const std::string* message = schema.retired(path))
        document_.fail(entry.mark, base + path + *message);
      const Key* key = schema.find(path);
      if (key == nullptr && !schema.is_section(path)) fail_unknown(schema, entry, section, base);
      if (key != nullptr && key->null_ok && entry.value.kind == YamlNode::Kind::null) continue;
      given_.note(base + path, entry.mark);
      if (key == nullptr || std::holds_alternative<Group>(key->field)) {
        read_map(schema, entry.value, path, base);
        if (key != nullptr) std::get<Group>(key->field).commit();
        continue;
      }
      read_value(*key, entry.value, base + path);
    }
  }

  void check_required(const Schema& schema, const std::string& base) const {
    for (const Key& key : schema.keys())
      if (key.required && !given_.has(base + key.path) &&
          (key.unless.empty() || !given_.has(base + key.unless)))
        given_.fail({base + key.path},
                    fmt::format("required key '{}{}' is missing ({})", base, key.path, key.help));
  }

 private:
  [[noreturn]] void fail_unknown(const Schema& schema, const YamlEntry& entry, const std::string& section,
                                 const std::string& base) const {
    const std::string prefix = base + (section.empty() ? "" : section + ".");
    const std::vector<std::string> siblings = schema.children(section);
    std::vector<std::string> names = nearest(entry.key, siblings);
    for (std::string& name : names) name = prefix + name;
    // Perhaps the right key in the wrong section.
    if (names.empty())
      for (const Key& key : schema.keys())
        if (key.path.substr(key.path.rfind('.') + 1) == entry.key) names.push_back(base + key.path);
    std::string hint = fmt::format("; keys here: {}", fmt::join(siblings, ", "));
    if (!names.empty()) hint = fmt::format("; did you mean '{}'?", fmt::join(names, "' or '"));
    document_.fail(entry.mark, fmt::format("unknown key '{}{}'{}", prefix, entry.key, hint));
  }

  void read_value(const Key& key, const YamlNode& node, const std::string& path) {
    std::visit([&](const auto& field) { read(key, node, path, field); }, key.field);
  }

  [[noreturn]] void fail_type(const YamlNode& node, const std::string& path, const std::string& wanted,
                              const std::string& hint = "") const {
    document_.fail(node.mark,
                   fmt::format("{} must be {}, got {}{}", path, wanted, describe_value(node), hint));
  }

  static bool is_plain(const YamlNode& node) { return node.kind == YamlNode::Kind::scalar && !node.quoted; }

  int64_t integer(const Key& key, const YamlNode& node, const std::string& path) const {
    const auto value = is_plain(node) ? parse_integer(node.text) : std::nullopt;
    if (!value) {
      constexpr double kExactInteger = 9007199254740992.0;  // 2^53
      const auto number = is_plain(node) ? parse_number(node.text) : std::nullopt;
      const bool whole = number && std::abs(*number) <= kExactInteger &&
                         *number == static_cast<double>(static_cast<int64_t>(*number));
      fail_type(node, path, "an integer",
                whole ? fmt::format("; write {}", static_cast<int64_t>(*number)) : std::string());
    }
    check_range(key, node, path, static_cast<double>(*value));
    return *value;
  }

  double number(const Key& key, const YamlNode& node, const std::string& path) const {
    const auto value = is_plain(node) ? parse_number(node.text) : std::nullopt;
    if (!value) fail_type(node, path, "a finite number");
    check_range(key, node, path, *value);
    return *value;
  }

  void check_range(const Key& key, const YamlNode& node, const std::string& path, double value) const {
    if (!key.range.holds(value))
      document_.fail(node.mark, fmt::format("{} must be {}, got {}", path, key.range.text(), node.text));
  }

  std::string text(const Key& key, const YamlNode& node, const std::string& path) const {
    if (node.kind != YamlNode::Kind::scalar) fail_type(node, path, "text");
    if (node.text.empty()) document_.fail(node.mark, path + " must not be empty");
    if (node.text.find('\0') != std::string::npos)
      document_.fail(node.mark, path + " holds a NUL character, which no path or name may");
    const bool other = parse_number(node.text) || parse_boolean(node.text);
    if (!node.quoted && other) fail_type(node, path, "text", "; put it in quotes if it is meant");
    if (key.choices.empty()) return node.text;
    if (std::find(key.choices.begin(), key.choices.end(), node.text) != key.choices.end()) return node.text;
    fail_type(node, path, fmt::format("one of {}", fmt::join(key.choices, ", ")));
  }

  void check_list(const Key& key, const YamlNode& node, const std::string& path) const {
    if (node.kind != YamlNode::Kind::list) fail_type(node, path, "a " + type_name(key.field));
    if (key.nonempty && node.items.empty()) document_.fail(node.mark, path + " must not be an empty list");
  }

  template <typename T>
  static std::string item_path(const std::string& path, T index) {
    return fmt::format("{}[{}]", path, index);
  }

  // Choices are what a cell is a product of; naming one twice would run it twice.
  std::vector<std::string> texts(const Key& key, const YamlNode& node, const std::string& path) const {
    std::vector<std::string> values;
    for (const YamlNode& item : node.items) {
      values.push_back(text(key, item, item_path(path, values.size())));
      if (!key.choices.empty()) check_new(values, item, path);
    }
    return values;
  }
  std::vector<int64_t> integers(const Key& key, const YamlNode& node, const std::string& path) const {
    std::vector<int64_t> values;
    for (const YamlNode& item : node.items) {
      values.push_back(integer(key, item, item_path(path, values.size())));
      check_new(values, item, path);
    }
    return values;
  }
  template <typename T>
  void check_new(const std::vector<T>& values, const YamlNode& item, const std::string& path) const {
    if (std::find(values.begin(), values.end() - 1, values.back()) != values.end() - 1)
      document_.fail(item.mark, fmt::format("{} names {} twice", path, item.text));
  }

  void read(const Key& key, const YamlNode& node, const std::string& path, int64_t* field) const {
    *field = integer(key, node, path);
  }
  void read(const Key& key, const YamlNode& node, const std::string& path,
            std::optional<int64_t>* field) const {
    *field = integer(key, node, path);
  }
  void read(const Key& key, const YamlNode& node, const std::string& path, uint64_t* field) const {
    *field = static_cast<uint64_t>(integer(key, node, path));  // such keys are declared at_least(0)
  }
  void read(const Key& key, const YamlNode& node, const std::string& path, double* field) const {
    *field = number(key, node, path);
  }
  void read(const Key& key, const YamlNode& node, const std::string& path,
            std::optional<double>* field) const {
    *field = number(key, node, path);
  }
  void read(const Key&, const YamlNode& node, const std::string& path, bool* field) const {
    const auto value = is_plain(node) ? parse_boolean(node.text) : std::nullopt;
    if (!value) fail_type(node, path, "true or false");
    *field = *value;
  }
  void read(const Key& key, const YamlNode& node, const std::string& path, std::string* field) const {
    *field = text(key, node, path);
  }
  void read(const Key& key, const YamlNode& node, const std::string& path,
            std::optional<std::string>* field) const {
    *field = text(key, node, path);
  }
  void read(const Key& key, const YamlNode& node, const std::string& path, const Word& field) const {
    field.set(text(key, node, path));
  }
  void read(const Key& key, const YamlNode& node, const std::string& path, const Words& field) const {
    check_list(key, node, path);
    field.set(texts(key, node, path));
  }
  void read(const Key& key, const YamlNode& node, const std::string& path,
            std::vector<std::string>* field) const {
    check_list(key, node, path);
    *field = texts(key, node, path);
  }
  void read(const Key& key, const YamlNode& node, const std::string& path,
            std::vector<int64_t>* field) const {
    check_list(key, node, path);
    *field = integers(key, node, path);
  }
  void read(const Key& key, const YamlNode& node, const std::string& path, const ScalarOrList& field) const {
    if (node.kind == YamlNode::Kind::scalar) {
      *field.values = {number(key, node, path)};
      return;
    }
    check_list(key, node, path);
    field.values->clear();
    for (const YamlNode& item : node.items)
      field.values->push_back(number(key, item, item_path(path, field.values->size())));
  }
  // A sequence of tokens may hold one twice.
  void read(const Key& key, const YamlNode& node, const std::string& path, const TokenOrList& field) const {
    if (node.kind == YamlNode::Kind::scalar) {
      *field.values = {integer(key, node, path)};
      return;
    }
    check_list(key, node, path);
    field.values->clear();
    for (const YamlNode& item : node.items)
      field.values->push_back(integer(key, item, item_path(path, field.values->size())));
  }
  void read(const Key& key, const YamlNode& node, const std::string& path, const Sources& field) const {
    check_list(key, node, path);
    const bool positions = std::all_of(node.items.begin(), node.items.end(), [](const YamlNode& item) {
      return is_plain(item) && parse_number(item.text).has_value();
    });
    if (positions)
      *field.positions = integers(key, node, path);
    else
      field.families.set(texts(key, node, path));
  }
  void read(const Key&, const YamlNode&, const std::string&, const Group&) const {}  // see read_map
  void read(const Key& key, const YamlNode& node, const std::string& path, const EntryList& field) {
    check_list(key, node, path);
    for (size_t i = 0; i < node.items.size(); ++i) {
      const YamlNode& item = node.items[i];
      const std::string entry = item_path(path, i);
      given_.note(entry, item.mark);
      const Schema schema = field.append();
      read_map(schema, item, "", entry + ".");
      check_required(schema, entry + ".");
    }
  }

  static std::string name_of(const std::string& base, const std::string& section) {
    const std::string path = base + section;
    return !path.empty() && path.back() == '.' ? path.substr(0, path.size() - 1) : path;
  }

  const YamlDocument& document_;
  Given& given_;
};

}  // namespace

Given read_fields(const Schema& schema, const YamlDocument& document) {
  Given given(document);
  FieldReader reader(document, given);
  reader.read_map(schema, document.root, "", "");
  reader.check_required(schema, "");
  return given;
}

}  // namespace depthroute
