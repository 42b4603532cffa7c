// Whole or absent: files, folders and links that others see complete or not at all.
//
// Everything is written beside its final place, flushed, and renamed; then the folder it is in is flushed.
// Whatever is unfinished is called "<final name>.tmp-<pid>", perhaps with more behind it.
//
// Flushing is as good as the file system allows: those that cannot flush a folder and say so (EINVAL, ENOTSUP
// on some network and FUSE file systems) and folders that may be written but not read (EACCES) are no error.
// Every other failure is a SystemError that names the path, also after the rename: the thing is in its place
// then, but might not survive a power cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace depthroute {

/// A new file beside `path`, for writers that insist on opening it by name (HDF5). Without commit() nothing
/// remains.
class AtomicPath {
 public:
  /// Creates the file, empty. The folder must exist. SystemError if that fails.
  explicit AtomicPath(const std::string& path);
  ~AtomicPath();
  AtomicPath(const AtomicPath&) = delete;
  AtomicPath& operator=(const AtomicPath&) = delete;

  /// Write here, and close it before commit().
  const std::string& temporary() const { return temporary_; }
  /// Flushes the file, renames it to `path` and flushes the folder.
  void commit();

 private:
  friend class AtomicFile;
  void put_in_place();  // what is flushed and closed

  std::string path_, temporary_;
  bool committed_ = false;
};

/// An AtomicPath opened for writing. Throws SystemError (disk full, unwritable folder) naming the path.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Overwrites bytes already written (a header that is known last).
  void write_at(int64_t offset, const void* data, size_t size);
  void commit();
  const std::string& temporary_path() const { return place_.temporary(); }

 private:
  AtomicPath place_;
  int fd_ = -1;
};
void write_file_atomically(const std::string& path, std::string_view content);

/// A folder being filled beside its final place; commit() flushes every file, renames, and flushes the
/// parent. If `path` exists, the rename replaces it: in one step (renameat2), or, where the file system
/// cannot exchange two folders (NFS), by renaming the old one aside first; see restore_replaced(). Without
/// commit() nothing remains, not even of what other processes are just writing there. Other processes may
/// write into it until commit(); what they write must be their own files, flushed.
class AtomicFolder {
 public:
  explicit AtomicFolder(const std::string& path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::string& path() const { return temporary_; }  // write here
  void commit();

 private:
  std::string path_, temporary_;
  bool committed_ = false;
};

/// Makes `link` point at `target` (relative, inside the same folder) in one rename.
void replace_symlink(const std::string& target, const std::string& link);
/// Renames away first (so that a half-deleted folder never looks whole), then deletes.
void remove_folder(const std::string& path);

/// The final name of "<final name>.tmp-<digits>..."; "" for any other name.
std::string_view name_when_finished(std::string_view name);
/// Deletes what killed writers of `path` left beside it. Call it only under a lock that keeps living writers
/// out. Being unable to is no error.
void remove_leftovers_of(const std::string& path);
/// Brings back the folder that a writer, killed between its two renames, left aside (see AtomicFolder), if
/// nothing is at `path`. Under a lock, and before remove_leftovers_of(). SystemError if the rename fails.
void restore_replaced(const std::string& path);

/// The folder a file is in; "." for a bare name.
std::string folder_of(const std::string& path);
/// Makes that folder and those above it if they do not exist. SystemError naming `path` if that fails.
void make_folder_of(const std::string& path);
/// Flushes what was made, renamed or removed in a folder.
void flush_folder(const std::string& path);

}  // namespace depthroute
