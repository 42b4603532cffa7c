// The list of keys of a configuration. train_schema.cpp and eval_schema.cpp declare each key once: the field
// it fills, what it may be and what it means. Reading, --print-config, flatten and the reference walk this
// list.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "configs/eval_config.h"
#include "configs/model_config.h"
#include "configs/terms.h"
#include "configs/train_config.h"
#include "configs/yaml_tree.h"

namespace depthroute {

class Schema;

/// A word of terms.h. `set` takes one of the key's choices.
struct Word {
  std::function<std::string()> get;
  std::function<void(const std::string&)> set;
};
/// A list of them.
struct Words {
  std::function<std::vector<std::string>()> get;
  std::function<void(const std::vector<std::string>&)> set;
};
/// One number, or one per site.
struct ScalarOrList {
  std::vector<double>* values;
};
/// One token, or the tokens of a sequence; none if empty.
struct TokenOrList {
  std::vector<int64_t>* values;
};
/// A list of families, or a list of positions.
struct Sources {
  Words families;
  std::vector<int64_t>* positions;
};
/// A section that may be absent (null). Its keys follow it in the schema; `commit` runs once they have been
/// read.
struct Group {
  std::function<bool()> present;
  std::function<void()> commit;
};
/// A list of maps, each with a schema of its own.
struct EntryList {
  std::function<int64_t()> size;
  std::function<Schema(int64_t)> at;
  std::function<Schema()> append;
  std::function<Schema()> blank;  // for the reference
};
using Field =
    std::variant<int64_t*, std::optional<int64_t>*, uint64_t*, double*, std::optional<double>*, bool*,
                 std::string*, std::optional<std::string>*, Word, Words, std::vector<std::string>*,
                 std::vector<int64_t>*, ScalarOrList, TokenOrList, Sources, Group, EntryList>;

template <Term Enum>
Word word(Enum* field) {
  return {[field] { return std::string(to_string(*field)); },
          [field](const std::string& name) { *field = *parse<Enum>(name); }};
}
template <Term Enum>
Word word(std::optional<Enum>* field) {  // "" without a value
  return {[field] { return *field ? std::string(to_string(**field)) : std::string(); },
          [field](const std::string& name) { *field = *parse<Enum>(name); }};
}
template <Term Enum>
Words words(std::vector<Enum>* field) {
  return {[field] {
            std::vector<std::string> texts;
            for (const Enum value : *field) texts.emplace_back(to_string(value));
            return texts;
          },
          [field](const std::vector<std::string>& texts) {
            field->clear();
            for (const std::string& text : texts) field->push_back(*parse<Enum>(text));
          }};
}

/// Bounds of a number, or of each number of a list.
struct Range {
  std::optional<double> low, high;
  bool low_open = false, high_open = false;

  bool holds(double value) const;
  std::string text() const;  // "at least 1", "in [0, 1)"; "" without bounds
};

struct Key {
  std::string path;  // "optimizer.lr"; relative to the entry inside a list of maps
  Field field;
  std::string help;
  Range range = {};
  std::vector<std::string> choices = {};
  bool required = false;
  std::string unless = {};  // a sibling that stands for the required key if it is given
  bool nonempty = false;    // lists
  bool null_ok = false;     // null: as if the key were not given
  bool is_null = false;     // print null: another key decides
  bool omitted = false;     // without a value, so not printed

  Key& at_least(double low);
  Key& above(double low);
  Key& at_most(double high);
  Key& below(double high);
  Key& must_be_given();
  /// Either this key or `sibling`, which has a value if `is_given`.
  Key& must_be_given_unless(const std::string& sibling, bool is_given);
  Key& not_empty();
  Key& nullable(bool prints_null);
  /// A list, number or word that may be left out. If given, a list must not be empty.
  Key& may_be_absent();
};

class Schema {
 public:
  Key& key(std::string path, Field field, std::string help);
  /// A word of terms.h, or a list of them: the choices are its names.
  template <Term Enum>
  Key& key(std::string path, Enum* field, std::string help) {
    return with_names<Enum>(key(std::move(path), Field(word(field)), std::move(help)));
  }
  template <Term Enum>
  Key& key(std::string path, std::optional<Enum>* field, std::string help) {
    return with_names<Enum>(key(std::move(path), Field(word(field)), std::move(help)));
  }
  template <Term Enum>
  Key& key(std::string path, std::vector<Enum>* field, std::string help) {
    return with_names<Enum>(key(std::move(path), Field(words(field)), std::move(help)));
  }
  /// Source families or positions.
  Key& key(std::string path, std::vector<Family>* families, std::vector<int64_t>* positions,
           std::string help) {
    return with_names<Family>(
        key(std::move(path), Field(Sources{words(families), positions}), std::move(help)));
  }
  /// A list of maps with one entry of `describe_entry(T&)` each.
  template <typename T>
  Key& list_of(std::string path, std::vector<T>* entries, Schema (*describe_entry)(T&), std::string help) {
    return key(std::move(path),
               Field(EntryList{[=] { return static_cast<int64_t>(entries->size()); },
                               [=](int64_t i) { return describe_entry((*entries)[static_cast<size_t>(i)]); },
                               [=] { return describe_entry(entries->emplace_back()); },
                               [=] {
                                 const auto entry = std::make_shared<T>();
                                 Schema schema = describe_entry(*entry);
                                 schema.own(entry);
                                 return schema;
                               }}),
               std::move(help));
  }
  /// A key of an earlier format: giving it is an error with this message.
  void retired(std::string path, std::string message) { retired_[std::move(path)] = std::move(message); }
  const std::string* retired(const std::string& path) const;

  /// Keeps storage that keys point into alive as long as the schema.
  template <typename T>
  T& own(T value) {
    auto owned = std::make_shared<T>(std::move(value));
    T& reference = *owned;
    owned_.push_back(std::move(owned));
    return reference;
  }
  const std::deque<Key>& keys() const& { return keys_; }
  const std::deque<Key>& keys() && = delete;
  const Key* find(const std::string& path) const;
  bool is_section(const std::string& path) const;  // some key starts with "path."
  /// Last parts of the keys directly below a section, in order; "" is the root.
  std::vector<std::string> children(const std::string& section) const;

 private:
  template <Term Enum>
  static Key& with_names(Key& key) {
    key.choices = names<Enum>();
    return key;
  }

  std::deque<Key> keys_;
  std::vector<std::shared_ptr<void>> owned_;
  std::map<std::string, std::string> retired_;
};

Schema describe(TrainConfig& config);
Schema describe(EvalConfig& config);

/// Which keys were given, and where: for messages about values that are impossible together.
class Given {
 public:
  explicit Given(const YamlDocument& document) : document_(document) {}
  void note(const std::string& path, Mark mark) { marks_[path] = mark; }
  bool has(const std::string& path) const { return marks_.count(path) > 0; }
  /// All keys of `schema` that were given.
  std::set<std::string> keys(const Schema& schema) const;
  /// Fails at the first of `paths` that was given, otherwise at the section nearest to the first.
  [[noreturn]] void fail(const std::vector<std::string>& paths, const std::string& message) const;

 private:
  const YamlDocument& document_;
  std::map<std::string, Mark> marks_;
};

/// Fills the fields of `schema` from the document. ConfigError for anything that does not fit.
Given read_fields(const Schema& schema, const YamlDocument& document);
/// Checks what no single key can tell. ConfigError for values that are impossible together.
void check_together(const TrainConfig& config, const Given& given);
void check_together(const EvalConfig& config, const Given& given);
/// The part of it about entries of `grids` and `cells`, one by one and against the rest of the configuration.
void check_entries(const EvalConfig& config, const Given& given);

std::string to_yaml(const Schema& schema);
std::vector<std::pair<std::string, std::string>> flatten(const Schema& schema);
std::string reference(const Schema& schema);  // a Markdown table
std::string type_name(const Field& field);    // "integer", "list of text", ...

/// Returns the names at the least edit distance from `name` (letters changed, added, dropped or swapped),
/// none if all are far.
std::vector<std::string> nearest(const std::string& name, const std::vector<std::string>& known);

}  // namespace depthroute
