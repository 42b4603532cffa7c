// Any bytes as a model folder's config.json: refused with an InputError of one line, or what was read can be
// written and reads back to the same, also as part of a folder.
#include <cstdint>
#include <string>
#include <vector>

#include "data/model/fla.h"
#include "data/model/model_folder.h"
#include "data/model/safetensors.h"
#include "tests/fuzz/scratch_folder.h"

namespace {

using depthroute::ModelConfig;

const depthroute::ScratchFolder& model() {
  static const depthroute::ScratchFolder folder;
  static const bool filled = [] {
    const std::vector<float> values = {1, 2, 3};
    const std::vector<depthroute::TensorToWrite> tensors = {{"model.norm.weight", {3}, values}};
    depthroute::write_safetensors(folder.write("model.safetensors", ""), tensors);
    return true;
  }();
  (void)filled;
  return folder;
}

/// Both as config.json says it. Blocks may be given in two ways that mean the same.
std::string text_of(const ModelConfig& config) { return depthroute::model_config_to_json(config); }

void try_config(const std::string& text) {
  bool accepted = false;
  std::string read;
  try {
    const auto parsed = depthroute::model_config_from_json(text, "config.json");
    accepted = true;
    read = text_of(parsed.config);
    const auto again = depthroute::model_config_from_json(read, "again");
    DR_CHECK(again.variant_stated);
    DR_CHECK(text_of(again.config) == read);
    DR_CHECK(again.config.sublayers_per_block() == parsed.config.sublayers_per_block() ||
             parsed.config.residual.variant == depthroute::Variant::additive);
  } catch (const depthroute::InputError& error) {
    check_message(error);
    DR_CHECK(std::string(error.what()).rfind("again", 0) != 0);
  }
  model().write("config.json", text);
  try {
    const depthroute::ModelFolder folder(model().path());
    DR_CHECK(accepted && text_of(folder.config()) == read);
  } catch (const depthroute::InputError& error) {
    check_message(error);
    DR_CHECK(!accepted);
  }
}

/// The same of flash-linear-attention's, and of the keys that travel along.
void try_foreign(const std::string& text) {
  try {
    const ModelConfig config = depthroute::fla_config_from_json(text, "config.json");
    const depthroute::KeptKeys keys = depthroute::kept_keys_from_json(text, "config.json");
    const std::string written = depthroute::fla_config_to_json(config, false, keys);
    DR_CHECK(depthroute::fla_config_from_json(written, "again") == config);
    DR_CHECK(depthroute::kept_keys_from_json(written, "again") == keys);
  } catch (const depthroute::InputError& error) {
    check_message(error);
    DR_CHECK(std::string(error.what()).rfind("again", 0) != 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  for (const std::string& text : depthroute::deep_texts("{\"model_type\": \"qwen3\", \"vocab_size\": ", "}"))
    try_config(text);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try_config(text);
  try_foreign(text);
  return 0;
}
