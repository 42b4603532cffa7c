// A set of shards is published as a whole or not, beside whatever else the folder holds.
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include <csignal>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/tools/tokenize_fixture.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;
using Tree = std::map<std::string, std::string>;

/// An earlier set of 4 + 1 shards in a folder with other people's files, and a text for a set of 2 + 1.
class PublishTest : public TokenizeTest {
 protected:
  void SetUp() override {
    write_raw(text_, all_bytes(1000));
    write_raw(new_text_, all_bytes(900, 11));
    ASSERT_EQ(run(text_ + " --shard-tokens 250 --output " + out_).status, 0);
    write_raw(out_ + "/notes.txt", "mine");
    write_raw(out_ + "/train_of_somebody_else.bin", "not a shard of the set");
    fs::create_symlink("nowhere", out_ + "/link");
    ::chmod(out_.c_str(), 0750);
    old_ = tree_of(folder_ / "made");
    fs::copy(folder_ / "made", folder_ / "kept",
             fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  }

  /// The state after SetUp() again.
  void reset() const {
    fs::remove_all(folder_ / "made");
    fs::copy(folder_ / "kept", folder_ / "made",
             fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  }
  Names arguments() const { return {new_text_, "--shard-tokens", "500", "--output", out_, "--overwrite"}; }
  std::string line() const {
    std::string all;
    for (const std::string& argument : arguments()) all += argument + " ";
    return all;
  }
  /// What the folder around the output holds after a run that nothing disturbed.
  Tree make_new() {
    EXPECT_EQ(run(line()).status, 0);
    const Tree tree = tree_of(folder_ / "made");
    reset();
    return tree;
  }
  Tree now() const { return tree_of(folder_ / "made"); }
  /// Of the output alone, without what is unfinished beside it.
  static Tree inside(const Tree& tree) {
    Tree part;
    for (const auto& [name, content] : tree)
      if (name.starts_with("/shards/") || name == "/shards") part.insert({name, content});
    return part;
  }

  const std::string new_text_ = folder_ / "new.txt";
  Tree old_;
};

TEST_F(PublishTest, OverwritingReplacesTheRecordedSetAndNothingElse) {
  const auto inode = [&](const std::string& name) {
    struct stat status;
    EXPECT_EQ(::stat((out_ + "/" + name).c_str(), &status), 0);
    return status.st_ino;
  };
  const auto notes = inode("notes.txt");
  const Result result = run(line());
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(outputs(), (Names{"link", "notes.txt", "train.shards.json", "train_000.bin", "train_001.bin",
                              "train_of_somebody_else.bin", "val.bin"}));
  EXPECT_EQ(tokens_of({"train_000.bin", "train_001.bin", "val.bin"}), read_file(new_text_));
  EXPECT_EQ(inode("notes.txt"), notes);  // the file itself, in which somebody may be writing
  Tree tree = now();
  for (const char* name :
       {"/shards", "/shards/notes.txt", "/shards/train_of_somebody_else.bin", "/shards/link"})
    EXPECT_EQ(tree[name], old_[name]) << name;
  EXPECT_EQ(list_folder(folder_ / "made"), (Names{"shards"}));
}

TEST_F(PublishTest, TheManifestListsTheFilesWithTheirTokensAndChecksums) {
  const auto manifest = nlohmann::json::parse(read_file(out_ + "/train.shards.json"));
  EXPECT_EQ(manifest["kind"], "depthroute token shards");
  EXPECT_EQ(manifest["version"], 1);
  EXPECT_EQ(manifest["name"], "train");
  EXPECT_EQ(manifest["vocab_size"], 256);
  EXPECT_EQ(manifest["token_bytes"], 2);
  const Names names{"train_000.bin", "train_001.bin", "train_002.bin", "train_003.bin", "val.bin"};
  ASSERT_EQ(manifest["files"].size(), names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    const nlohmann::json& file = manifest["files"][i];
    EXPECT_EQ(file["path"], names[i]);
    EXPECT_EQ(file["tokens"], static_cast<int64_t>(tokens_of({names[i]}).size()));
    EXPECT_EQ(file["checksum"], hash_file(out_ + "/" + names[i]));
  }
}

TEST_F(PublishTest, SetsOfOtherNamesAreKept) {
  ASSERT_EQ(run(new_text_ + " --name more --val-fraction 0 --output " + out_).status, 0);
  Tree both = now();
  EXPECT_EQ(both.erase("/shards/more.bin") + both.erase("/shards/more.shards.json"), 2u);
  EXPECT_EQ(both, old_);
  ASSERT_EQ(run(line()).status, 0);
  EXPECT_EQ(tokens_of({"more.bin"}), read_file(new_text_));
}

TEST_F(PublishTest, AFolderWithAnInputALinkToAFolderAndAnEmptyFolderAreOutputs) {
  fs::rename(new_text_, out_ + "/new.txt");
  fs::create_directory_symlink("made/shards", folder_ / "link");
  const std::string linked = folder_ / "link/";
  ASSERT_EQ(run(linked + "new.txt --overwrite --output " + linked).status, 0);
  EXPECT_EQ(tokens_of({"train.bin", "val.bin"}), read_file(out_ + "/new.txt"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  fs::create_directory(folder_ / "empty");
  ASSERT_EQ(run(text_ + " --output " + (folder_ / "empty")).status, 0);
  EXPECT_EQ(list_folder(folder_ / "empty"), (Names{"train.bin", "train.shards.json", "val.bin"}));
}

struct Refusal {
  std::string arguments, part;
  std::function<void()> prepare = [] {};
  std::string before = "";
};

TEST_F(PublishTest, WhatWouldMixOrLoseFilesIsRefusedBeforeAnythingIsRead) {
  const std::string manifest = out_ + "/train.shards.json";
  const auto write = [&](const std::string& name, const std::string& text) {
    return [=, this] { write_raw(out_ + "/" + name, text); };
  };
  const auto edit = [&](const std::function<void(nlohmann::json&)>& change) {
    return [=] {
      auto root = nlohmann::json::parse(read_file(manifest));
      change(root);
      write_raw(manifest, root.dump());
    };
  };
  const std::string fresh = new_text_ + " --output " + out_;
  const std::string absent = (folder_ / "absent") + " --output " + out_;  // never looked at
  const Refusal refusals[] = {
      {absent, "train.shards.json: exists already"},
      {fresh, "train_000.bin: exists already", [&] { fs::remove(manifest); }},
      {fresh + " --val-fraction 0 --name other", "other_7.bin: exists already", write("other_7.bin", "")},
      {fresh + " --name other", "val.bin: belongs to the set that"},
      {fresh + " --name other --overwrite", "pass --val-fraction 0 or choose another --output"},
      {line(), "train_002.bin: is in no manifest", [&] { fs::remove(manifest); }},
      {line(), "train_17.bin: is in no manifest", write("train_17.bin", "")},
      {line(), "train.bin: is in no manifest", write("train.bin", "")},
      {fresh + " --val-fraction 0 --name train_1", "--name train_1: would read as a shard of the set"},
      {absent + " --overwrite", "holds the folder raw", [&] { fs::create_directory(out_ + "/raw"); }},
      {absent + " --overwrite", "holds the folder val.bin",
       [&] {
         fs::remove(out_ + "/val.bin");
         fs::create_directory(out_ + "/val.bin");
       }},
      {absent + " --overwrite", "not valid JSON", write("train.shards.json", "{")},
      {absent + " --overwrite", "\"files\" is missing", edit([](auto& root) { root.erase("files"); })},
      {absent + " --overwrite", "\"tokens\" is \"x\", not an integer",
       edit([](auto& root) { root["files"][0]["tokens"] = "x"; })},
      {absent + " --overwrite", "version 2 is unknown", edit([](auto& root) { root["version"] = 2; })},
      {absent + " --overwrite", "not the manifest", edit([](auto& root) { root["kind"] = "x"; })},
      {absent + " --overwrite", "lists \"notes.txt\"",
       edit([](auto& root) { root["files"][0]["path"] = "notes.txt"; })},
      {absent + " --overwrite", "lists \"../x.bin\"",
       edit([](auto& root) { root["files"][0]["path"] = "../x.bin"; })},
      {absent + " --overwrite", "is no lock", [&] { write_raw(out_ + ".lock", "mine"); }},
      {absent + " --overwrite", "holds the current folder", [] {}, "cd " + out_ + ";"},
      {new_text_ + " --overwrite --output ../..", "holds the current folder", [] {}, "cd " + out_ + ";"},
      {new_text_ + " --output /", "holds the current folder"},
      {new_text_ + " --output /dev/shm", "is a mount point"},
      {new_text_ + " --output " + text_, "is not a folder"},
      {new_text_ + " --output " + text_ + "/below", "cannot be used: Not a directory"},
      {new_text_ + " --output " + out_ + "/link", "is a link to nowhere, which does not exist"},
  };
  for (const Refusal& refusal : refusals) {
    reset();
    refusal.prepare();
    const Tree before = now();
    const Result result = run(refusal.arguments, refusal.before);
    EXPECT_EQ(result.status, 2) << refusal.arguments << result.err;
    expect_one_line(result, refusal.part);
    EXPECT_EQ(now(), before) << refusal.arguments;
  }
}

TEST_F(PublishTest, AFullDiskLeavesTheEarlierSet) {
  write_raw(new_text_, all_bytes(3'000'000));
  const Result result =
      run(new_text_ + " --overwrite --output " + out_, "ulimit -f 1000; ");  // blocks of 512 or 1024
  EXPECT_EQ(result.status, 1);
  expect_one_line(result, "cannot write");
  EXPECT_EQ(now(), old_);
}

// The tokenizer opens the FIFO once it has looked at its output, and waits in it: no guessing when to
// disturb.
TEST_F(PublishTest, WhatHappensInTheFolderMeanwhileIsNotLost) {
  const std::string fifo = folder_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const auto disturb = [&](const std::function<void()>& disturbance) {
    reset();
    const pid_t child = start({fifo, "--output", out_, "--overwrite"});
    std::ofstream text(fifo);
    disturbance();
    const Tree before = inside(now());
    text << read_file(new_text_);
    text.close();
    const Result result = finish(child);
    if (result.status != 0) {
      EXPECT_EQ(result.status, 1);
      EXPECT_EQ(inside(now()), before);
      EXPECT_EQ(list_folder(folder_ / "made"), (Names{"shards"}));
    }
    return result;
  };
  expect_one_line(disturb([&] { write_raw(out_ + "/added", "x"); }), "/added: appeared while");
  expect_one_line(disturb([&] { fs::remove(out_ + "/notes.txt"); }), "/notes.txt: vanished while");
  expect_one_line(disturb([&] { write_raw(out_ + "/notes.txt", "x"); }), "/notes.txt: was replaced while");
  expect_one_line(disturb([&] { std::ofstream(out_ + "/val.bin", std::ios::app) << "x"; }),
                  "/val.bin: changed while");
  expect_one_line(disturb([&] {
                    const Result second = run(line());
                    EXPECT_EQ(second.status, 2);
                    expect_one_line(second, "shards.lock: another program is writing this folder");
                    fs::create_directory(out_ + "/raw");
                  }),
                  "/raw: appeared while");
  // What is only written to moves along.
  const auto log = [&] { std::ofstream(out_ + "/notes.txt", std::ios::app) << " and longer"; };
  EXPECT_EQ(disturb(log).status, 0);
  EXPECT_EQ(read_file(out_ + "/notes.txt"), "mine and longer");
}

TEST_F(PublishTest, AFolderThatAppearsMeanwhileIsNotReplaced) {
  const std::string fifo = folder_ / "fifo", made = folder_ / "new/a/b";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const pid_t child = start({fifo, "--output", made});
  std::ofstream text(fifo);
  fs::create_directory(made);
  write_raw(made + "/precious", "x");
  text << read_file(new_text_);
  text.close();
  expect_one_line(finish(child), "b: appeared while");
  EXPECT_EQ(list_folder(made), (Names{"precious"}));
}

TEST_F(PublishTest, LeftoversOfKilledTokenizersAreClearedAndNothingElse) {
  const Tree fresh = make_new();
  fs::create_directories(out_ + ".tmp-999999");
  write_raw(out_ + ".tmp-999999/train.bin.tmp-999999", "unfinished");
  fs::create_directories(out_ + ".tmp-99-1-abandoned");
  ASSERT_EQ(run(line()).status, 0);
  EXPECT_EQ(now(), fresh);
  // Killed between the two renames of a file system that cannot exchange folders.
  reset();
  fs::rename(out_, out_ + ".tmp-99-replaced");
  expect_one_line(run(text_ + " --output " + out_), "exists already");
  EXPECT_EQ(now(), old_);
}

#ifdef __SANITIZE_ADDRESS__
constexpr int kEveryCall = 4;  // programs start ten times as slowly; the release build tries every one
#else
constexpr int kEveryCall = 1;
#endif

/// Runs the program under ptrace and kills it before its `call`-th system call after it has taken its lock.
/// -1: not permitted; 0: killed; 1: it had ended before.
int kill_before(int call, const std::function<pid_t()>& start_traced) {
  const pid_t child = start_traced();
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) return -1;
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  for (bool locked = false; call > 0;) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      return 1;
    }
    __ptrace_syscall_info info = {};
    ::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info);
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY) continue;
    if (locked) --call;
    locked = locked || info.entry.nr == SYS_flock;
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return 0;
}

TEST_F(PublishTest, AKillAtAnySystemCallLeavesTheOldOrTheNewSet) {
  const Tree fresh = make_new();
  ASSERT_NE(inside(fresh), inside(old_));
  int seen_old = 0, seen_new = 0;
  for (int call = 1, ended = 0; ended == 0; call += kEveryCall) {
    reset();
    ended = kill_before(call, [&] { return start(arguments(), kNowhere, true); });
    if (ended < 0) GTEST_SKIP() << "tracing a child is not permitted here";
    const Tree left = inside(now());
    ASSERT_TRUE(left == inside(fresh) || (left == inside(old_) && ended == 0))
        << "killed before call " << call;
    ++(left == inside(fresh) ? seen_new : seen_old);
    if (call % 9 != 0 && ended == 0) continue;
    ASSERT_EQ(run(line()).status, 0);
    ASSERT_EQ(now(), fresh) << "the next run, after a kill before call " << call << ", does not clear up";
  }
  EXPECT_GT(seen_old, 60 / kEveryCall);
  EXPECT_GT(seen_new, 12 / kEveryCall);
}

/// The program under strace with something injected: "rename:error=EIO:when=3".
class InjectionTest : public PublishTest {
 protected:
  void SetUp() override {
    PublishTest::SetUp();
    if (std::system("strace -o /dev/null true 2>/dev/null") != 0)
      GTEST_SKIP() << "strace cannot be used here";
  }
  Result run_with(const Names& injections) {
    std::string before = "strace -f -o " + (logs_ / "trace");
    for (const std::string& injection : injections) before += " -e inject=" + injection;
    const Result result =
        run(line(), "ASAN_OPTIONS=detect_leaks=0 " + before);  // it cannot look for leaks then
    injected_ =
        has(read_file(logs_ / "trace"), "(INJECTED)") || has(read_file(logs_ / "trace"), "killed by SIGKILL");
    return result;
  }
  bool injected_ = false;
};

TEST_F(InjectionTest, AFailureOfAnySystemCallLeavesTheOldOrTheNewSet) {
  const Tree fresh = make_new();
  int failures = 0;
  for (const std::string call :
       {"?mkdir,?mkdirat:error=ENOSPC", "?link,linkat:error=EPERM", "?symlink,symlinkat:error=EIO",
        "?rename,renameat2:error=EXDEV", "?unlink,unlinkat:error=EIO", "fsync:error=EIO",
        "write:error=ENOSPC", "pwrite64:error=EIO", "?chmod,fchmodat:error=EPERM", "getdents64:error=EIO",
        "flock:error=ENOLCK", "signalfd4:error=EMFILE", "poll:error=ENOMEM"}) {
    for (int when = 1;; ++when) {
      reset();
      const std::string injection = fmt::format("{}:when={}", call, when);
      const Result result = run_with({injection});
      if (!injected_) break;
      if (has(result.err, "SanitizerTool: CHECK failed")) continue;  // the call was not the program's
      const Tree left = inside(now());
      ASSERT_TRUE(result.status >= 0 && result.status <= 2) << injection;
      ASSERT_TRUE(left == inside(fresh) || (left == inside(old_) && result.status != 0)) << injection;
      if (result.status == 2) {
        EXPECT_EQ(left, inside(old_)) << injection;
      }
      if (result.status != 0) expect_one_line(result, "depthroute-tokenize: ");
      failures += result.status != 0 ? 1 : 0;
      ASSERT_EQ(run(line()).status, 0) << injection;
      ASSERT_EQ(now(), fresh) << injection;
    }
  }
  EXPECT_GT(failures, 30);
}

TEST_F(InjectionTest, ASignalAtAnyMomentLeavesTheOldOrTheNewSetAndNothingBeside) {
  const Tree fresh = make_new();
  ASSERT_EQ(run_with({}).status, 0);
  const std::string calls = read_file(logs_ / "trace");
  int interrupted = 0, finished = 0;
  for (const std::string call : {"openat", "write", "fsync", "rename", "renameat2", "poll", "unlinkat"}) {
    int made = 0;
    for (size_t at = 0; (at = calls.find(" " + call + "(", at)) != std::string::npos; ++at) ++made;
    for (int when = 1; when <= made; ++when) {
      reset();
      const std::string injection = fmt::format("?{}:signal=TERM:when={}", call, when);
      const Result result = run_with({injection});
      if (result.status == 1) expect_one_line(result, "interrupted; nothing was written");
      ASSERT_EQ(now(), result.status == 0 ? fresh : old_) << injection << " " << result.err;
      ++(result.status == 0 ? finished : interrupted);
    }
  }
  EXPECT_GT(interrupted, 30);
  EXPECT_GT(finished, 10);
}

// Where folders cannot be exchanged there are two renames, and a moment with nothing in the place.
TEST_F(InjectionTest, WithoutExchangeAKillLeavesOneSetOrTheNextRunBringsTheOldOneBack) {
  const Tree fresh = make_new();
  int absent = 0;
  for (int when = 1;; ++when) {
    reset();
    const Result result =
        run_with({"renameat2:error=EINVAL", fmt::format("?rename,?renameat:signal=KILL:when={}", when)});
    if (result.status == 0) break;
    if (inside(now()).empty()) {
      ++absent;
      EXPECT_EQ(run(text_ + " --output " + out_).status, 2);
      EXPECT_EQ(now(), old_);
    } else {
      const Tree left = inside(now());
      ASSERT_TRUE(left == inside(fresh) || left == inside(old_)) << when;
    }
  }
  EXPECT_EQ(now(), fresh);
  EXPECT_GE(absent, 1);
}

}  // namespace
}  // namespace depthroute
