// A model that is converted, in whatever form it is found: its configuration and its tensors under our names.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "configs/model_config.h"
#include "data/model/companions.h"
#include "data/model/model_folder.h"
#include "train/model/parameters.h"

namespace depthroute {

class ModelSource {
 public:
  /// A model folder, checkpoint or run folder (open_model()), or a folder of flash-linear-attention. Every tensor that
  /// the configuration asks for must be there in its shape, and nothing else. DataError otherwise.
  explicit ModelSource(const std::string& path);

  const std::string& folder() const { return folder_; }          // links resolved
  const std::string& checkpoint() const { return checkpoint_; }  // the checkpoint it belongs to, or ""
  /// "Qwen3", "Llama", "AttnRes of depthroute", ...: whose config.json it is.
  const std::string& form() const { return form_; }
  const ModelConfig& config() const { return config_; }
  const ParameterLayout& layout() const { return layout_; }
  const Companions& companions() const { return companions_; }
  /// What the folder's tensors are stored as, largest first: {"BF16", 310}.
  std::vector<std::pair<std::string, int64_t>> dtypes() const;

  /// In the order of the layout, taken from this object's files, of which it must outlive the result. Dtypes as they
  /// are stored, F16 as F32, which holds every one of its values.
  std::vector<TensorToWrite> tensors() const;

 private:
  struct Entry {
    const Parameter* parameter;
    StoredTensor stored;  // null: all zeros (a recency bias of a model that has none)
  };
  void take_ours(const std::string& path);
  void take_fla(const std::string& config_text);

  std::string folder_, checkpoint_, form_;
  ModelConfig config_;
  ParameterLayout layout_;
  Companions companions_;
  std::unique_ptr<ModelFolder> ours_;
  TensorFiles theirs_;
  std::vector<Entry> entries_;
};

}  // namespace depthroute
