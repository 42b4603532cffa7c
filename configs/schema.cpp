#include "configs/schema.h"

#include <fmt/format.h>

#include <algorithm>

#include "configs/base/check.h"
#include "configs/scalar.h"

namespace depthroute {
namespace {

/// Whether a field that an entry may leave out has no value.
struct IsAbsent {
  bool operator()(std::optional<double>* value) const { return !*value; }
  bool operator()(std::optional<int64_t>* value) const { return !*value; }
  bool operator()(const Word& value) const { return value.get().empty(); }
  bool operator()(const TokenOrList& tokens) const { return tokens.values->empty(); }
  bool operator()(std::vector<std::string>* values) const { return values->empty(); }
  bool operator()(std::vector<int64_t>* values) const { return values->empty(); }
  bool operator()(const Words& values) const { return values.get().empty(); }
  bool operator()(const EntryList& entries) const { return entries.size() == 0; }
  bool operator()(const Sources& sources) const {
    return sources.families.get().empty() && sources.positions->empty();
  }
  bool operator()(const auto&) const { return false; }
};

}  // namespace

bool Range::holds(double value) const {
  if (low && (value < *low || (low_open && value == *low))) return false;
  return !high || (value <= *high && !(high_open && value == *high));
}

std::string Range::text() const {
  const auto number = [](double value) { return yaml_number(value); };
  if (low && high)
    return fmt::format("in {}{}, {}{}", low_open ? '(' : '[', number(*low), number(*high),
                       high_open ? ')' : ']');
  if (low) return (low_open ? "above " : "at least ") + number(*low);
  if (high) return (high_open ? "below " : "at most ") + number(*high);
  return "";
}

Key& Key::at_least(double low) {
  range.low = low;
  return *this;
}
Key& Key::above(double low) {
  range.low = low;
  range.low_open = true;
  return *this;
}
Key& Key::at_most(double high) {
  range.high = high;
  return *this;
}
Key& Key::below(double high) {
  range.high = high;
  range.high_open = true;
  return *this;
}
Key& Key::must_be_given() {
  required = true;
  return *this;
}
Key& Key::must_be_given_unless(const std::string& sibling, bool is_given) {
  required = true;
  unless = sibling;
  omitted = is_given;
  return *this;
}
Key& Key::not_empty() {
  nonempty = true;
  return *this;
}
Key& Key::nullable(bool prints_null) {
  null_ok = true;
  is_null = prints_null;
  return *this;
}
Key& Key::may_be_absent() {
  nonempty = true;
  omitted = std::visit(IsAbsent{}, field);
  return *this;
}

Key& Schema::key(std::string path, Field field, std::string help) {
  DR_CHECK_MSG(find(path) == nullptr, "a key is declared once");
  keys_.push_back({std::move(path), std::move(field), std::move(help)});
  return keys_.back();
}

const Key* Schema::find(const std::string& path) const {
  for (const Key& key : keys_)
    if (key.path == path) return &key;
  return nullptr;
}

bool Schema::is_section(const std::string& path) const {
  return std::any_of(keys_.begin(), keys_.end(),
                     [&](const Key& key) { return key.path.rfind(path + ".", 0) == 0; });
}

std::vector<std::string> Schema::children(const std::string& section) const {
  const std::string prefix = section.empty() ? "" : section + ".";
  std::vector<std::string> names;
  for (const Key& key : keys_) {
    if (key.path.rfind(prefix, 0) != 0) continue;
    const std::string rest = key.path.substr(prefix.size());
    const std::string name = rest.substr(0, rest.find('.'));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

const std::string* Schema::retired(const std::string& path) const {
  const auto found = retired_.find(path);
  return found == retired_.end() ? nullptr : &found->second;
}

std::set<std::string> Given::keys(const Schema& schema) const {
  std::set<std::string> paths;
  for (const Key& key : schema.keys())
    if (has(key.path)) paths.insert(key.path);
  return paths;
}

void Given::fail(const std::vector<std::string>& paths, const std::string& message) const {
  for (const std::string& path : paths) {
    const auto found = marks_.find(path);
    if (found != marks_.end()) document_.fail(found->second, message);
  }
  std::string path = paths.front();
  while (!path.empty()) {
    const size_t end = path.find_last_of(".[");
    path = end == std::string::npos ? "" : path.substr(0, end);
    const auto found = marks_.find(path);
    if (found != marks_.end()) document_.fail(found->second, message);
  }
  document_.fail({}, message);
}

}  // namespace depthroute
