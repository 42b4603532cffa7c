// Prints what a schema's fields hold as YAML and as a flat list, and the reference of all keys.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "configs/scalar.h"
#include "configs/schema.h"

namespace depthroute {
namespace {

using Flat = std::vector<std::pair<std::string, std::string>>;

template <typename T, typename Print>
std::string flow_list(const std::vector<T>& values, Print print) {
  std::vector<std::string> texts;
  for (const T& value : values) texts.push_back(print(value));
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

struct PrintValue {
  std::string operator()(const int64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(const std::optional<int64_t>* value) const {
    return *value ? fmt::format("{}", **value) : "null";
  }
  std::string operator()(const uint64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(const double* value) const { return yaml_number(*value); }
  std::string operator()(const std::optional<double>* value) const {
    return *value ? yaml_number(**value) : "null";
  }
  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const std::string* value) const { return yaml_text(*value); }
  std::string operator()(const std::optional<std::string>* value) const {
    return *value ? yaml_text(**value) : "null";
  }
  std::string operator()(const Word& value) const { return value.get(); }
  std::string operator()(const Words& values) const { return flow_list(values.get(), yaml_text); }
  std::string operator()(const std::vector<std::string>* values) const {
    return flow_list(*values, yaml_text);
  }
  std::string operator()(const std::vector<int64_t>* values) const {
    return flow_list(*values, [](int64_t value) { return fmt::format("{}", value); });
  }
  std::string operator()(const ScalarOrList& field) const {
    return field.values->size() == 1 ? yaml_number(field.values->front())
                                     : flow_list(*field.values, yaml_number);
  }
  std::string operator()(const TokenOrList& field) const {
    return field.values->size() == 1 ? fmt::format("{}", field.values->front()) : (*this)(field.values);
  }
  std::string operator()(const Sources& field) const {
    return field.positions->empty() ? (*this)(field.families) : (*this)(field.positions);
  }
  std::string operator()(const Group&) const { return "null"; }
  std::string operator()(const EntryList&) const { return "[]"; }
};

std::string value_text(const Key& key) { return key.is_null ? "null" : std::visit(PrintValue{}, key.field); }

// Calls visit(key) for every key that has a value: not omitted, and in no absent group.
template <typename Visit>
void for_each_key(const Schema& schema, Visit visit) {
  std::string absent;
  for (const Key& key : schema.keys()) {
    if (key.omitted || (!absent.empty() && key.path.rfind(absent, 0) == 0)) continue;
    const Group* group = std::get_if<Group>(&key.field);
    if (group != nullptr && !group->present()) absent = key.path + ".";
    if (group != nullptr && group->present()) continue;  // its keys speak for it
    visit(key);
  }
}

std::vector<std::string> split(const std::string& path) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = path.find('.'); end != std::string::npos; end = path.find('.', begin)) {
    parts.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  parts.push_back(path.substr(begin));
  return parts;
}

std::vector<std::string> yaml_lines(const Schema& schema) {
  std::vector<std::string> lines, open;
  for_each_key(schema, [&](const Key& key) {
    const std::vector<std::string> parts = split(key.path);
    size_t depth = 0;
    while (depth < open.size() && depth + 1 < parts.size() && open[depth] == parts[depth]) ++depth;
    open.resize(depth);
    for (; depth + 1 < parts.size(); ++depth) {
      lines.push_back(std::string(2 * depth, ' ') + parts[depth] + ":");
      open.push_back(parts[depth]);
    }
    const std::string head = std::string(2 * depth, ' ') + parts.back() + ":";
    const EntryList* list = std::get_if<EntryList>(&key.field);
    if (list == nullptr || list->size() == 0) {
      lines.push_back(head + " " + value_text(key));
      return;
    }
    lines.push_back(head);
    for (int64_t i = 0; i < list->size(); ++i) {
      std::string lead = std::string(2 * depth + 2, ' ') + "- ";
      for (const std::string& line : yaml_lines(list->at(i))) {
        lines.push_back(lead + line);
        lead.assign(lead.size(), ' ');
      }
    }
  });
  return lines;
}

void flatten_into(Flat& flat, const Schema& schema, const std::string& base) {
  for_each_key(schema, [&](const Key& key) {
    const EntryList* list = std::get_if<EntryList>(&key.field);
    if (list == nullptr || list->size() == 0) {
      flat.emplace_back(base + key.path, value_text(key));
      return;
    }
    for (int64_t i = 0; i < list->size(); ++i)
      flatten_into(flat, list->at(i), fmt::format("{}{}[{}].", base, key.path, i));
  });
}

std::string in_cell(std::string text) {  // of a Markdown table
  for (size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2))
    text.insert(at, 1, '\\');
  return text;
}

std::string default_text(const Key& key) {
  if (key.required) return "required";
  const std::string value = value_text(key);
  const bool none = key.omitted || value == "[]" || value == "\"\"";
  return none ? "" : fmt::format("`{}`", in_cell(value));
}

std::string allowed_text(const Key& key) {
  if (!key.choices.empty()) return fmt::format("`{}`", fmt::join(key.choices, "`, `"));
  return key.range.text();
}

void reference_into(std::string& table, const Schema& schema, const std::string& base) {
  for (const Key& key : schema.keys()) {
    table += fmt::format("| `{}{}` | {} | {} | {} | {} |\n", base, key.path, type_name(key.field),
                         default_text(key), allowed_text(key), in_cell(key.help));
    if (const EntryList* list = std::get_if<EntryList>(&key.field))
      reference_into(table, list->blank(), base + key.path + "[].");
  }
}

struct TypeName {
  std::string operator()(const int64_t*) const { return "integer"; }
  std::string operator()(const std::optional<int64_t>*) const { return "integer"; }
  std::string operator()(const uint64_t*) const { return "integer"; }
  std::string operator()(const double*) const { return "number"; }
  std::string operator()(const std::optional<double>*) const { return "number"; }
  std::string operator()(const bool*) const { return "true or false"; }
  std::string operator()(const std::string*) const { return "text"; }
  std::string operator()(const std::optional<std::string>*) const { return "text or null"; }
  std::string operator()(const Word&) const { return "text"; }
  std::string operator()(const Words&) const { return "list of text"; }
  std::string operator()(const std::vector<std::string>*) const { return "list of text"; }
  std::string operator()(const std::vector<int64_t>*) const { return "list of integers"; }
  std::string operator()(const ScalarOrList&) const { return "number or list of numbers"; }
  std::string operator()(const TokenOrList&) const { return "integer or list of integers"; }
  std::string operator()(const Sources&) const { return "list of families or positions"; }
  std::string operator()(const Group&) const { return "section"; }
  std::string operator()(const EntryList&) const { return "list of maps"; }
};

}  // namespace

std::string type_name(const Field& field) { return std::visit(TypeName{}, field); }

std::string to_yaml(const Schema& schema) { return fmt::format("{}\n", fmt::join(yaml_lines(schema), "\n")); }

Flat flatten(const Schema& schema) {
  Flat flat;
  flatten_into(flat, schema, "");
  return flat;
}

std::string reference(const Schema& schema) {
  std::string table = "| key | type | default | allowed | meaning |\n| --- | --- | --- | --- | --- |\n";
  reference_into(table, schema, "");
  return table;
}

}  // namespace depthroute
