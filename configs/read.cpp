#include "configs/read.h"

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/yaml_tree.h"

namespace depthroute {
namespace {

std::string read_text(const std::string& path) {
  try {
    return RegularFile(path, "cannot open the configuration").read_all(kMaxConfigBytes);
  } catch (const InputError& error) {
    throw ConfigError(error.what());
  }
}

}  // namespace

TrainConfig read_train_config(const std::string& path, const std::vector<std::string>& overrides) {
  return parse_train_config(read_text(path), path, overrides);
}

EvalConfig read_eval_config(const std::string& path, const std::vector<std::string>& overrides) {
  return parse_eval_config(read_text(path), path, overrides);
}

}  // namespace depthroute
