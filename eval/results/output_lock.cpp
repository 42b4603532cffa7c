#include "eval/results/output_lock.h"

#include "data/atomic_path.h"

namespace depthroute {
namespace {

std::string prepared(const std::string& path) {
  make_folder_of(path);
  return path + ".lock";
}

}  // namespace

OutputLock::OutputLock(const std::string& path)
    : lock_(prepared(path), "another process is writing this file: wait for it, or set another output",
            FileLock::Afterwards::remove_file) {
  remove_leftovers_of(path);
}

}  // namespace depthroute
