// What a folder or checkpoint is, and what two of them differ in.
#pragma once

#include <string>

namespace depthroute {

/// A text for people, or one JSON object.
std::string inspect_model(const std::string& path, bool as_json);

struct Difference {
  bool equal = true;
  std::string text;
};
/// Compares the configurations key by key and the tensors bit by bit, under our names, so that folders of different
/// programs can be compared. `weights_only` leaves config.json and dtypes out.
Difference diff_models(const std::string& one, const std::string& other, bool weights_only);

}  // namespace depthroute
