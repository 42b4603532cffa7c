// The folder a tokenizer puts its set into, as it stands before: the new one takes its place in one step, so
// everything in it that is not replaced has to move along.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "data/file_lock.h"

namespace depthroute {

class OutputFolder {
 public:
  /// Finds the real folder behind `path` (which need not exist; the folders above it are made), keeps other
  /// tokenizers out with `<folder>.lock`, and clears what killed ones have left. ConfigError for what cannot
  /// be replaced: a file, a mount point, the current folder or one above it, a folder that may not be
  /// written.
  explicit OutputFolder(const std::string& path);
  /// Takes back the folders made above it if nothing has been put into them.
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const std::string& path() const { return path_; }  // absolute, without links
  /// Names inside, when this object was made; sorted. None if the folder was not there.
  std::vector<std::string> names() const;
  bool holds(const std::string& name) const;

  /// Gives `to`, a folder on the same file system, everything that is inside but `left_out`: the files
  /// themselves (hard links), not copies. ConfigError naming what cannot be: a folder, or what the system
  /// refuses to link.
  void carry_over(const std::string& to, const std::set<std::string>& left_out) const;
  /// Owner and mode of this folder, if there is one, for `to`.
  void pass_on_mode(const std::string& to) const;
  /// SystemError naming the first file that has appeared, vanished or been replaced since this object was
  /// made; of those in `dropped` also one whose content has changed. (Others move along whatever is in them.)
  void check_unchanged(const std::set<std::string>& dropped) const;

 private:
  struct Entry {
    std::string name;  // "" is the folder itself
    mode_t mode;
    uid_t owner;
    gid_t group;
    dev_t device;
    ino_t inode;
    int64_t size, modified_ns;
  };
  class MadeFolders;  // above `path`, taken back if they stay empty
  std::vector<Entry> look() const;

  std::unique_ptr<MadeFolders> made_;
  std::string path_;
  std::unique_ptr<FileLock> lock_;
  std::vector<Entry> entries_;  // the folder, then what is inside, by name; nothing if it is not there
};

}  // namespace depthroute
