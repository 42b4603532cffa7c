// Any bytes as model.safetensors.index.json: refused with an InputError of one line, or every tensor it names
// is in the file it says, and the folder holds these tensors and no others.
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/model/model_folder.h"
#include "data/model/safetensors.h"
#include "tests/fuzz/scratch_folder.h"

namespace {

using depthroute::ModelFolder;
using depthroute::SafetensorsFile;

/// Inputs up to this long, too short for JSON of interest, also choose what a well-formed index says.
constexpr size_t kMostChoices = 8;

constexpr const char* kConfig =
    R"({"model_type": "qwen3", "vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1,
  "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, "intermediate_size": 4, "rope_theta": 10000.0,
  "rms_norm_eps": 1e-6, "tie_word_embeddings": true})";
constexpr const char* kFiles[] = {"one.safetensors", "two.safetensors", "below/three.safetensors"};
constexpr const char* kNames[][2] = {{"a", "b"}, {"c", "d"}, {"e", "f"}};

const depthroute::ScratchFolder& model() {
  static const depthroute::ScratchFolder folder;
  static const bool filled = [] {
    folder.write("config.json", kConfig);
    const std::vector<float> values = {1, 2, 3};
    for (size_t i = 0; i < std::size(kFiles); ++i) {
      const std::string path = folder.write(kFiles[i], "");
      const std::vector<depthroute::TensorToWrite> tensors = {{kNames[i][0], {3}, values},
                                                              {kNames[i][1], {1, 3}, values}};
      depthroute::write_safetensors(path, tensors);
    }
    return true;
  }();
  (void)filled;
  return folder;
}

void check_accepted(const ModelFolder& folder, const std::string& index) {
  const nlohmann::json map = nlohmann::json::parse(index).at("weight_map");
  std::vector<std::string> names = folder.names(), expected;
  for (const auto& [name, file] : map.items()) {
    expected.push_back(name);
    DR_CHECK(SafetensorsFile(model() / file.get<std::string>()).find(name) != nullptr);
    DR_CHECK(folder.contains(name));
    std::vector<float> values(3);
    folder.read(name, {3}, values);
    DR_CHECK((values == std::vector<float>{1, 2, 3}));
  }
  std::sort(names.begin(), names.end());
  std::sort(expected.begin(), expected.end());
  DR_CHECK(names == expected);
}

void try_index(const std::string& text) {
  model().write(depthroute::kModelIndexName, text);
  try {
    check_accepted(ModelFolder(model().path()), text);
  } catch (const depthroute::InputError& error) {
    check_message(error);
  }
}

/// A well-formed index: a byte says of each tensor in which file it is, or that it is left out.
void try_well_formed(const uint8_t* data, size_t size) {
  nlohmann::json map = nlohmann::json::object();
  size_t next = 0;
  for (const auto& names : kNames)
    for (const char* name : names) {
      const size_t file = next < size ? data[next] % 4 : 3;
      ++next;
      if (file < std::size(kFiles)) map[name] = kFiles[file];
    }
  try_index(nlohmann::json{{"weight_map", map}}.dump());
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  for (const std::string& text : depthroute::deep_texts("{\"weight_map\": {\"a\": ", "}}")) try_index(text);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try_index(std::string(reinterpret_cast<const char*>(data), size));
  if (size <= kMostChoices) try_well_formed(data, size);
  return 0;
}
