// A set of token shards: which files of a folder belong to it, and NAME.shards.json, the record that lists
// them.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tools/output_folder.h"

namespace depthroute {

inline constexpr const char* kValidationShard = "val.bin";

struct TokenFile {
  std::string path;  // plain name
  int64_t tokens = 0;
  std::string checksum;  // hash_file(): XXH3-128, hex
};

struct TokenSet {
  std::string name;
  int64_t vocab_size = 0;
  int token_bytes = 0;
  std::vector<TokenFile> files;  // in the order of the text
};

/// ConfigError unless NAME can begin file names: UTF-8, no '/', not "val", nothing that patterns skip.
void check_set_name(const std::string& name);
std::string record_name(const std::string& name);  // NAME.shards.json

void write_record(const std::string& folder, const TokenSet& set);
/// DataError if it is damaged, or lists a file that no set of its name can have.
TokenSet read_record(const std::string& path);

/// Checks the new set NAME against what its folder holds; ConfigError if it would mix with other files.
class EarlierSets {
 public:
  /// Refuses what another set owns and this one needs: val.bin if `validation`, names that read as its own.
  EarlierSets(const OutputFolder& folder, const std::string& name, bool validation);

  /// Without --overwrite: refuses an earlier set NAME, recorded or not.
  void refuse_any() const;
  /// Refuses shards that no record lists and that are not among `new_names`: a pattern would read them, too.
  void refuse_unrecorded(const std::vector<std::string>& new_names) const;
  /// Files of the set NAME that its record lists, and the record.
  const std::set<std::string>& recorded() const { return recorded_; }

 private:
  const OutputFolder& folder_;
  std::string name_;
  bool validation_;
  std::set<std::string> recorded_;
};

}  // namespace depthroute
