#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "preload/functions.h"
namespace uvmtrace {
namespace {

TEST(PreloadFunctions, EveryNameIsFoundAndOnlyExactly) {
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    const std::string symbol = Function(static_cast<FunctionId>(id)).symbol;
    EXPECT_EQ(FindFunction(symbol), id) << symbol;
    EXPECT_EQ(FindFunction(symbol + "x"), kNoFunction) << symbol;
    EXPECT_NE(FindFunction(symbol.substr(0, symbol.size() - 1)), id) << symbol;
  }
}

TEST(PreloadFunctions, NamesThatBeginLikeCudas) {
  for (const char* name : {"", "c", "cu", "cuda", "cudnnCreate", "cublasCreate_v2", "curl_easy_init", "cufftPlan1d",
                           "cuMemAlloc", "cumemalloc_v2", "cudaMallocManaged_v9", "zzz"}) {
    EXPECT_EQ(FindFunction(name), kNoFunction) << name;
  }
}

TEST(PreloadFunctions, DefinitionsAreTheCallsInOrder) {
  const auto definitions = FunctionDefinitions();
  ASSERT_EQ(definitions.size(), static_cast<size_t>(kLastCall));
  for (size_t i = 0; i < definitions.size(); ++i) {
    EXPECT_EQ(definitions[i].id, i + 1);
    EXPECT_STREQ(definitions[i].name, Function(static_cast<FunctionId>(i + 1)).symbol);
    const bool runtime = std::string(definitions[i].name).starts_with("cuda");
    EXPECT_EQ(definitions[i].layer, runtime ? Layer::kRuntime : Layer::kDriver);
  }
}

TEST(PreloadFunctions, NameMeansSymbol) {
  EXPECT_TRUE(NameMeansSymbol("cuMemAlloc", "cuMemAlloc_v2"));
  EXPECT_TRUE(NameMeansSymbol("cuMemAlloc_v2", "cuMemAlloc_v2"));
  EXPECT_TRUE(NameMeansSymbol("cuMemcpy", "cuMemcpy_ptds"));
  EXPECT_TRUE(NameMeansSymbol("cuMemcpyHtoD", "cuMemcpyHtoD_v2_ptds"));
  EXPECT_TRUE(NameMeansSymbol("cuMemFreeAsync", "cuMemFreeAsync_ptsz"));
  EXPECT_FALSE(NameMeansSymbol("cuMemAlloc", "cuMemAllocManaged"));
  EXPECT_FALSE(NameMeansSymbol("cuMemcpy", "cuMemcpyAsync"));
  EXPECT_FALSE(NameMeansSymbol("cuMemAllocManaged", "cuMemAlloc_v2"));
  EXPECT_FALSE(NameMeansSymbol("", "cuMemAlloc_v2"));
}

std::set<std::string> ExportedFunctions(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::set<std::string> names;
  if (bytes.size() < sizeof(Elf64_Ehdr)) return names;
  const auto* const header = reinterpret_cast<const Elf64_Ehdr*>(bytes.data());
  const auto* const sections = reinterpret_cast<const Elf64_Shdr*>(bytes.data() + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_DYNSYM) continue;
    const auto* const symbols = reinterpret_cast<const Elf64_Sym*>(bytes.data() + sections[i].sh_offset);
    const char* const strings = bytes.data() + sections[sections[i].sh_link].sh_offset;
    for (size_t j = 0; j < sections[i].sh_size / sizeof(Elf64_Sym); ++j) {
      if (symbols[j].st_shndx != SHN_UNDEF) names.insert(strings + symbols[j].st_name);
    }
  }
  return names;
}

// The toolkit's stub has the names of the real libcuda: a row with a misspelt name would never be routed.
TEST(PreloadFunctions, EveryDriverRowIsAnExportOfLibcuda) {
  const std::set<std::string> exported = ExportedFunctions(UVMTRACE_LIBCUDA_STUB);
  if (exported.empty()) GTEST_SKIP() << "no stub at " << UVMTRACE_LIBCUDA_STUB;
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    const FunctionRow& row = Function(static_cast<FunctionId>(id));
    if (row.layer != Layer::kDriver) continue;
    EXPECT_TRUE(exported.contains(row.symbol)) << row.symbol;
  }
}

// A row whose per-thread-stream twin exists in libcuda but not in the list would lose the calls of every program that
// is compiled with per-thread default streams.
TEST(PreloadFunctions, EveryTwinOfADriverRowIsInTheList) {
  const std::set<std::string> exported = ExportedFunctions(UVMTRACE_LIBCUDA_STUB);
  if (exported.empty()) GTEST_SKIP() << "no stub at " << UVMTRACE_LIBCUDA_STUB;
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    const FunctionRow& row = Function(static_cast<FunctionId>(id));
    if (row.layer != Layer::kDriver) continue;
    for (const char* suffix : {"_ptds", "_ptsz"}) {
      const std::string twin = std::string(row.symbol) + suffix;
      if (!exported.contains(twin)) continue;
      EXPECT_NE(FindFunction(twin), kNoFunction) << twin;
    }
  }
}

}  // namespace
}  // namespace uvmtrace
