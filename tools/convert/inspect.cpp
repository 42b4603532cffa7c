#include "tools/convert/inspect.h"

#include <filesystem>

#include "configs/base/error.h"
#include "data/files.h"
#include "data/json.h"
#include "data/model/fla.h"
#include "data/model/other_code.h"
#include "tools/convert/model_source.h"
#include "train/model/depth_plan.h"

namespace depthroute {
namespace {

using nlohmann::ordered_json;

/// Why the tensors' values cannot be exported as fla: it has no recency biases.
std::string why_not_these_biases(const ModelSource& source) {
  for (const TensorToWrite& tensor : source.tensors()) {
    if (!fla_name(tensor.name).empty() || !tensor.file) continue;
    float value = 0;
    tensor.file->read_float(*tensor.entry, {&value, 1});
    if (value != 0) return fmt::format("it has no recency biases, and {} is {}", tensor.name, value);
  }
  return "";
}

ordered_json shape_of(const ModelConfig& config) {
  return {{"vocab_size", config.vocab_size},
          {"hidden_size", config.hidden_size},
          {"num_layers", config.num_layers},
          {"num_heads", config.num_heads},
          {"num_kv_heads", config.num_kv_heads},
          {"head_dim", config.head_dim},
          {"intermediate_size", config.intermediate_size},
          {"rope_theta", config.rope_theta},
          {"rms_norm_eps", config.rms_norm_eps},
          {"tie_embeddings", config.tie_embeddings},
          {"qk_norm", config.qk_norm}};
}

ordered_json residual_of(const ModelConfig& config) {
  ordered_json residual = {{"variant", to_string(config.residual.variant)}};
  if (config.residual.variant == Variant::additive) return residual;
  const DepthPlan plan = make_depth_plan(config);
  residual["sublayers_per_block"] = plan.sublayers_per_block;
  residual["blocks"] = (plan.num_sublayers() + plan.sublayers_per_block - 1) / plan.sublayers_per_block;
  residual["most_sources"] = plan.max_sources();
  residual["recency_bias_init"] = config.residual.recency_bias;
  return residual;
}

ordered_json files_of(const ModelSource& source) {
  ordered_json files = ordered_json::array();
  for (const std::string& name : list_folder(source.folder())) {
    std::error_code none;
    const auto size = std::filesystem::file_size(source.folder() + "/" + name, none);
    if (!none) files.push_back({{"name", name}, {"bytes", size}});
  }
  return files;
}

ordered_json companions_of(const Companions& companions) {
  ordered_json keys = ordered_json::object(), files = ordered_json::array();
  for (const auto& [key, value] : companions.keys) keys[key] = ordered_json::parse(value);
  for (const CompanionFile& file : companions.files)
    files.push_back({{"name", file.name}, {"checksum", Companions::checksum(file)}});
  return {{"keys", keys}, {"files", files}, {"tokenizer", companions.has_tokenizer()}};
}

ordered_json describe_model(const std::string& path) {
  const ModelSource source(path);
  const ModelConfig& config = source.config();
  int64_t routing = 0;
  for (const Parameter& parameter : source.layout().all())
    if (parameter.name.find("_res_") != std::string::npos) routing += parameter.numel();
  ordered_json root = {{"folder", source.folder()}};
  if (!source.checkpoint().empty()) root["checkpoint"] = source.checkpoint();
  root["form"] = source.form();
  root["shape"] = shape_of(config);
  root["residual"] = residual_of(config);
  root["parameters"] = {{"all", source.layout().num_parameters()}, {"routing", routing}};
  root["dtypes"] = ordered_json::object();
  for (const auto& [dtype, count] : source.dtypes()) root["dtypes"][dtype] = count;
  root["files"] = files_of(source);
  root["companions"] = companions_of(source.companions());
  for (const Form form : values<Form>()) {
    std::string reason = why_not(form, config);
    if (form == Form::fla && reason.empty()) reason = why_not_these_biases(source);
    root["export"][to_string(form)] = reason.empty() ? ordered_json(true) : ordered_json(reason);
  }
  return root;
}

std::string pairs(const ordered_json& object) {
  std::string text;
  for (const auto& [key, value] : object.items())
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key,
                        value.is_string() ? value.get<std::string>() : value.dump());
  return text;
}

std::string as_text(const ordered_json& root) {
  std::string text = fmt::format("{}\n  form        {}\n", root["folder"].get<std::string>(),
                                 root["form"].get<std::string>());
  if (root.contains("checkpoint"))
    text += fmt::format("  checkpoint  {}\n", root["checkpoint"].get<std::string>());
  text += fmt::format("  shape       {}\n  residual    {}\n", pairs(root["shape"]), pairs(root["residual"]));
  text += fmt::format("  parameters  {}, of which routing {}\n", root["parameters"]["all"].get<int64_t>(),
                      root["parameters"]["routing"].get<int64_t>());
  text += fmt::format("  tensors     {}\n", pairs(root["dtypes"]));
  for (const auto& file : root["files"])
    text += fmt::format("  file        {}, {} bytes\n", file["name"].get<std::string>(),
                        file["bytes"].get<int64_t>());
  const auto& companions = root["companions"];
  text += fmt::format("  tokenizer   {}\n", companions["tokenizer"].get<bool>() ? "yes" : "no");
  if (!companions["keys"].empty()) text += fmt::format("  keys        {}\n", pairs(companions["keys"]));
  for (const auto& [form, reason] : root["export"].items())
    text += fmt::format("  export {:<12} {}\n", form,
                        reason.is_string() ? "no: " + reason.get<std::string>() : "yes");
  return text;
}

}  // namespace

std::string inspect_model(const std::string& path, bool as_json) {
  const ordered_json root = describe_model(path);
  try {
    return as_json ? root.dump(2) + "\n" : as_text(root);
  } catch (const nlohmann::json::exception& error) {  // a file name that is not UTF-8
    throw DataError("{}: cannot be described: {}", path, json_error_text(error));
  }
}

}  // namespace depthroute
