#include "data/file_lock.h"
#include "data/files.h"
#include "tests/data/temp_folder.h"

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

TEST(FileLock, WithoutItsFolderThereIsNoLock) {
  const TempFolder folder;
  EXPECT_TRUE(has(message_of<SystemError>(
                      [&] { FileLock(folder / "absent/lock", "busy", FileLock::Afterwards::keep_file); }),
                  (folder / "absent/lock") + ": cannot be opened"));
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

}  // namespace
}  // namespace depthroute
