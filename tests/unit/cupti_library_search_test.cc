// Which libcupti is found in the maps of a process, and that look-ups go past the doors.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "cupti/counter_kinds.h"
#include "cupti/dynamic_library.h"
#include "cupti/library_search.h"

namespace uvmtrace {
namespace {

class MapsFile {
 public:
  explicit MapsFile(const std::string& text) {
    path_ = testing::TempDir() + "/uvmtrace_maps_" + std::to_string(getpid());
    std::ofstream(path_) << text;
    count_ = FindMappedCupti(path_.c_str(), found_, sizeof found_);
  }
  ~MapsFile() { unlink(path_.c_str()); }
  int count() const { return count_; }
  std::string found() const { return found_; }

 private:
  std::string path_;
  char found_[512];
  int count_;
};

constexpr char kRange[] = "7f0000000000-7f0000001000 r-xp 00000000 08:01 1234    ";

TEST(LibrarySearch, TheSegmentsOfOneFileAreOneLibrary) {
  MapsFile maps(std::string(kRange) + "/usr/lib/libc.so.6\n" + kRange + "/a b/libcupti.so.13\n" + kRange +
                "/a b/libcupti.so.13\n" + kRange + "[stack]\n");
  EXPECT_EQ(maps.count(), 1);
  EXPECT_EQ(maps.found(), "/a b/libcupti.so.13");
}

TEST(LibrarySearch, T10_TwoLibrariesAreTwo) {
  MapsFile maps(std::string(kRange) + "/x/libcupti-0123abcd.so.12\n" + kRange + "/y/libcupti.so.2025.3.0\n");
  EXPECT_EQ(maps.count(), 2);
  EXPECT_EQ(maps.found(), "/x/libcupti-0123abcd.so.12");
}

TEST(LibrarySearch, OtherAndDeletedFilesAreNoLibcupti) {
  MapsFile maps(std::string(kRange) + "/x/libcupti_tool.so\n" + kRange + "/y/mylibcupti.so.13\n" + kRange +
                "/libcupti.so.13/readme\n" + kRange + "/z/libcupti.so.13 (deleted)\n");
  EXPECT_EQ(maps.count(), 0);
  EXPECT_EQ(maps.found(), "");
}

TEST(LibrarySearch, ALineLongerThanTheBufferIsPassedOver) {
  MapsFile maps(std::string(kRange) + "/" + std::string(20000, 'x') + "\n" + kRange + "/y/libcupti.so.12\n");
  EXPECT_EQ(maps.found(), "/y/libcupti.so.12");
}

TEST(LibrarySearch, LookUpsReachLibcItself) {
  void* libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  ASSERT_NE(libc, nullptr);
  EXPECT_NE(RealDlsym(libc, "getpid"), nullptr);
  EXPECT_EQ(RealDlsym(libc, "no such symbol"), nullptr);
  EXPECT_EQ(RealDlsymAs<pid_t (*)()>(libc, "getpid")(), getpid());
}

TEST(CuptiErrors, EveryErrorHasANumberAndKnownOnesACure) {
  char text[512];
  DescribeCuptiError(CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED_WITH_MPS, text, sizeof text);
  EXPECT_EQ(std::string(text).find("CUPTI error 31 (CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED_WITH_MPS): "), 0u) << text;
  EXPECT_NE(std::string(text).find("run without MPS"), std::string::npos);
  DescribeCuptiError(static_cast<CUptiResult>(777), text, sizeof text);
  EXPECT_NE(std::string(text).find("777"), std::string::npos);
}

}  // namespace
}  // namespace uvmtrace
