// Inside this room: the keys of a config.json, with errors that name file and key.
#pragma once

#include <cstdint>
#include <string>

#include "configs/base/error.h"
#include "data/json.h"

namespace depthroute {

class ConfigKeys {
 public:
  /// Both must outlive this object.
  ConfigKeys(const nlohmann::json& root, const std::string& where) : root_(root), where_(where) {}

  /// nullptr if the key is absent or null, which transformers takes as absent.
  const nlohmann::json* find(const std::string& key) const {
    const auto found = root_.find(key);
    return found == root_.end() || found->is_null() ? nullptr : &*found;
  }
  const nlohmann::json& require(const std::string& key) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr)
      throw DataError("{}: the key \"{}\" is missing; add it (class defaults differ between versions)",
                      where_, key);
    return *value;
  }
  [[noreturn]] void fail(const std::string& key, const std::string& text) const {
    throw DataError("{}: \"{}\" is {}: {}", where_, key, describe(root_.at(key)), text);
  }
  int64_t count(const std::string& key) const {
    const nlohmann::json& value = require(key);
    if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t{INT32_MAX})
      fail(key, "must be a whole number from 0 to 2147483647");
    return value.get<int64_t>();
  }
  double number(const std::string& key) const {
    const nlohmann::json& value = require(key);
    if (!value.is_number()) fail(key, "must be a number");
    return value.get<double>();
  }
  bool truth(const std::string& key) const {
    const nlohmann::json& value = require(key);
    if (!value.is_boolean()) fail(key, "must be true or false");
    return value.get<bool>();
  }
  std::string text(const std::string& key) const {
    const nlohmann::json& value = require(key);
    if (!value.is_string()) fail(key, "must be a string");
    return value.get<std::string>();
  }
  const nlohmann::json& root() const { return root_; }
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& root_;
  const std::string& where_;
};

}  // namespace depthroute
