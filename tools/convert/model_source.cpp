#include "tools/convert/model_source.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "configs/base/error.h"
#include "data/checkpoint_folder.h"
#include "data/files.h"
#include "data/json.h"
#include "data/model/fla.h"
#include "data/model/other_code.h"
#include "train/model/depth_plan.h"

namespace depthroute {
namespace {

constexpr float kZero = 0;

std::string model_type_of(const std::string& config_text, const std::string& where) {
  const nlohmann::json root = parse_json_object(config_text, where);
  const auto type = root.find("model_type");
  return type != root.end() && type->is_string() ? type->get<std::string>() : "";
}

std::string describe_form(const nlohmann::json& root) {
  const std::string type = root.at("model_type");
  if (type == kDepthrouteType) return "depthroute, with its modelling file for transformers";
  if (root.contains("attnres_variant")) return "AttnRes of depthroute";
  if (type == "llama") return "Llama";
  return type == "qwen3" ? "Qwen3" : "open AttnRes code";
}

/// Names both lists lack of each other.
void check_names(const std::string& folder, const std::set<std::string>& wanted,
                 const std::vector<std::string>& there) {
  const std::set<std::string> present(there.begin(), there.end());
  for (const std::string& name : wanted)
    if (!present.contains(name))
      throw DataError("{}: tensor {} of the model described by config.json is missing", folder, quote(name));
  for (const std::string& name : present)
    if (!wanted.contains(name))
      throw DataError("{}: tensor {} does not belong to the model described by config.json", folder,
                      quote(name));
}

}  // namespace

ModelSource::ModelSource(const std::string& path) {
  folder_ = find_model_folder(path);
  const std::string config_path = folder_ + "/config.json";
  const std::string text = read_file(config_path);
  if (model_type_of(text, config_path) == kFlaType)
    take_fla(text);
  else
    take_ours(path);
  companions_ = read_companions(folder_);
}

void ModelSource::take_ours(const std::string& path) {
  ours_ = std::make_unique<ModelFolder>(open_model(path));
  folder_ = ours_->path();
  const std::string parent = std::filesystem::path(folder_).parent_path().string();
  if (folder_ == checkpoint_model_path(parent) && has_manifest(parent)) checkpoint_ = parent;
  config_ = ours_->config();
  form_ = describe_form(nlohmann::json::parse(read_file(folder_ + "/config.json")));
  layout_ = ParameterLayout(config_, make_depth_plan(config_));
  std::vector<std::string> names;
  for (const Parameter& parameter : layout_.all()) names.push_back(parameter.name);
  ours_->check_names(names);
  for (const Parameter& parameter : layout_.all())
    entries_.push_back({&parameter, ours_->stored(parameter.name, parameter.shape.extents())});
}

void ModelSource::take_fla(const std::string& config_text) {
  config_ = fla_config_from_json(config_text, folder_ + "/config.json");
  form_ = "flash-linear-attention";
  layout_ = ParameterLayout(config_, make_depth_plan(config_));
  std::vector<ManifestFile> texts;
  theirs_ = TensorFiles(folder_, texts);
  std::set<std::string> wanted;
  for (const Parameter& parameter : layout_.all())
    if (const std::string name = fla_name(parameter.name); !name.empty()) wanted.insert(name);
  const std::string head = "lm_head.weight";
  if (config_.tie_embeddings && theirs_.same(head, fla_name("model.embed_tokens.weight")))
    wanted.insert(head);
  check_names(folder_, wanted, theirs_.names());
  for (const Parameter& parameter : layout_.all()) {
    const std::string name = fla_name(parameter.name);
    if (name.empty()) {
      entries_.push_back({&parameter, {nullptr, nullptr}});
      continue;
    }
    const StoredTensor stored = *theirs_.find(name);
    const std::vector<int64_t> shape = parameter.shape.extents();
    if (without_leading_ones(stored.entry->shape) != without_leading_ones(shape))
      throw DataError("{}: tensor {} has shape [{}], but config.json asks for [{}]", folder_, quote(name),
                      fmt::join(stored.entry->shape, ", "), fmt::join(shape, ", "));
    stored.file->check_float(*stored.entry);
    entries_.push_back({&parameter, stored});
  }
}

std::vector<std::pair<std::string, int64_t>> ModelSource::dtypes() const {
  std::map<std::string, int64_t> counts;
  for (const Entry& entry : entries_)
    if (entry.stored.entry) ++counts[entry.stored.entry->dtype];
  std::vector<std::pair<std::string, int64_t>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return sorted;
}

std::vector<TensorToWrite> ModelSource::tensors() const {
  std::vector<TensorToWrite> tensors;
  for (const auto& [parameter, stored] : entries_) {
    TensorToWrite tensor{parameter->name, parameter->shape.extents(), {}};
    if (stored.entry) {
      tensor.file = stored.file;
      tensor.entry = stored.entry;
      tensor.as_bf16 = stored.entry->dtype == "BF16";
    } else {
      tensor.values = {&kZero, 1};
    }
    tensors.push_back(tensor);
  }
  return tensors;
}

}  // namespace depthroute
