// Any bytes as a checkpoint's manifest.json: refused with an InputError of one line, or whatever it lists is
// there with that size and checksum, and no tensors besides. A few bytes also choose what a well-formed
// manifest says of each file.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "data/checkpoint_folder.h"
#include "data/files.h"
#include "tests/fuzz/scratch_folder.h"

namespace {

using depthroute::ManifestFile;

/// Inputs up to this long, too short for JSON of interest, also choose what a well-formed manifest says.
constexpr size_t kMostChoices = 8;

struct Known {
  const char* path;
  std::string_view content;
};
constexpr Known kFiles[] = {{"config.yaml", "seed: 1\n"},
                            {"model/config.json", "{}\n"},
                            {"model/model.safetensors", "weights"},
                            {"optimizer.safetensors", ""},
                            {"state.json", "{\"step\": 10}\n"}};
constexpr const char* kTensors[] = {"model/model.safetensors", "optimizer.safetensors"};

std::string hash_of(std::string_view content) {
  return depthroute::hash_bytes(std::as_bytes(std::span(content)));
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The checkpoint but for its manifest.
const depthroute::ScratchFolder& parent() {
  static const depthroute::ScratchFolder folder;
  static const bool filled = [] {
    for (const Known& file : kFiles) folder.write(std::string("step_00000010/") + file.path, file.content);
    return true;
  }();
  (void)filled;
  return folder;
}

void check_accepted(const std::string& folder, const depthroute::Manifest& manifest) {
  DR_CHECK(manifest.step >= 0);
  std::set<std::string> listed;
  for (const ManifestFile& file : manifest.files) {
    DR_CHECK(listed.insert(file.path).second);
    const bool known = std::any_of(std::begin(kFiles), std::end(kFiles),
                                   [&](const Known& k) { return file.path == k.path; });
    DR_CHECK(known || file.path == "manifest.json");
    const std::string content = content_of(folder + "/" + file.path);
    DR_CHECK(file.size == static_cast<int64_t>(content.size()));
    DR_CHECK(file.checksum == hash_of(content));
  }
  for (const char* path : kTensors) DR_CHECK(listed.count(path) == 1);

  const std::vector<ManifestFile> again =
      depthroute::files_from_json(depthroute::files_to_json(manifest.files), "again");
  DR_CHECK(again.size() == manifest.files.size());
  for (size_t i = 0; i < again.size(); ++i)
    DR_CHECK(again[i].path == manifest.files[i].path && again[i].size == manifest.files[i].size &&
             again[i].checksum == manifest.files[i].checksum);
}

/// Whether it was accepted.
bool try_manifest(const std::string& text) {
  parent().write("step_00000010/manifest.json", text);
  const std::string folder = parent() / "step_00000010";
  try {
    check_accepted(folder, depthroute::verify_manifest(folder));
  } catch (const depthroute::InputError& error) {
    check_message(error);
    return false;
  }
  try {
    (void)depthroute::find_model_folder(folder);  // it may be of another kind
  } catch (const depthroute::InputError& error) {
    check_message(error);
  }
  return true;
}

/// A byte says of each file whether it is listed and what is false about it.
void try_well_formed(const uint8_t* data, size_t size) {
  std::vector<ManifestFile> files;
  bool all_true = true, all_listed = true;
  for (size_t i = 0; i < std::size(kFiles); ++i) {
    const uint8_t how = i < size ? data[i] : 0;
    const Known& known = kFiles[i];
    ManifestFile file{known.path, static_cast<int64_t>(known.content.size()), hash_of(known.content)};
    if ((how & 3) == 1) file.size += how >> 2;
    if ((how & 3) == 2) file.checksum[(how >> 2) % file.checksum.size()] ^= 1;
    if ((how & 3) == 3) all_listed = false;
    all_true = all_true && ((how & 3) == 0 || (how & 3) == 3 || how == 1);
    if ((how & 3) != 3) files.push_back(file);
  }
  std::string list = depthroute::files_to_json(files);
  list.front() = ',';  // of the object's brace
  const bool accepted = try_manifest(R"({"kind": "depthroute checkpoint", "version": 1, "step": 10)" + list);
  if (accepted) DR_CHECK(all_true);
  if (all_true && all_listed) DR_CHECK(accepted);
}

void try_list(const std::string& text) {
  try {
    for (const ManifestFile& file : depthroute::files_from_json(text, "list")) {
      DR_CHECK(file.size >= 0 && !file.path.empty() && file.path.front() != '/');
      for (const auto& step : std::filesystem::path(file.path)) DR_CHECK(step != "..");
    }
  } catch (const depthroute::InputError& error) {
    check_message(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  for (const std::string& text : depthroute::deep_texts("{\"version\": 1, \"kind\": \"k\", \"step\": ", "}"))
    try_manifest(text);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try_manifest(text);
  try_list(text);
  if (size <= kMostChoices) try_well_formed(data, size);
  return 0;
}
