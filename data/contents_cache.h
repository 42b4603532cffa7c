// Remembers what reading whole shards has told, so that a run that is started again does not read them again.
// An entry holds for one file in one state: device, inode, size and both times. The time of change cannot be
// set back by a program, so an edit that restores the time of modification is noticed too.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "data/token_stream.h"

namespace depthroute {

class ContentsCache {
 public:
  /// What `path` holds; nothing where it is absent or damaged, which costs reading and no more.
  explicit ContentsCache(const std::string& path);

  std::optional<ShardContents> find(const FileIdentity& file) const;
  /// `file` was read completely and did not change meanwhile; `now_ns`: the clock's time when reading began.
  /// Remembered only where the file had been left alone for a while by then: a later write within the clock's
  /// resolution would not show.
  void add(const FileIdentity& file, const ShardContents& contents, int64_t now_ns);
  /// Writes the entries that were found or added, if any were added. SystemError.
  void save() const;

 private:
  std::string path_;
  std::map<std::string, ShardContents> entries_;  // by identity
  mutable std::map<std::string, ShardContents> used_;
  bool added_ = false;
};

}  // namespace depthroute
