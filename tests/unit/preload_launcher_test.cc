#include <elf.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "preload/launcher/elf_program.h"
#include "preload/launcher/glibc_floor.h"

namespace uvmtrace::launcher {
namespace {

class PreloadLauncher : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/uvmtrace-launcher-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& bytes, mode_t mode = 0755) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    chmod(path.c_str(), mode);
    return path;
  }

#if defined(__x86_64__)
  static constexpr uint16_t kOwnMachine = EM_X86_64;
  static constexpr uint16_t kOtherMachine = EM_AARCH64;
#else
  static constexpr uint16_t kOwnMachine = EM_AARCH64;
  static constexpr uint16_t kOtherMachine = EM_X86_64;
#endif

  static std::string Elf(bool interpreter, unsigned char elf_class = ELFCLASS64, uint16_t machine = kOwnMachine) {
    Elf64_Ehdr header{};
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = elf_class;
    header.e_machine = machine;
    header.e_phoff = sizeof(header);
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 1;
    Elf64_Phdr segment{};
    segment.p_type = interpreter ? PT_INTERP : PT_LOAD;
    return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) +
           std::string(reinterpret_cast<const char*>(&segment), sizeof(segment));
  }

  std::string folder_;
};

// Where a file ends, or what its numbers say, must not matter.
TEST_F(PreloadLauncher, TheFloorOfABrokenFileIsUnknownOrRight) {
  std::ifstream self("/proc/self/exe", std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(self), {});
  const std::string floor = GlibcFloor("/proc/self/exe");
  ASSERT_TRUE(floor.starts_with("2.")) << floor;
  EXPECT_EQ(GlibcFloor(folder_ + "/none"), "");
  EXPECT_EQ(GlibcFloor(Write("text", "no ELF file")), "");
  for (size_t length : {size_t{10}, sizeof(Elf64_Ehdr), bytes.size() / 2, bytes.size() - 100}) {
    const std::string found = GlibcFloor(Write("short", bytes.substr(0, length)));
    EXPECT_TRUE(found.empty() || found == floor) << length << ": " << found;
  }
  Elf64_Ehdr header{};
  memcpy(&header, bytes.data(), sizeof header);
  header.e_shoff = UINT64_MAX - 7;
  memcpy(bytes.data(), &header, sizeof header);
  EXPECT_EQ(GlibcFloor(Write("beyond", bytes)), "");
}

TEST_F(PreloadLauncher, ThisProgramCanBePreloaded) {
  EXPECT_EQ(EffectOfPreload("/proc/self/exe"), PreloadEffect::kWorks);
}

TEST_F(PreloadLauncher, StaticProgram) {
  EXPECT_EQ(EffectOfPreload(Write("static", Elf(false))), PreloadEffect::kStatic);
  EXPECT_EQ(EffectOfPreload(Write("dynamic", Elf(true))), PreloadEffect::kWorks);
}

TEST_F(PreloadLauncher, OtherMachine) {
  EXPECT_EQ(EffectOfPreload(Write("narrow", Elf(true, ELFCLASS32))), PreloadEffect::kOtherMachine);
  EXPECT_EQ(EffectOfPreload(Write("other", Elf(true, ELFCLASS64, kOtherMachine))), PreloadEffect::kOtherMachine);
}

TEST_F(PreloadLauncher, SetuidOfAnotherUser) {
  const std::string path = Write("setuid", Elf(true));
  if (geteuid() != 0 || chown(path.c_str(), 1234, static_cast<gid_t>(-1)) != 0) GTEST_SKIP() << "needs root";
  chmod(path.c_str(), 04755);
  EXPECT_EQ(EffectOfPreload(path), PreloadEffect::kPrivileged);
  chmod(path.c_str(), 0755);
  EXPECT_EQ(EffectOfPreload(path), PreloadEffect::kWorks);
}

TEST_F(PreloadLauncher, ScriptIsJudgedByItsInterpreter) {
  const std::string interpreter = Write("interpreter", Elf(false));
  EXPECT_EQ(EffectOfPreload(Write("script", "#! " + interpreter + " -x\n")), PreloadEffect::kStatic);
  EXPECT_EQ(EffectOfPreload(Write("shell", "#!/bin/sh\n")), PreloadEffect::kWorks);
  EXPECT_EQ(EffectOfPreload(Write("environment", "#!/usr/bin/env sh\n")), PreloadEffect::kWorks);
}

TEST_F(PreloadLauncher, ScriptThatInterpretsItselfEnds) {
  const std::string path = folder_ + "/self";
  EXPECT_EQ(EffectOfPreload(Write("self", "#!" + path + "\n")), PreloadEffect::kWorks);
}

TEST_F(PreloadLauncher, TruncatedAndMissingFiles) {
  const std::string whole = Elf(true);
  for (size_t size = 0; size < whole.size(); ++size) {
    EffectOfPreload(Write("cut", whole.substr(0, size)));  // must not crash
  }
  EXPECT_EQ(EffectOfPreload(folder_ + "/absent"), PreloadEffect::kWorks);
}

TEST_F(PreloadLauncher, FindsAsAShellDoes) {
  const std::string tool = Write("tool", "#!/bin/sh\n");
  Write("data", "text", 0644);
  const std::string path = "/nonexistent:" + folder_;
  EXPECT_EQ(FindProgram("tool", path.c_str()), tool);
  EXPECT_EQ(FindProgram("data", path.c_str()), "");
  EXPECT_EQ(FindProgram("absent", path.c_str()), "");
  EXPECT_EQ(FindProgram("", path.c_str()), "");
  EXPECT_EQ(FindProgram(tool, ""), tool);
  EXPECT_EQ(FindProgram(folder_, path.c_str()), "");
  EXPECT_NE(FindProgram("sh", nullptr), "");
}

}  // namespace
}  // namespace uvmtrace::launcher
