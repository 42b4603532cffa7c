#include "data/model/model_folder.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/json.h"
#include "data/posix.h"

namespace depthroute {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kFinalSite = "model.final_res_";

std::string first_few(const std::vector<std::string>& names) {
  constexpr size_t kFew = 3;
  std::string text;
  for (size_t i = 0; i < std::min(kFew, names.size()); ++i) text += (i > 0 ? ", " : "") + quote(names[i]);
  if (names.size() > kFew) text += fmt::format(" and {} more", names.size() - kFew);
  return text;
}

}  // namespace

ModelFolder::ModelFolder(const std::string& path) : path_(path) {
  const std::string config_path = path + "/config.json";
  if (!exists(config_path))
    throw DataError("{}: no config.json in it; not a model folder (config.json and model.safetensors)", path);
  const ParsedModelConfig parsed =
      model_config_from_json(read_noted(path, "config.json", texts_), config_path);
  config_ = parsed.config;
  tensors_ = TensorFiles(path, texts_);
  if (parsed.variant_stated) return;
  const std::vector<std::string> all = names();
  const bool final_site = std::any_of(all.begin(), all.end(),
                                      [](const std::string& name) { return name.rfind(kFinalSite, 0) == 0; });
  // The open code's "full" mode exists without a final site only.
  if (final_site && config_.residual.sublayers_per_block == 1)
    throw DataError(
        "{}: one block per sublayer together with model.final_res_* tensors is ambiguous; add "
        "\"attnres_variant\": \"reset\" or \"kimi\"",
        config_path);
  config_.residual.variant = final_site ? Variant::reset : Variant::cumulative;
}

bool ModelFolder::contains(const std::string& name) const { return tensors_.find(name).has_value(); }

StoredTensor ModelFolder::stored(const std::string& name, const std::vector<int64_t>& shape) const {
  const std::optional<StoredTensor> found = tensors_.find(name);
  if (!found) throw DataError("{}: tensor {} is missing; the model is incomplete", path_, quote(name));
  const TensorEntry& entry = *found->entry;
  if (without_leading_ones(entry.shape) != without_leading_ones(shape))
    throw DataError(
        "{}: tensor {} has shape [{}], but config.json asks for [{}]; they are of different models", path_,
        quote(name), fmt::join(entry.shape, ", "), fmt::join(shape, ", "));
  found->file->check_float(entry);
  return *found;
}

void ModelFolder::check(const std::string& name, const std::vector<int64_t>& shape) const {
  stored(name, shape);
}

void ModelFolder::read(const std::string& name, const std::vector<int64_t>& shape,
                       std::span<float> out) const {
  const auto [file, entry] = stored(name, shape);
  file->read_float(*entry, out);
}

void ModelFolder::check_names(const std::vector<std::string>& expected) const {
  const std::set<std::string> wanted(expected.begin(), expected.end());
  std::vector<std::string> missing, unexpected;
  for (const std::string& name : expected)
    if (!contains(name)) missing.push_back(name);
  if (!missing.empty())
    throw DataError("{}: {} tensor(s) of the model described by config.json are missing: {}", path_,
                    missing.size(), first_few(missing));
  for (const std::string& name : names()) {
    if (wanted.count(name) != 0) continue;
    if (name != kHead || !config_.tie_embeddings) {
      unexpected.push_back(name);
    } else if (!tensors_.same(kHead, kEmbedding)) {
      throw DataError(
          "{}: tie_word_embeddings is true, but {} differs from {}; set it to false or remove the tensor",
          path_, kHead, kEmbedding);
    }
  }
  if (!unexpected.empty())
    throw DataError("{}: {} tensor(s) do not belong to the model described by config.json: {}", path_,
                    unexpected.size(), first_few(unexpected));
}

std::vector<ManifestFile> ModelFolder::files() const {
  std::vector<ManifestFile> all = texts_;
  for (const SafetensorsFile& file : tensors_.files())
    all.push_back({file.path().substr(path_.size() + 1), static_cast<int64_t>(file.file_bytes().size()),
                   hash_bytes(file.file_bytes())});
  std::sort(all.begin(), all.end(),
            [](const ManifestFile& a, const ManifestFile& b) { return a.path < b.path; });
  return all;
}

std::string model_checksum(const ModelFolder& folder) {
  std::string text;
  for (const ManifestFile& file : folder.files())
    if (file.path != kModelIndexName)
      text += file.path + " " + file.checksum + "\n";  // it adds nothing to the tensors' names
  return hash_bytes(std::as_bytes(std::span<const char>(text)));
}

void write_model_folder(const std::string& path, const ModelConfig& config,
                        std::span<const TensorToWrite> tensors) {
  const bool bf16 =
      std::any_of(tensors.begin(), tensors.end(), [](const TensorToWrite& tensor) { return tensor.as_bf16; });
  write_safetensors(path + "/" + model_part_name(0, 1), tensors, model_metadata());
  write_file_atomically(path + "/config.json", model_config_to_json(config, bf16));
}

std::string model_part_name(int part, int parts) {
  DR_CHECK(part >= 0 && part < parts);
  if (parts == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", part + 1, parts);
}

// transformers refuses a file whose metadata does not name a framework.
std::map<std::string, std::string> model_metadata() { return {{"format", "pt"}}; }

std::string model_index_json(const std::map<std::string, std::string>& file_by_tensor, int64_t total_bytes) {
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total_bytes}}},
                                        {"weight_map", file_by_tensor}};
  return index.dump(2) + "\n";
}

}  // namespace depthroute
