#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>

#include "configs/progress_line.h"

namespace depthroute {
namespace {

TEST(FormatDuration, UsesTheTwoLargestUnits) {
  EXPECT_EQ(format_duration(0.4), "0 s");
  EXPECT_EQ(format_duration(59.4), "59 s");
  EXPECT_EQ(format_duration(59.5), "1 min 00 s");
  EXPECT_EQ(format_duration(3599), "59 min 59 s");
  EXPECT_EQ(format_duration(3900), "1 h 05 min");
  EXPECT_EQ(format_duration(360000), "100 h 00 min");
}

TEST(ProgressLine, EveryLineStaysInAFile) {
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  {
    ProgressLine line(file);
    EXPECT_FALSE(line.rewrites());
    EXPECT_EQ(line.show("one"), 0);
    EXPECT_EQ(line.message("said"), 0);
    EXPECT_EQ(line.show("two"), 0);
  }
  std::array<char, 100> text{};
  std::rewind(file);
  EXPECT_EQ(std::string(text.data(), std::fread(text.data(), 1, text.size(), file)), "one\nsaid\ntwo\n");
  std::fclose(file);
}

TEST(ProgressLine, IsRewrittenOnATerminalUntilAMessageOrTheEnd) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || ::grantpt(master) != 0 || ::unlockpt(master) != 0)
    GTEST_SKIP() << "no pseudo-terminal is available";
  std::FILE* const terminal = std::fopen(::ptsname(master), "w");
  ASSERT_NE(terminal, nullptr);
  {
    ProgressLine line(terminal);
    EXPECT_TRUE(line.rewrites());
    line.show("one");
    line.show("two");
    line.message("said");
    line.show("three");
    EXPECT_FALSE(ProgressLine(terminal, /*plain=*/true).rewrites());
  }
  std::string text;
  std::array<char, 200> buffer;
  while (text.find("three") == std::string::npos || text.back() != '\n') {
    const ssize_t count = ::read(master, buffer.data(), buffer.size());
    ASSERT_GT(count, 0) << text;
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  EXPECT_EQ(text, "\rone\x1b[K\rtwo\x1b[K\r\nsaid\r\n\rthree\x1b[K\r\n");
  std::fclose(terminal);
  ::close(master);
}

TEST(ProgressLine, ReportsWhatCannotBeWritten) {
  std::FILE* const full = std::fopen("/dev/full", "w");
  ASSERT_NE(full, nullptr);
  ProgressLine line(full);
  EXPECT_EQ(line.show("one"), ENOSPC);
  EXPECT_EQ(line.message("said"), ENOSPC);
  std::fclose(full);
}

}  // namespace
}  // namespace depthroute
