// Reads YAML text and --set overrides into a typed configuration, strictly: an unknown key, wrong type, value
// out of range or impossible combination is a ConfigError naming file, line, key and the nearest known key
// (train/model/SPEC.md §4).
#pragma once

#include <string>
#include <vector>

#include "configs/eval_config.h"
#include "configs/train_config.h"

namespace depthroute {

/// `overrides`: "key.path=value", the value in YAML. Errors in them name "--set key.path=value" instead of a
/// file and line.
TrainConfig read_train_config(const std::string& path, const std::vector<std::string>& overrides = {});
EvalConfig read_eval_config(const std::string& path, const std::vector<std::string>& overrides = {});
/// The same from text; `where` stands for the file name in messages.
TrainConfig parse_train_config(const std::string& text, const std::string& where,
                               const std::vector<std::string>& overrides = {});
EvalConfig parse_eval_config(const std::string& text, const std::string& where,
                             const std::vector<std::string>& overrides = {});

/// Every key as YAML that reads back to the same configuration (--print-config).
std::string to_yaml(const TrainConfig& config);
std::string to_yaml(const EvalConfig& config);

/// Every key as a pair of "key.path" and value in YAML: what a checkpoint compares on resume.
std::vector<std::pair<std::string, std::string>> flatten(const TrainConfig& config);
std::vector<std::pair<std::string, std::string>> flatten(const EvalConfig& config);

/// A Markdown section with a table of all keys: type, default, range, meaning (--help-config). REFERENCE.md
/// holds both.
std::string train_reference();
std::string eval_reference();

}  // namespace depthroute
