#include "data/file_lock.h"
#include "data/files.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

TEST(FileLock, ASecondHolderIsRefusedByNameUntilTheFirstLetsGo) {
  for (const auto afterwards : {FileLock::Afterwards::keep_file, FileLock::Afterwards::remove_file}) {
    const TempFolder folder;
    {
      const FileLock lock(folder / "lock", "busy: wait", afterwards);
      EXPECT_EQ(message_of<ConfigError>([&] { FileLock(folder / "lock", "busy: wait", afterwards); }),
                (folder / "lock") + ": busy: wait");
    }
    EXPECT_EQ(folder.names().size(), afterwards == FileLock::Afterwards::keep_file ? 1u : 0u);
    FileLock(folder / "lock", "busy: wait", afterwards);
  }
}

TEST(FileLock, ThatRemovesItsFileRefusesOneThatNoLockMade) {
  const TempFolder folder;
  write_raw(folder / "text", "somebody's");
  std::filesystem::create_directory(folder / "folder");
  std::filesystem::create_symlink("text", folder / "link");
  for (const char* name : {"text", "folder", "link"})
    EXPECT_TRUE(has(
        message_of<ConfigError>([&] { FileLock(folder / name, "busy", FileLock::Afterwards::remove_file); }),
        "is no lock"));
  EXPECT_EQ(read_file(folder / "text"), "somebody's");
}

TEST(FileLock, WithoutItsFolderThereIsNoLock) {
  const TempFolder folder;
  EXPECT_TRUE(has(message_of<SystemError>(
                      [&] { FileLock(folder / "absent/lock", "busy", FileLock::Afterwards::keep_file); }),
                  (folder / "absent/lock") + ": cannot be opened"));
}

}  // namespace
}  // namespace depthroute
