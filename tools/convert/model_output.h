// Writes a model folder, whole or not at all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/model/companions.h"
#include "data/model/safetensors.h"
#include "tools/output_folder.h"

namespace depthroute {

struct OutputOptions {
  std::string path;
  bool overwrite = false;
  int64_t max_shard_bytes = 0;  // 0: one file
};

struct ModelToWrite {
  std::string config_json;
  std::vector<TensorToWrite> tensors;     // their sources stay open
  std::vector<CompanionFile> companions;  // and other files beside the tensors
};

class ModelOutput {
 public:
  /// Locks the folder. ConfigError if something is in it, unless `overwrite` and it holds a model folder and nothing
  /// else, or if it is `source`, the folder that is read.
  ModelOutput(const OutputOptions& options, const std::string& source);

  /// Returns the names of the files in the order they were written.
  std::vector<std::string> write(const ModelToWrite& model);

 private:
  OutputOptions options_;
  OutputFolder folder_;
};

/// "5GB", "200MiB", "1000": bytes. ConfigError naming the option.
int64_t parse_size(const std::string& option, const std::string& text);

}  // namespace depthroute
