// Which files of a folder belong to a set of token shards, by the manifests in it
// (data/tokens/shard_manifest.h), and whether a new set would mix with them.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "data/tokens/shard_manifest.h"
#include "tools/output_folder.h"

namespace depthroute {

/// ConfigError unless NAME can begin file names: UTF-8, no '/', not "val", nothing that patterns skip.
void check_set_name(const std::string& name);

/// Checks the new set NAME against what its folder holds; ConfigError if it would mix with other files.
class EarlierSets {
 public:
  /// Refuses what another set owns and this one needs: val.bin if `validation`, names that read as its own.
  EarlierSets(const OutputFolder& folder, const std::string& name, bool validation);

  /// Without --overwrite: refuses an earlier set NAME, listed or not.
  void refuse_any() const;
  /// Refuses shards that no manifest lists and that are not among `new_names`: a pattern would read them, too.
  void refuse_unlisted(const std::vector<std::string>& new_names) const;
  /// Files of the set NAME that its manifest lists, and the manifest.
  const std::set<std::string>& listed() const { return listed_; }

 private:
  const OutputFolder& folder_;
  std::string name_;
  bool validation_;
  std::set<std::string> listed_;
};

}  // namespace depthroute
