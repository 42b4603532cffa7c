#include "eval/results/output_lock.h"

#include <filesystem>
#include <system_error>

#include "configs/base/error.h"
#include "data/atomic_path.h"

namespace depthroute {
namespace {

/// The lock of `path`, where one can be. A lock is an empty file and is deleted afterwards, so anything else
/// of that name is left alone.
std::string prepared(const std::string& path) {
  const std::string lock = path + ".lock";
  std::error_code none;
  const auto size = std::filesystem::file_size(lock, none);
  if (!none && size > 0)
    throw ConfigError("{}: is no lock, but has the name of one: set another output", lock);
  make_folder_of(path);
  return lock;
}

}  // namespace

OutputLock::OutputLock(const std::string& path)
    : lock_(prepared(path), "another process is writing this file: wait for it, or set another output",
            FileLock::Afterwards::remove_file) {
  remove_leftovers_of(path);
}

}  // namespace depthroute
