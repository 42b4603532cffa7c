// Remembers the contents of token shards, so that a run that is started again need not read all of them
// again. An entry is for the files of one shard in one state: device, inode, size and both times. No program
// can set back the time of change (ctime), so an edit that restores the time of modification is noticed, too.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>

#include "data/tokens/token_stream.h"

namespace depthroute {

class ContentsCache {
 public:
  /// Loads `path`. If it is absent or damaged, the cache is empty, which only costs time.
  explicit ContentsCache(const std::string& path);

  /// `files`: of one shard (TokenStream::files()).
  std::optional<ShardContents> find(std::span<const ShardFile> files) const;
  /// Adds a shard that was read completely and did not change meanwhile. `now_ns`: the clock's time when
  /// reading began. Adds nothing if a file had changed shortly before: another write within the clock's
  /// resolution would go unnoticed.
  void add(std::span<const ShardFile> files, const ShardContents& contents, int64_t now_ns);
  /// Writes the entries that were found or added, if any were added. SystemError.
  void save() const;

 private:
  std::string path_;
  std::map<std::string, ShardContents> entries_;  // by identities
  mutable std::map<std::string, ShardContents> used_;
  bool added_ = false;
};

}  // namespace depthroute
