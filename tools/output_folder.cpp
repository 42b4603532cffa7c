#include "tools/output_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"

namespace depthroute {
namespace fs = std::filesystem;
namespace {

constexpr const char* kRemedy = "choose an --output of its own";

/// Of a path whose links are followed or not; nothing if it names nothing.
std::optional<struct stat> status_of(const std::string& path, int flags = 0) {
  struct stat status;
  if (::fstatat(AT_FDCWD, path.c_str(), &status, flags) == 0) return status;
  if (errno == ENOENT) return std::nullopt;
  throw ConfigError("{}: cannot be used: {}", path, errno_text(errno));
}

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool is_mount_point(const std::string& path, const struct stat& status) {
  struct statx more;
  if (::statx(AT_FDCWD, path.c_str(), 0, 0, &more) == 0 && (more.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0)
    return true;
  const auto parent = status_of(path + "/..");
  return parent && parent->st_dev != status.st_dev;
}

bool holds_current_folder(const struct stat& folder) {
  std::string ancestor = ".";
  for (auto status = status_of(ancestor); status; ancestor += "/..") {
    if (same_file(*status, folder)) return true;
    const auto above = status_of(ancestor + "/..");
    if (!above || same_file(*above, *status)) return false;
    status = above;
  }
  return false;
}

void check_replaceable(const std::string& path, const struct stat& status) {
  if (!S_ISDIR(status.st_mode)) throw ConfigError("{}: is not a folder; choose another --output", path);
  if (holds_current_folder(status))
    throw ConfigError(
        "{}: holds the current folder, and a new folder is to take its place; start from elsewhere", path);
  if (is_mount_point(path, status))
    throw ConfigError("{}: is a mount point, which no other folder can take the place of; choose one in it",
                      path);
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK | X_OK, AT_EACCESS) != 0)
    throw ConfigError("{}: cannot be changed: {}", path, errno_text(errno));
}

void carry_link(const std::string& from, const std::string& to, bool symbolic) {
  bool done;
  if (symbolic) {
    std::error_code error;
    const fs::path target = fs::read_symlink(from, error);
    done = !error && ::symlink(target.c_str(), to.c_str()) == 0;
    if (error) errno = error.value();
  } else {
    // What is carried over is flushed with the rest, and for that it must be readable.
    done = ::faccessat(AT_FDCWD, from.c_str(), R_OK, AT_EACCESS) == 0 &&
           ::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), 0) == 0;
  }
  if (!done)
    throw ConfigError("{}: cannot be carried over into the new folder: {}; move it or {}", from,
                      errno_text(errno), kRemedy);
}

}  // namespace

class OutputFolder::MadeFolders {
 public:
  MadeFolders() = default;
  ~MadeFolders() {
    for (auto path = made_.rbegin(); path != made_.rend(); ++path) (void)::rmdir(path->c_str());
  }
  MadeFolders(const MadeFolders&) = delete;
  MadeFolders& operator=(const MadeFolders&) = delete;

  void make(const fs::path& folder) {
    fs::path part;
    for (const fs::path& name : folder) {
      part /= name;
      if (::mkdir(part.c_str(), 0777) == 0) {
        made_.push_back(part.string());
        flush_folder(folder_of(part.string()));
      } else if (const int error = errno; !status_of(part.string())) {
        throw SystemError("{}: cannot be made: {}", part.string(), errno_text(error));
      }
    }
  }

 private:
  std::vector<std::string> made_;
};

OutputFolder::OutputFolder(const std::string& path) : made_(std::make_unique<MadeFolders>()) {
  if (path.empty()) throw ConfigError("--output is empty; name a folder");
  fs::path given(path);
  if (!given.has_filename()) given = given.parent_path();  // "shards/"
  auto status = status_of(given.string());
  if (!status && status_of(given.string(), AT_SYMLINK_NOFOLLOW))
    throw ConfigError(
        "{}: is a link to {}, which does not exist; make that folder or choose another --output", path,
        fs::read_symlink(given).string());
  if (!status) {
    if (given.has_parent_path()) made_->make(given.parent_path());
    status = status_of(given.string());  // "new/.." exists now
  }
  if (status)
    path_ = fs::canonical(given).string();
  else
    path_ = (fs::canonical(given.has_parent_path() ? given.parent_path() : ".") / given.filename()).string();
  if (status) check_replaceable(path_, *status);
  lock_ = std::make_unique<FileLock>(
      path_ + ".lock", "another program is writing this folder: wait for it or choose another --output",
      FileLock::Afterwards::remove_file);
  restore_replaced(path_);
  remove_leftovers_of(path_);
  entries_ = look();
  if (!entries_.empty() && !S_ISDIR(entries_.front().mode))
    throw ConfigError("{}: is not a folder; choose another --output", path);
}

OutputFolder::~OutputFolder() {
  // Here is one only if a step after the last rename failed.
  struct stat status;
  if (::lstat(path_.c_str(), &status) == 0) remove_leftovers_of(path_);
}

std::vector<OutputFolder::Entry> OutputFolder::look() const {
  std::vector<Entry> entries;
  const auto add = [&](const std::string& name) {
    const auto s = status_of(name.empty() ? path_ : path_ + "/" + name, AT_SYMLINK_NOFOLLOW);
    if (s)
      entries.push_back({name, s->st_mode, s->st_uid, s->st_gid, s->st_dev, s->st_ino,
                         static_cast<int64_t>(s->st_size),
                         int64_t{s->st_mtim.tv_sec} * 1'000'000'000 + s->st_mtim.tv_nsec});
    return s.has_value();
  };
  if (add("") && S_ISDIR(entries.front().mode))
    for (const std::string& name : list_folder(path_)) add(name);
  return entries;
}

std::vector<std::string> OutputFolder::names() const {
  std::vector<std::string> all;
  for (const Entry& entry : entries_)
    if (!entry.name.empty()) all.push_back(entry.name);
  return all;
}

bool OutputFolder::holds(const std::string& name) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& entry) { return entry.name == name; });
}

void OutputFolder::carry_over(const std::string& to, const std::set<std::string>& left_out) const {
  for (const Entry& entry : entries_)
    if (!entry.name.empty() && S_ISDIR(entry.mode))
      throw ConfigError("{}: holds the folder {}; move it or {}", path_, entry.name, kRemedy);
  for (const Entry& entry : entries_)
    if (!entry.name.empty() && left_out.count(entry.name) == 0)
      carry_link(path_ + "/" + entry.name, to + "/" + entry.name, S_ISLNK(entry.mode));
}

void OutputFolder::pass_on_mode(const std::string& to) const {
  if (entries_.empty()) return;
  const Entry& folder = entries_.front();
  const auto made = status_of(to);
  // Giving away needs privileges; keeping the group often works without.
  const bool given = made && made->st_uid == folder.owner && made->st_gid == folder.group;
  for (const uid_t owner : {folder.owner, static_cast<uid_t>(-1)})
    if (given || ::chown(to.c_str(), owner, folder.group) == 0) break;
  if (::chmod(to.c_str(), folder.mode & 07777) != 0)
    throw SystemError("{}: cannot be given the mode of {}: {}", to, path_, errno_text(errno));
}

void OutputFolder::check_unchanged(const std::set<std::string>& dropped) const {
  const std::vector<Entry> now = look();
  const auto fail = [&](const std::string& name, const char* what) {
    throw SystemError("{}{}{}: {} while its replacement was written; nothing was changed: run again", path_,
                      name.empty() ? "" : "/", name, what);
  };
  size_t i = 0;
  for (const Entry& entry : now) {
    if (i == entries_.size() || entry.name < entries_[i].name) fail(entry.name, "appeared");
    const Entry& before = entries_[i++];
    if (before.name < entry.name) fail(before.name, "vanished");
    if (before.device != entry.device || before.inode != entry.inode) fail(entry.name, "was replaced");
    if (dropped.count(entry.name) > 0 &&
        (before.size != entry.size || before.modified_ns != entry.modified_ns))
      fail(entry.name, "changed");
  }
  if (i < entries_.size()) fail(entries_[i].name, "vanished");
}

}  // namespace depthroute
