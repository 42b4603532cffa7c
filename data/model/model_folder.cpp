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

/// Reads a file of the folder and notes what was read.
std::string read_noted(const std::string& folder, const std::string& name, std::vector<ManifestFile>& notes) {
  std::string text = read_file(folder + "/" + name);
  notes.push_back(
      {name, static_cast<int64_t>(text.size()), hash_bytes(std::as_bytes(std::span<const char>(text)))});
  return text;
}

/// The sharded form: the index says which file holds which tensor, and every file must agree with it.
std::vector<SafetensorsFile> open_parts(const std::string& folder, std::vector<ManifestFile>& notes) {
  const std::string index_path = folder + "/" + kModelIndexName;
  const nlohmann::json root = parse_json_object(read_noted(folder, kModelIndexName, notes), index_path);
  const auto map = root.find("weight_map");
  if (map == root.end() || !map->is_object())
    throw DataError("{}: the key \"weight_map\" is missing or no object; download the index again",
                    index_path);
  std::map<std::string, std::set<std::string>> names_by_file;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || !stays_inside(file.get_ref<const std::string&>()))
      throw DataError("{}: tensor {} is in {}, which is not a file of this folder", index_path, quote(name),
                      describe(file));
    names_by_file[file.get<std::string>()].insert(name);
  }
  std::vector<SafetensorsFile> files;
  for (const auto& [file, names] : names_by_file) {
    files.emplace_back(folder + "/" + file);
    for (const std::string& name : names)
      if (files.back().find(name) == nullptr)
        throw DataError("{}: tensor {} is missing, although {} says it is here; download both again",
                        files.back().path(), quote(name), index_path);
    for (const TensorEntry& entry : files.back().entries())
      if (names.count(entry.name) == 0)
        throw DataError("{}: tensor {} is not what {} says of this file; download both again",
                        files.back().path(), quote(entry.name), index_path);
  }
  return files;
}

std::vector<SafetensorsFile> open_tensors(const std::string& folder, std::vector<ManifestFile>& notes) {
  const std::string single = folder + "/" + model_part_name(0, 1);
  std::vector<SafetensorsFile> files;
  if (exists(single))
    files.emplace_back(single);
  else if (exists(folder + "/" + kModelIndexName))
    files = open_parts(folder, notes);
  else
    throw DataError("{}: neither {} nor {} is in it; not a whole model folder", folder, model_part_name(0, 1),
                    kModelIndexName);
  return files;
}

const SafetensorsFile* holder_of(const std::vector<SafetensorsFile>& files, const std::string& name) {
  for (const SafetensorsFile& file : files)
    if (file.find(name) != nullptr) return &file;
  return nullptr;
}

/// Drops leading sizes of 1: [1, D] and [D], [] and [1] are the same shape.
std::vector<int64_t> without_leading_ones(std::vector<int64_t> shape) {
  const auto first = std::find_if(shape.begin(), shape.end(), [](int64_t size) { return size != 1; });
  shape.erase(shape.begin(), first);
  return shape;
}

std::string first_few(const std::vector<std::string>& names) {
  constexpr size_t kFew = 3;
  std::string text;
  for (size_t i = 0; i < std::min(kFew, names.size()); ++i) text += (i > 0 ? ", " : "") + quote(names[i]);
  if (names.size() > kFew) text += fmt::format(" and {} more", names.size() - kFew);
  return text;
}

bool same_tensor(const std::vector<SafetensorsFile>& files, const char* name, const char* other_name) {
  const SafetensorsFile* file = holder_of(files, name);
  const SafetensorsFile* other_file = holder_of(files, other_name);
  if (file == nullptr || other_file == nullptr) return false;
  const TensorEntry &entry = *file->find(name), &other = *other_file->find(other_name);
  if (entry.dtype != other.dtype || entry.shape != other.shape) return false;
  const auto bytes = file->bytes(entry), other_bytes = other_file->bytes(other);
  return std::equal(bytes.begin(), bytes.end(), other_bytes.begin(), other_bytes.end());
}

}  // namespace

ModelFolder::ModelFolder(const std::string& path) : path_(path) {
  const std::string config_path = path + "/config.json";
  if (!exists(config_path))
    throw DataError("{}: no config.json in it; not a model folder (config.json and model.safetensors)", path);
  const ParsedModelConfig parsed =
      model_config_from_json(read_noted(path, "config.json", texts_), config_path);
  config_ = parsed.config;
  files_ = open_tensors(path, texts_);
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

bool ModelFolder::contains(const std::string& name) const { return holder_of(files_, name) != nullptr; }

std::vector<std::string> ModelFolder::names() const {
  std::vector<std::string> all;
  for (const SafetensorsFile& file : files_)
    for (const TensorEntry& entry : file.entries()) all.push_back(entry.name);
  return all;
}

std::pair<const SafetensorsFile*, const TensorEntry*> ModelFolder::checked(
    const std::string& name, const std::vector<int64_t>& shape) const {
  const SafetensorsFile* file = holder_of(files_, name);
  if (file == nullptr)
    throw DataError("{}: tensor {} is missing; the model is incomplete", path_, quote(name));
  const TensorEntry& entry = *file->find(name);
  if (without_leading_ones(entry.shape) != without_leading_ones(shape))
    throw DataError(
        "{}: tensor {} has shape [{}], but config.json asks for [{}]; they are of different models", path_,
        quote(name), fmt::join(entry.shape, ", "), fmt::join(shape, ", "));
  file->check_float(entry);
  return {file, &entry};
}

void ModelFolder::check(const std::string& name, const std::vector<int64_t>& shape) const {
  checked(name, shape);
}

void ModelFolder::read(const std::string& name, const std::vector<int64_t>& shape,
                       std::span<float> out) const {
  const auto [file, entry] = checked(name, shape);
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
    } else if (!same_tensor(files_, kHead, kEmbedding)) {
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
  for (const SafetensorsFile& file : files_)
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
