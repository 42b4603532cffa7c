// Any bytes as a configuration: read, or refused with one line. The last line, if it begins with '=', is a
// --set argument, so that overrides are reached as well.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "configs/base/error.h"
#include "configs/read.h"

namespace {

template <typename Config, typename Parse>
void try_text(const std::string& text, const std::vector<std::string>& overrides, Parse parse) {
  try {
    const Config config = parse(text, "fuzz.yaml", overrides);
    // What was accepted can be printed and read back to the same.
    const Config back = parse(depthroute::to_yaml(config), "printed.yaml", {});
    if (depthroute::flatten(back) != depthroute::flatten(config)) std::abort();
  } catch (const depthroute::InputError& error) {
    const std::string message = error.what();
    if (message.find('\n') != std::string::npos || message.rfind("printed.yaml", 0) == 0) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> overrides;
  const size_t last = text.rfind("\n=");
  if (last != std::string::npos) {
    overrides.push_back(text.substr(last + 2));
    text.resize(last + 1);
  }
  try_text<depthroute::TrainConfig>(text, overrides, depthroute::parse_train_config);
  try_text<depthroute::EvalConfig>(text, overrides, depthroute::parse_eval_config);
  return 0;
}
