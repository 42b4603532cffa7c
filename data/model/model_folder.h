// Model folders: config.json + model.safetensors, or model.safetensors.index.json + parts
// (train/model/SPEC.md §4). Hugging Face reads what is written here for `additive` (as Qwen3, or as Llama without
// qk_norm), the open AttnRes code for `cumulative` and `reset`.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "configs/model_config.h"
#include "data/manifest.h"
#include "data/model/companions.h"
#include "data/model/safetensors.h"
#include "data/model/tensor_files.h"

namespace depthroute {

class ModelFolder {
 public:
  /// Reads config.json (both spellings of transformers' keys; train/model/SPEC.md §2) and maps the tensors.
  /// Missing attnres_variant: the presence of model.final_res_* tells `reset` from `cumulative`. Throws
  /// DataError for anything missing or odd.
  explicit ModelFolder(const std::string& path);

  const std::string& path() const { return path_; }
  const ModelConfig& config() const { return config_; }
  /// No attnres_* in config.json: a plain Qwen3 or Llama, which may be wrapped.
  bool is_plain() const { return config_.residual.variant == Variant::additive; }
  bool contains(const std::string& name) const;
  std::vector<std::string> names() const { return tensors_.names(); }
  /// The stored shape must equal `shape` ([1,D] and [D], [] and [1] are taken as equal) and the values must
  /// be readable as float32. DataError naming folder, tensor and both shapes otherwise. A tied model's
  /// redundant lm_head.weight is accepted if it equals the embedding (checked by check_names).
  void check(const std::string& name, const std::vector<int64_t>& shape) const;
  /// The tensor in its file, checked as by check(); the file stays this object's.
  StoredTensor stored(const std::string& name, const std::vector<int64_t>& shape) const;
  /// As float32. DataError as check().
  void read(const std::string& name, const std::vector<int64_t>& shape, std::span<float> out) const;
  /// Every expected tensor is there and nothing unexpected is; otherwise DataError naming the first few.
  void check_names(const std::vector<std::string>& expected) const;

  /// Every file this object was read from, with size and checksum of the bytes it has read or mapped, sorted
  /// by path: config.json, tensors, wherever the index says they are, and the index. Reads all of them.
  std::vector<ManifestFile> files() const;

 private:
  std::string path_;
  ModelConfig config_;
  std::vector<ManifestFile> texts_;  // config.json and the index
  TensorFiles tensors_;
};

/// One checksum over the configuration and the tensors a model folder holds, whatever it is called.
std::string model_checksum(const ModelFolder& folder);

/// Writes config.json and model.safetensors into the existing folder `path` (the caller makes the folder
/// atomic).
void write_model_folder(const std::string& path, const ModelConfig& config,
                        std::span<const TensorToWrite> tensors);

/// The sharded form, written by several processes: each a part (0-based) of whole tensors, with
/// model_metadata(); then the index, which says what is where. One part alone is "model.safetensors" and has
/// no index.
std::string model_part_name(int part, int parts);
inline constexpr const char* kModelIndexName = "model.safetensors.index.json";
std::map<std::string, std::string> model_metadata();
std::string model_index_json(const std::map<std::string, std::string>& file_by_tensor, int64_t total_bytes);

/// config.json's text for a configuration and back (exposed for tests). `where` is named in errors.
/// A model that the open AttnRes code cannot compute is written so that it refuses to load there (other_code.h).
std::string model_config_to_json(const ModelConfig& config, bool bf16 = false, const KeptKeys& keys = {});
struct ParsedModelConfig {
  ModelConfig config;
  bool variant_stated = true;  // false: attnres keys without attnres_variant
};
ParsedModelConfig model_config_from_json(const std::string& text, const std::string& where);

}  // namespace depthroute
