// The apply file, as its reader in the host sees it: what is understood, and that anything else is one error with a
// line.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>

#include "preload/apply/apply_file.h"
#include "preload/apply/file_symbols.h"
#include "preload/apply/tracked_memory.h"
#include "preload/stacks/code_hashes.h"

// A function of this program, for its symbol.
extern "C" __attribute__((noinline)) int uvmtrace_apply_test_function(int value) { return value * 3 + 1; }

namespace uvmtrace {
namespace {

struct Parsed {
  bool ok = false;
  ApplyError error;
  std::unique_ptr<ApplyFile> file = std::make_unique<ApplyFile>();
};

Parsed Parse(const std::string& text) {
  Parsed parsed;
  parsed.ok = ParseApplyFile(text, parsed.file.get(), &parsed.error);
  return parsed;
}

constexpr char kGood[] =
    "# a comment\n"
    "version 1\n"
    "\n"
    "change prefetch_before_launch\n"
    "  reason  256 MiB came in because of faults\n"
    "  site    managed:Make@a.cc:0123abcd\n"
    "  path    program!_Z4Makem < program!main < libx.so+0x1f < ...\n"
    "  python  step (train.py) < <module> (train.py)\n"
    "  action  prefetch gpu\n"
    "  action  prefetch host\n"
    "  kernel  _Z4WorkPi\r\n"
    "change read_mostly_missing\n"
    "  variable g_table\n"
    "\taction\tadvise read-mostly";

TEST(ApplyFile, ReadsPathsAndActions) {
  const Parsed parsed = Parse(kGood);
  ASSERT_TRUE(parsed.ok) << parsed.error.line << ": " << parsed.error.cause;
  const ApplyFile& file = *parsed.file;
  ASSERT_EQ(file.changes, 2);
  EXPECT_EQ(file.change[0].line, 4u);
  EXPECT_TRUE(file.change[0].Has(ApplyAction::kPrefetchGpu));
  EXPECT_TRUE(file.change[0].Has(ApplyAction::kPrefetchHost));
  EXPECT_FALSE(file.change[0].Has(ApplyAction::kReadMostly));
  EXPECT_EQ(file.change[0].kernel, "_Z4WorkPi");
  ASSERT_EQ(file.paths, 2);
  const auto frames = file.FramesOf(file.path[0]);
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[0].file, "program");
  EXPECT_EQ(frames[0].function, "_Z4Makem");
  EXPECT_EQ(frames[2].file, "libx.so");
  EXPECT_EQ(frames[2].offset, 0x1fu);
  EXPECT_TRUE(file.path[0].open_end);
  ASSERT_TRUE(file.path[1].python);
  EXPECT_EQ(file.FramesOf(file.path[1])[1].function, "<module>");
  EXPECT_EQ(file.FramesOf(file.path[1])[1].file, "train.py");
  EXPECT_FALSE(file.path[1].open_end);
  EXPECT_EQ(file.change[1].variable, "g_table");
}

TEST(ApplyFile, RefusesWhatItDoesNotUnderstandWithTheLine) {
  struct Case {
    std::string text;
    uint32_t line;
    std::string cause;
  };
  const std::string head = "version 1\nchange x\n";
  const std::string many = [] {
    std::string text = "version 1\n";
    for (int i = 0; i < 25; ++i) text += "change x\n path ...\n action prefetch gpu\n";
    return text;
  }();
  const Case cases[] = {
      {"", 0, "version 1"},
      {"change x\n", 1, "first line"},
      {"version 2\n", 1, "version 1 only"},
      {"version 1\npath a!b\n", 2, "must follow"},
      {"version 1\nchange\n", 2, "value is missing"},
      {head + "  action prefetch everywhere\n", 3, "unknown action"},
      {head + "  colour red\n", 3, "unknown keyword"},
      {head + "  path\n", 3, "value is missing"},
      {head + "  path main\n", 3, "neither"},
      {head + "  path a!b < \n", 3, "neither"},
      {head + "  path a+0xzz\n", 3, "neither"},
      {head + "  path a+0x11112222333344445\n", 3, "neither"},
      {head + "  python step\n", 3, "function (file)"},
      {head + "  path a!b\n", 2, "no action"},
      {head + "  action prefetch gpu\n", 2, "no path"},
      {head + "  kernel a\n  kernel b\n", 4, "twice"},
      {head + "  path a!b\n  action prefetch gpu\nchange y\n", 5, "no action"},
      {head + std::string("  path a\0b\n", 11), 3, "control character"},
      {many, 74, "24 changes"},
      {std::string(2 << 20, '#'), 0, "1 MiB"},
  };
  for (const Case& one : cases) {
    const Parsed parsed = Parse(one.text);
    EXPECT_FALSE(parsed.ok) << one.text.substr(0, 100);
    EXPECT_EQ(parsed.error.line, one.line) << one.text.substr(0, 100);
    ASSERT_NE(parsed.error.cause, nullptr);
    EXPECT_NE(std::string(parsed.error.cause).find(one.cause), std::string::npos) << parsed.error.cause;
  }
}

TEST(ApplyFile, AnyBytesAreReadOrRefused) {
  std::mt19937 random(7);
  const std::string good = kGood;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = good.substr(0, random() % (good.size() + 1));
    for (unsigned change = random() % 8; change > 0 && !text.empty(); --change) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    const Parsed parsed = Parse(text);
    EXPECT_TRUE(parsed.ok || parsed.error.cause != nullptr);
    EXPECT_LE(parsed.file->frames, kApplyFrames);
  }
}

TEST(ApplyFile, LongFilesStayWithinTheTables) {
  std::string text = "version 1\nchange x\n action prefetch gpu\n";
  for (int i = 0; i < 300; ++i) text += " path a!b\n";
  const Parsed paths = Parse(text);
  EXPECT_FALSE(paths.ok);
  EXPECT_EQ(paths.error.line, 4 + kApplyPaths);
  text = "version 1\nchange x\n action prefetch gpu\n path a!b";
  for (size_t i = 0; i < kApplyFrames + 5; ++i) text += " < a!b";
  const Parsed frames = Parse(text);
  EXPECT_FALSE(frames.ok);
  EXPECT_EQ(frames.error.line, 4u);
}

TEST(FileSymbols, FindsAFunctionOfThisProgram) {
  SymbolRanges found;
  SymbolRanges missing;
  const WantedSymbol wanted[] = {{"uvmtrace_apply_test_function", &found}, {"no_such_function", &missing}};
  ASSERT_TRUE(FindSymbols("/proc/self/exe", wanted));
  ASSERT_EQ(found.count, 1);
  EXPECT_LT(found.begin[0], found.end[0]);
  EXPECT_EQ(missing.count, 0);
}

TEST(FileSymbols, RefusesWhatIsNoProgram) {
  SymbolRanges found;
  const WantedSymbol wanted[] = {{"main", &found}};
  EXPECT_FALSE(FindSymbols("/proc/self/status", wanted));
  EXPECT_FALSE(FindSymbols("/dev/null", wanted));
  EXPECT_FALSE(FindSymbols("/nonexistent", wanted));
  EXPECT_FALSE(FindSymbols("/etc/passwd", wanted));
}

TEST(TrackedMemory, FindsTheAllocationThatAnAddressLiesIn) {
  auto tracked = std::make_unique<TrackedMemory>();
  for (const uint64_t address : {0x3000u, 0x1000u, 0x2000u}) {
    TrackedAllocation allocation;
    allocation.address = address;
    allocation.bytes = 0x800;
    ASSERT_TRUE(tracked->Insert(allocation));
  }
  EXPECT_EQ(tracked->At(0x0fff), nullptr);
  EXPECT_EQ(tracked->At(0x1000)->address, 0x1000u);
  EXPECT_EQ(tracked->At(0x27ff)->address, 0x2000u);
  EXPECT_EQ(tracked->At(0x2800), nullptr);
  EXPECT_EQ(tracked->At(UINT64_MAX), nullptr);
  EXPECT_FALSE(tracked->Remove(0x2001));
  EXPECT_TRUE(tracked->Remove(0x2000));
  EXPECT_EQ(tracked->At(0x2000), nullptr);
  EXPECT_EQ(tracked->At(0x3000)->address, 0x3000u);
  EXPECT_EQ(tracked->size(), 2u);
}

TEST(CodeHashes, ForgetFolders) {
  RememberCode(7, "/home/me/train.py", "step");
  EXPECT_EQ(HashOfCodeId(7), HashOfCode("train.py", "step"));
  EXPECT_NE(HashOfCodeId(7), HashOfCode("train.py", "stop"));
  EXPECT_EQ(HashOfCodeId(8), 0u);
  EXPECT_EQ(HashOfCodeId(UINT32_MAX), 0u);
}

}  // namespace
}  // namespace uvmtrace
