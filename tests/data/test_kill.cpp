// A process that writes atomically is stopped before and after every one of its system calls and killed
// there: what a power cut or SIGKILL could leave is exactly what stands in the folder then.
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "data/atomic_path.h"
#include "data/files.h"
#include "data/manifest.h"
#include "tests/data/whole_manifest.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

enum class Outcome { killed, finished, not_permitted };

/// Runs `body` in a child that is killed at its `stops`-th system-call stop (entries and exits count one
/// each).
Outcome run_until(int stops, const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    ::raise(SIGSTOP);
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) return Outcome::not_permitted;
  for (int i = 0; i < stops; ++i) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      return Outcome::finished;
    }
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return Outcome::killed;
}

/// Kills `body` everywhere, from the state `prepare` makes; `check` is told if the body had finished.
void kill_everywhere(const std::function<void()>& prepare, const std::function<void()>& body,
                     const std::function<void(bool)>& check) {
  constexpr int kTooMany = 5000;
  int stop = 1;
  for (; stop < kTooMany; ++stop) {
    prepare();
    const Outcome outcome = run_until(stop, body);
    if (outcome == Outcome::not_permitted) GTEST_SKIP() << "tracing a child is not permitted here";
    check(outcome == Outcome::finished);
    if (testing::Test::HasFailure()) FAIL() << "killed at system-call stop " << stop;
    if (outcome == Outcome::finished) break;
  }
  EXPECT_GT(stop, 10) << "hardly anything was traced";
  EXPECT_LT(stop, kTooMany);
}

void fill(const std::string& folder, const std::string& version) {
  fs::create_directory(folder + "/model");
  write_raw(folder + "/model/weights", version + std::string(10000, 'w'));
  write_raw(folder + "/state", version + std::string(5000, 's'));
  write_whole_manifest(folder, version, 7);
}

TEST(Kill, FileIsOldOrNewAtEveryPoint) {
  const TempFolder folder;
  const std::string old_text(9000, 'o'), new_text(20000, 'n');
  bool seen_old = false, seen_new = false;
  kill_everywhere([&] { write_raw(folder / "f", old_text); },
                  [&] { write_file_atomically(folder / "f", new_text); },
                  [&](bool finished) {
                    const std::string text = read_file(folder / "f");
                    EXPECT_TRUE(text == new_text || (text == old_text && !finished));
                    (text == new_text ? seen_new : seen_old) = true;
                  });
  if (!testing::Test::IsSkipped()) {
    EXPECT_TRUE(seen_old && seen_new);
  }
}

TEST(Kill, FolderIsOldOrNewAtEveryPoint) {
  const TempFolder folder;
  const std::string path = folder / "step";
  kill_everywhere(
      [&] {
        fs::remove_all(path);
        fs::create_directory(path);
        fill(path, "old");
      },
      [&] {
        AtomicFolder made(path);
        fill(made.path(), "new");
        made.commit();
      },
      [&](bool finished) {
        Manifest manifest;
        ASSERT_NO_THROW(manifest = verify_manifest(path));
        EXPECT_EQ(read_file(path + "/state").substr(0, 3), manifest.kind);
        if (finished) {
          EXPECT_EQ(manifest.kind, "new");
        }
      });
}

TEST(Kill, NewFolderIsAbsentOrWholeAtEveryPoint) {
  const TempFolder folder;
  const std::string path = folder / "step";
  kill_everywhere([&] { fs::remove_all(path); },
                  [&] {
                    AtomicFolder made(path);
                    fill(made.path(), "new");
                    made.commit();
                  },
                  [&](bool finished) {
                    if (finished || fs::exists(path)) {
                      EXPECT_NO_THROW(verify_manifest(path));
                    }
                  });
}

TEST(Kill, RemovedFolderIsWholeOrAbsentAtEveryPoint) {
  const TempFolder folder;
  const std::string path = folder / "step";
  kill_everywhere(
      [&] {
        fs::remove_all(path);
        fs::create_directory(path);
        fill(path, "old");
      },
      [&] { remove_folder(path); },
      [&](bool finished) {
        if (finished) {
          EXPECT_FALSE(fs::exists(path));
        }
        if (fs::exists(path)) {
          EXPECT_NO_THROW(verify_manifest(path));
        }
      });
}

TEST(Kill, LinkPointsToOldOrNewAtEveryPoint) {
  const TempFolder folder;
  kill_everywhere([&] { replace_symlink("old", folder / "latest"); },
                  [&] { replace_symlink("new", folder / "latest"); },
                  [&](bool finished) {
                    const std::string target = fs::read_symlink(folder / "latest");
                    EXPECT_TRUE(target == "new" || (target == "old" && !finished)) << target;
                  });
}

}  // namespace
}  // namespace depthroute
