#include "configs/read.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "configs/base/error.h"
#include "configs/scalar.h"
#include "configs/yaml_tree.h"

namespace depthroute {
namespace {

std::string read_text(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ConfigError("{}: cannot open the configuration: {}", one_line(path), std::strerror(errno));
  std::string text(kMaxConfigBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad())
    throw ConfigError("{}: cannot read the configuration: {}", one_line(path), std::strerror(errno));
  text.resize(static_cast<size_t>(file.gcount()));  // one byte over the limit: the parser refuses it
  return text;
}

}  // namespace

TrainConfig read_train_config(const std::string& path, const std::vector<std::string>& overrides) {
  return parse_train_config(read_text(path), path, overrides);
}

EvalConfig read_eval_config(const std::string& path, const std::vector<std::string>& overrides) {
  return parse_eval_config(read_text(path), path, overrides);
}

}  // namespace depthroute
