// What the tests of this folder share.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "configs/base/error.h"
#include "configs/read.h"
#include "tests/support/paths.h"

namespace depthroute::test {

/// The message of the ConfigError that `action` throws; "" if it throws none.
template <typename Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

inline std::string train_error(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return message_of([&] { parse_train_config(text, "run.yaml", overrides); });
}
inline std::string eval_error(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return message_of([&] { parse_eval_config(text, "eval.yaml", overrides); });
}

// The required keys, on the lines 1-2 and 1-3.
inline const std::string kTrain = "output: out\ndata: {train: [a.bin]}\n";
inline const std::string kEval = "output: out.h5\nmodel: {from: m}\ndata: {shards: [a.bin]}\n";

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

inline std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

inline std::vector<std::filesystem::path> presets() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(test_paths::source() + "/configs"))
    if (entry.path().extension() == ".yaml") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}
inline bool is_eval(const std::filesystem::path& preset) {
  return preset.filename().string().rfind("eval-", 0) == 0;
}

/// Uses every key of an eval configuration: wrap, grids, edges, cells by family and by position, a union.
inline const std::string kEveryEvalKey = R"(output: out.h5
device: cpu
precision: fp32
micro_batch: 3
model: {from: m, wrap: {recency_bias: [30, 20.5], sublayers_per_block: 4}}
data: {shards: [a.bin, "b c.bin"], seq_len: 32, sequences: 7, choose: documents, seed: 4, separator: [5, 5],
       split: exploration}
splits: {calibration: 0.25, exploration: 0.5, confirmation: 0.25, calibration_sequences: 3}
routing: {weights: all, edge_estimates: true}
resample: {donors: 2, seed: 8}
grids:
  - {families: [older], sublayers: [attn, final], bands: [mid], interventions: [mask, bias], value: -2.5,
     distinct: true}
  - {edges: all, sublayers: [mlp], bands: [early], layers: [1], interventions: [zero], tokens: not_position_0}
  - {families: [older], sublayers: [attn], layers: [2], interventions: [mean, resample], replace: keys,
     average: position}
cells:
  - {name: a, sources: [0, 2], layers: [3], bands: [late], sublayers: [mlp], intervention: bias, value: 2.0}
  - {name: b, sources: [current], sublayers: [attn], intervention: only, distinct: true}
  - {name: c, sublayers: [final], intervention: schedule, value: 30}
  - {name: d, sources: [recent, current], sublayers: [attn], intervention: permute, replace: both,
     tokens: document_start, first_token: 1, last_token: 30}
  - {name: e, sublayers: [attn], intervention: freeze, average: all}
  - {name: f, union: [a, d], per_token: true}
claims:
  - {name: g, cell: a, exceeds: b, measure: kl, margin: 0.125, negative: true}
  - {name: h, cell: c}
statistics: {bootstrap: 200, alpha: 0.1, margin: 0.02, seed: 9}
)";

}  // namespace depthroute::test
