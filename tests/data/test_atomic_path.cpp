#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <functional>
#include <memory>
#include <thread>

#include "data/atomic_path.h"
#include "data/files.h"
#include "tests/support/temp_folder.h"

namespace {
int folder_flush_error = 0;  // what fsync() of a folder fails with; 0: nothing
}

/// Stands in for the C library's.
extern "C" int fsync(int fd) {
  struct stat status;
  if (folder_flush_error != 0 && ::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
    errno = folder_flush_error;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

namespace depthroute {
namespace {

namespace fs = std::filesystem;

/// Every way to put something at `path`, which is to hold "new" then (a link points at it).
struct Writer {
  const char* name;
  std::function<void(const std::string& path)> write;
};
const Writer kWriters[] = {
    {"file", [](const std::string& path) { write_file_atomically(path, "new"); }},
    {"by name",
     [](const std::string& path) {
       AtomicPath place(path);
       std::ofstream(place.temporary()) << "new";
       place.commit();
     }},
    {"folder",
     [](const std::string& path) {
       AtomicFolder folder(path);
       write_raw(folder.path() + "/new", "");
       folder.commit();
     }},
    {"link", [](const std::string& path) { replace_symlink("new", path); }},
};

bool is_in_place(const std::string& path) {
  if (fs::is_symlink(path)) return fs::read_symlink(path) == "new";
  return fs::is_directory(path) ? fs::exists(path + "/new") : fs::exists(path) && read_file(path) == "new";
}

TEST(Flushing, FileSystemsThatCannotFlushFoldersAreNoError) {
  for (const Writer& writer : kWriters)
    for (const int error : {EINVAL, ENOTSUP}) {
      const TempFolder folder;
      folder_flush_error = error;
      EXPECT_NO_THROW(writer.write(folder / "a")) << writer.name;
      folder_flush_error = 0;
      EXPECT_TRUE(is_in_place(folder / "a")) << writer.name;
      EXPECT_EQ(folder.names(), std::vector<std::string>{"a"}) << writer.name;
    }
}

TEST(Flushing, AFailedFlushOfTheFolderIsAnErrorAndLeavesNothingBeside) {
  for (const Writer& writer : kWriters) {
    const TempFolder folder;
    folder_flush_error = EIO;
    const std::string text = message_of<SystemError>([&] { writer.write(folder / "a"); });
    folder_flush_error = 0;
    EXPECT_TRUE(has(text, folder.path()) && has(text, "cannot flush to disk")) << writer.name << text;
    for (const std::string& name : folder.names()) EXPECT_EQ(name, "a") << writer.name;
  }
}

// Root may read any folder: the child is somebody else then.
TEST(Flushing, AFolderThatMayBeWrittenButNotReadIsNoError) {
  for (const Writer& writer : kWriters) {
    const TempFolder folder;
    ASSERT_EQ(::chmod(folder.path().c_str(), 0333), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(3);
      try {
        writer.write(folder / "a");
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", writer.name, error.what());
        ::_exit(1);
      }
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << writer.name;
    ASSERT_EQ(::chmod(folder.path().c_str(), 0700), 0);
    EXPECT_TRUE(is_in_place(folder / "a")) << writer.name;
  }
}

TEST(AtomicPath, LeftoverOfADeadProcessIsNotTouched) {
  const TempFolder folder;
  const std::string leftover = folder / ("a.tmp-" + std::to_string(::getpid()));
  write_raw(leftover, "somebody's");
  kWriters[1].write(folder / "a");
  EXPECT_EQ(read_file(folder / "a"), "new");
  EXPECT_EQ(read_file(leftover), "somebody's");
}

TEST(AtomicPath, LeavesNothingWithoutCommit) {
  const TempFolder folder;
  {
    const AtomicPath place(folder / "a");
    write_raw(place.temporary(), "half");
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(Leftovers, CarryTheFinalName) {
  EXPECT_EQ(name_when_finished("a.tmp-12"), "a");
  EXPECT_EQ(name_when_finished("a.tmp-12-3-replaced"), "a");
  EXPECT_EQ(name_when_finished("a.tmp-1.tmp-12"), "a.tmp-1");
  for (const char* name : {"a", "a.tmp-", "a.tmp-x", "tmp-12"})
    EXPECT_EQ(name_when_finished(name), "") << name;
}

TEST(Leftovers, OnlyUnfinishedThingsOfThisNameAreRemoved) {
  const TempFolder folder;
  for (const char* name : {"r.h5", "r.h5.tmp-12", "r.h5.tmp-12-3", "r.h5.tmp-mine", "other.h5.tmp-12"})
    write_raw(folder / name, "");
  std::filesystem::create_directories(folder / "r.h5.tmp-7/inside");
  remove_leftovers_of(folder / "r.h5");
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"other.h5.tmp-12", "r.h5", "r.h5.tmp-mine"}));
  remove_leftovers_of(folder / "absent/r.h5");
}

TEST(Leftovers, AReplacedFolderComesBackIfNothingTookItsPlace) {
  const TempFolder folder;
  fs::create_directory(folder / "step.tmp-12-replaced");
  restore_replaced(folder / "step");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"step"});
  fs::create_directory(folder / "step.tmp-12-replaced");
  restore_replaced(folder / "step");
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"step", "step.tmp-12-replaced"}));
}

TEST(AtomicFile, IsInvisibleUntilCommitAndLeavesNothingWithoutIt) {
  const TempFolder folder;
  {
    AtomicFile file(folder / "a");
    file.write("half");
    EXPECT_FALSE(fs::exists(folder / "a"));
  }
  EXPECT_TRUE(folder.names().empty());
  AtomicFile file(folder / "a");
  file.write("1234 written");
  file.write_at(0, "abcd", 4);
  file.write(", more");
  file.commit();
  EXPECT_EQ(read_file(folder / "a"), "abcd written, more");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

TEST(AtomicFile, TwoWritersOfOneNameDoNotMeet) {
  const TempFolder folder;
  AtomicFile first(folder / "a"), second(folder / "a");
  EXPECT_NE(first.temporary_path(), second.temporary_path());
  first.write("first");
  second.write("second");
  first.commit();
  second.commit();
  EXPECT_EQ(read_file(folder / "a"), "second");
}

TEST(AtomicFile, LeftoverOfADeadProcessIsNotTouched) {
  const TempFolder folder;
  const std::string leftover = folder / ("a.tmp-" + std::to_string(::getpid()));
  write_raw(leftover, "somebody's");
  write_file_atomically(folder / "a", "mine");
  EXPECT_EQ(read_file(folder / "a"), "mine");
  EXPECT_EQ(read_file(leftover), "somebody's");
}

TEST(AtomicFile, UnwritableFolderIsASystemErrorNamingThePath) {
  const TempFolder folder;
  const std::string path = folder / "absent/a";
  const std::string text = message_of<SystemError>([&] { write_file_atomically(path, "x"); });
  EXPECT_TRUE(has(text, path)) << text;
  EXPECT_TRUE(has(text, "No such file or directory")) << text;
}

TEST(AtomicFile, FolderInTheWayIsASystemErrorAndNothingIsLeft) {
  const TempFolder folder;
  fs::create_directories(folder / "a/inside");
  const std::string text = message_of<SystemError>([&] { write_file_atomically(folder / "a", "x"); });
  EXPECT_TRUE(has(text, "cannot rename")) << text;
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

// A file-size limit stands in for a full disk: write() fails half way, in the same place and the same manner.
TEST(AtomicFile, FullDiskIsASystemErrorAndNothingIsLeft) {
  const TempFolder folder;
  write_raw(folder / "a", "old");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {100, 100};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomically(folder / "a", std::string(1000, 'x'));
    } catch (const SystemError& error) {
      ::_exit(has(error.what(), "free space") && has(error.what(), folder / "a") ? 0 : 2);
    }
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

TEST(AtomicFolder, AppearsWholeReplacesWholeAndLeavesNothingWithoutCommit) {
  const TempFolder folder;
  const std::string path = folder / "step";
  { const AtomicFolder abandoned(path); }
  EXPECT_TRUE(folder.names().empty());
  for (const std::string content : {"old", "new"}) {
    AtomicFolder made(path + "/");  // a trailing slash is the user's habit
    fs::create_directory(made.path() + "/sub");
    write_raw(made.path() + "/sub/file", content);
    made.commit();
    EXPECT_EQ(read_file(path + "/sub/file"), content);
    EXPECT_EQ(folder.names(), std::vector<std::string>{"step"});
  }
}

TEST(AtomicFolder, ExceptionInBetweenLeavesTheOldOne) {
  const TempFolder folder;
  fs::create_directory(folder / "step");
  write_raw(folder / "step/file", "old");
  EXPECT_THROW(
      {
        const AtomicFolder made(folder / "step");
        write_raw(made.path() + "/file", "new");
        throw SystemError("disk full");
      },
      SystemError);
  EXPECT_EQ(read_file(folder / "step/file"), "old");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"step"});
}

// Another process does not know that the folder is given up, and goes on adding to it.
TEST(AtomicFolder, AbandonedWhileSomebodyWritesThereLeavesNothing) {
  const TempFolder folder;
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> files = 0;
    auto made = std::make_unique<AtomicFolder>(folder / "step");
    std::thread writer([&files, path = made->path()] {
      EXPECT_THROW(for (int i = 0;; ++i, ++files) write_file_atomically(path + "/" + std::to_string(i), "x"),
                   SystemError);
    });
    while (files < 3) std::this_thread::yield();
    made.reset();
    writer.join();
    ASSERT_TRUE(folder.names().empty()) << folder.names().front();
  }
}

TEST(ReplaceSymlink, PointsElsewhereInOneStep) {
  const TempFolder folder;
  for (const std::string target : {"step_1", "step_2"}) {
    replace_symlink(target, folder / "latest");
    EXPECT_EQ(fs::read_symlink(folder / "latest"), target);
  }
  EXPECT_EQ(folder.names(), std::vector<std::string>{"latest"});
  fs::create_directory(folder / "real");
  EXPECT_THROW(replace_symlink("x", folder / "real"), SystemError);
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"latest", "real"}));
}

TEST(RemoveFolder, RemovesAllAndAcceptsAbsence) {
  const TempFolder folder;
  fs::create_directories(folder / "a/b/c");
  write_raw(folder / "a/b/file", "x");
  remove_folder(folder / "a/");
  remove_folder(folder / "a");
  EXPECT_TRUE(folder.names().empty());
}

}  // namespace
}  // namespace depthroute
