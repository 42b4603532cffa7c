// The list of keys of a configuration: each is declared once, in train_schema.cpp or eval_schema.cpp, with
// the field it fills, what it may be, and what it means. Reading, --print-config, flatten and the reference
// walk this list.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "configs/eval_config.h"
#include "configs/model_config.h"
#include "configs/train_config.h"
#include "configs/yaml_tree.h"

namespace depthroute {

class Schema;

/// One number, or one per site.
struct ScalarOrList {
  std::vector<double>* values;
};
/// A list of family names, or a list of positions.
struct Sources {
  std::vector<std::string>* families;
  std::vector<int64_t>* positions;
};
/// True when the key is given, with this word as its value.
struct WordFlag {
  bool* value;
  const char* word;
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
  std::function<Schema(int)> append;  // the argument: the line it stands on
  std::function<Schema()> blank;      // for the reference
};
using Field = std::variant<int64_t*, uint64_t*, double*, bool*, std::string*, std::optional<std::string>*,
                           Variant*, std::vector<std::string>*, std::vector<int64_t>*, ScalarOrList, Sources,
                           WordFlag, Group, EntryList>;

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
  std::vector<std::string> planned = {};  // names the file format knows and this version cannot do
  bool required = false;
  bool nonempty = false;  // lists
  bool null_ok = false;   // null: as if the key were not given
  bool is_null = false;   // print null: another key decides
  bool hidden = false;    // does not apply to these values: not printed
  bool no_default = false;

  Key& at_least(double low);
  Key& above(double low);
  Key& at_most(double high);
  Key& below(double high);
  Key& one_of(std::vector<std::string> names);
  Key& not_yet(std::vector<std::string> names);
  Key& must_be_given();
  Key& not_empty();
  Key& nullable(bool prints_null);
  Key& hide_if(bool unused);
  Key& without_default();
};

class Schema {
 public:
  Key& key(std::string path, Field field, std::string help);
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
  std::vector<std::string> children(
      const std::string& section) const;  // last parts, in order; "" is the root

 private:
  std::deque<Key> keys_;
  std::vector<std::shared_ptr<void>> owned_;
};

Schema describe(TrainConfig& config);
Schema describe(EvalConfig& config);

/// Which keys were given, and where: for messages about values that are impossible together.
class Given {
 public:
  explicit Given(const YamlDocument& document) : document_(document) {}
  void note(const std::string& path, Mark mark) { marks_[path] = mark; }
  bool has(const std::string& path) const { return marks_.count(path) > 0; }
  /// Fails at the first of `paths` that was given, else at the section nearest to the first.
  [[noreturn]] void fail(const std::vector<std::string>& paths, const std::string& message) const;

 private:
  const YamlDocument& document_;
  std::map<std::string, Mark> marks_;
};

/// Fills the fields of `schema` from the document; ConfigError for anything that does not fit.
Given read_fields(const Schema& schema, const YamlDocument& document);
/// What no single key can tell.
void check_together(const TrainConfig& config, const Given& given);
void check_together(const EvalConfig& config, const Given& given);

std::string to_yaml(const Schema& schema);
std::vector<std::pair<std::string, std::string>> flatten(const Schema& schema);
std::string reference(const Schema& schema);  // a Markdown table
std::string type_name(const Field& field);    // "integer", "list of text", ...

/// Names at the least edit distance from `name` (letters changed, added, dropped or swapped), none if all are
/// far.
std::vector<std::string> nearest(const std::string& name, const std::vector<std::string>& known);

}  // namespace depthroute
