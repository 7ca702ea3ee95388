// Names for kernel addresses: hidden, aliased, beyond the end, of modules, and in a list that arrives in pieces.
#include <errno.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "driver/kernel_symbols.h"
#include "tests/unit/driver_proc_root.h"

namespace uvmtrace {
namespace {

using Access = KernelSymbols::Access;

constexpr char kList[] =
    "0000000000000000 A fixed_percpu_data\n"
    "0000000000001000 A cpu_debug_store\n"
    "ffffffff81000000 t local_alias\n"
    "ffffffff81000000 T _stext\n"
    "ffffffff81000000 t __pfx_start_kernel\n"
    "ffffffff81000010 T start_kernel\n"
    "ffffffff81000400 W weak_function\n"
    "ffffffff81000500 t copy.isra.0\n"
    "ffffffff81001000 T _etext\n"
    "ffffffff81800000 D init_task\n"
    // A module's symbols come in no order.
    "ffffffffc0301000 t uvm_va_block_make_resident\t[nvidia_uvm]\n"
    "ffffffffc0300000 t block_copy_resident_pages\t[nvidia_uvm]\n"
    "ffffffffc0302000 t service_fault_batch.cold\t[nvidia_uvm]\n"
    "ffffffffc0303000 d uvm_global\t[nvidia_uvm]\n"
    "ffffffffc0200000 T rm_isr\t[nvidia]\n";

class KernelSymbolsTest : public testing::Test {
 protected:
  void TearDown() override { symbols_.Free(); }

  std::string Name(uint64_t address) const {
    char buffer[KernelSymbols::kMaxDescriptionBytes];
    return std::string(symbols_.Describe(address, buffer));
  }

  KernelSymbols symbols_;
};

TEST_F(KernelSymbolsTest, AnAddressBelongsToTheGreatestFunctionNotAboveIt) {
  symbols_.Add(kList);
  ASSERT_EQ(symbols_.Seal(), Access::kReadable);
  EXPECT_EQ(Name(0xffffffff81000010), "start_kernel");
  EXPECT_EQ(Name(0xffffffff810003ff), "start_kernel");
  EXPECT_EQ(Name(0xffffffff81000400), "weak_function");
  EXPECT_EQ(Name(0xffffffff81000fff), "copy.isra.0");
  EXPECT_EQ(Name(0xffffffffc0300fff), "block_copy_resident_pages [nvidia_uvm]");
  EXPECT_EQ(Name(0xffffffffc0301fff), "uvm_va_block_make_resident [nvidia_uvm]");
  EXPECT_EQ(Name(0xffffffffc0302abc), "service_fault_batch.cold [nvidia_uvm]");
  EXPECT_EQ(Name(0xffffffffc0200001), "rm_isr [nvidia]");
}

TEST_F(KernelSymbolsTest, OfSeveralNamesTheGlobalOneIsGiven) {
  symbols_.Add(kList);
  ASSERT_EQ(symbols_.Seal(), Access::kReadable);
  EXPECT_EQ(Name(0xffffffff81000000), "_stext");
  EXPECT_EQ(Name(0xffffffff8100000f), "_stext");
}

TEST_F(KernelSymbolsTest, NothingIsNamedWhereThereIsNoFunction) {
  symbols_.Add(kList);
  ASSERT_EQ(symbols_.Seal(), Access::kReadable);
  EXPECT_EQ(Name(0), "");
  EXPECT_EQ(Name(0x1000), "");                                                     // an offset, no address
  EXPECT_EQ(Name(0xffffffff80ffffff), "");                                         // below the first
  EXPECT_EQ(Name(0xffffffff81001000), "");                                         // beyond the kernel's text
  EXPECT_EQ(Name(0xffffffff81800010), "");                                         // data
  EXPECT_EQ(Name(0xffffffffc0303000), "");                                         // beyond a module's text
  EXPECT_EQ(Name(0xffffffffc0200000 + KernelSymbols::kLongestFunctionBytes), "");  // nothing tells where it ends
  EXPECT_EQ(Name(UINT64_MAX), "");
}

TEST_F(KernelSymbolsTest, PiecesMayEndAnywhere) {
  const std::string list(kList);
  for (size_t piece = 1; piece < 80; ++piece) {
    KernelSymbols symbols;
    for (size_t at = 0; at < list.size(); at += piece) symbols.Add(std::string_view(list).substr(at, piece));
    ASSERT_EQ(symbols.Seal(), Access::kReadable) << piece;
    char buffer[KernelSymbols::kMaxDescriptionBytes];
    EXPECT_EQ(symbols.Describe(0xffffffffc0301fff, buffer), "uvm_va_block_make_resident [nvidia_uvm]") << piece;
    EXPECT_EQ(symbols.Describe(0xffffffff81000fff, buffer), "copy.isra.0") << piece;
    symbols.Free();
  }
}

TEST_F(KernelSymbolsTest, TheLastLineNeedsNoEnd) {
  symbols_.Add("ffffffff81000000 T first\nffffffff81000100 t last");
  ASSERT_EQ(symbols_.Seal(), Access::kReadable);
  EXPECT_EQ(Name(0xffffffff81000100), "last");
}

TEST_F(KernelSymbolsTest, LinesThatAreNoneAreLeftOut) {
  symbols_.Add(
      "\n \nffffffff81000000\nffffffff81000000 T\nffffffff81000000 T \nffffffff81000000 TT two\nxyz T no\n"
      "ffffffff810000000 T too_long\n-1 T minus\nffffffff81000010 T fine\nffffffff81000020 t m\t[]\n");
  symbols_.Add("ffffffff81000030 T " + std::string(2000, 'x') + "\nffffffff81000040 T after\n");
  ASSERT_EQ(symbols_.Seal(), Access::kReadable);
  EXPECT_EQ(Name(0xffffffff81000000), "");
  EXPECT_EQ(Name(0xffffffff81000010), "fine");
  EXPECT_EQ(Name(0xffffffff81000020), "m");
  EXPECT_EQ(Name(0xffffffff81000040), "after");
}

TEST_F(KernelSymbolsTest, NamesOfAnyLengthFitOrAreCut) {
  const std::string name(900, 'n');
  const std::string module(100, 'm');
  symbols_.Add("ffffffff81000000 t " + name + "\t[" + module + "]\n");
  ASSERT_EQ(symbols_.Seal(), Access::kReadable);
  const std::string described = Name(0xffffffff81000000);
  EXPECT_LE(described.size(), KernelSymbols::kMaxDescriptionBytes);
  EXPECT_TRUE(described.ends_with("mm]")) << described;
}

TEST_F(KernelSymbolsTest, ManyModulesKeepTheirNames) {
  std::string list;
  for (int i = 0; i < 700; ++i) {
    char line[100];
    snprintf(line, sizeof line, "%016lx t f\t[module%d]\n", 0xffffffffc0000000 + static_cast<uint64_t>(i) * 4096, i);
    list += line;
  }
  symbols_.Add(list);
  ASSERT_EQ(symbols_.Seal(), Access::kReadable);
  EXPECT_EQ(Name(0xffffffffc0000000), "f [module0]");
  EXPECT_EQ(Name(0xffffffffc0000000 + 299 * 4096), "f [module299]");
  EXPECT_EQ(Name(0xffffffffc0000000 + 699 * 4096), "f [module699]");
}

TEST_F(KernelSymbolsTest, ZeroAddressesAreHiddenOnes) {
  symbols_.Add("0000000000000000 T _stext\n0000000000000000 t block_copy\t[nvidia_uvm]\n");
  EXPECT_EQ(symbols_.Seal(), Access::kHidden);
  EXPECT_EQ(symbols_.size(), 0u);
  symbols_.Add("");
  EXPECT_EQ(symbols_.Seal(), Access::kHidden);
}

TEST_F(KernelSymbolsTest, FilesArePeekedAtAndLoaded) {
  ProcRoot root;
  const std::string path = std::string(root.path()) + "/kallsyms";
  int error = 0;
  EXPECT_EQ(KernelSymbols::Peek(path.c_str(), &error), Access::kUnreadable);
  EXPECT_EQ(error, ENOENT);
  EXPECT_EQ(symbols_.Load(path.c_str(), &error), Access::kUnreadable);
  EXPECT_EQ(error, ENOENT);
  EXPECT_EQ(KernelSymbols::Peek(root.path(), &error), Access::kUnreadable);  // a folder
  EXPECT_EQ(error, EISDIR);

  root.Write("kallsyms", "0000000000000000 A fixed_percpu_data\n0000000000000000 T _stext\n");
  EXPECT_EQ(KernelSymbols::Peek(path.c_str(), &error), Access::kHidden);
  EXPECT_EQ(symbols_.Load(path.c_str(), &error), Access::kHidden);

  // Longer than what is read at a time.
  std::string list = kList;
  for (uint64_t i = 0; i < 20'000; ++i) {
    char line[100];
    snprintf(line, sizeof line, "%016lx t function_%lu\n", 0xffffffff90000000 + i * 16, i);
    list += line;
  }
  root.Write("kallsyms", list);
  EXPECT_EQ(KernelSymbols::Peek(path.c_str(), &error), Access::kReadable);
  ASSERT_EQ(symbols_.Load(path.c_str(), &error), Access::kReadable);
  for (const uint64_t i : {0, 1, 1234, 9999, 19'999}) {
    EXPECT_EQ(Name(0xffffffff90000000 + i * 16 + 15), "function_" + std::to_string(i));
  }
  EXPECT_EQ(Name(0xffffffffc0301fff), "uvm_va_block_make_resident [nvidia_uvm]");
}

// Against the kernel that runs the test, where it shows its addresses.
TEST_F(KernelSymbolsTest, TheKernelsOwnListGivesBackItsNames) {
  int error = 0;
  if (KernelSymbols::Peek("/proc/kallsyms", &error) != Access::kReadable) GTEST_SKIP() << "addresses are hidden here";
  ASSERT_EQ(symbols_.Load("/proc/kallsyms", &error), Access::kReadable);
  EXPECT_GT(symbols_.size(), 10'000u);
  std::ifstream file("/proc/kallsyms");
  int found = 0;
  for (std::string line; std::getline(file, line);) {
    if (!line.ends_with(" T kernel_clone") && !line.ends_with(" T schedule") && !line.ends_with(" T vfs_read"))
      continue;
    EXPECT_EQ(Name(std::stoull(line, nullptr, 16) + 4), line.substr(line.rfind(' ') + 1));
    ++found;
  }
  EXPECT_GT(found, 0);
}

}  // namespace
}  // namespace uvmtrace
