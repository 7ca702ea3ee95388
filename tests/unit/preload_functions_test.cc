#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "preload/calls/cuda_api.h"
#include "preload/calls/functions.h"
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
    const uint16_t id = definitions[i].id;
    if (id == kFunction_ManagedVariable || id == kFunction_GraphAllocation || IsApplied(id)) {
      EXPECT_EQ(definitions[i].layer, Layer::kUnknown);
      continue;
    }
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

TEST(PreloadFunctions, NewerThanTheList) {
  EXPECT_TRUE(IsNewerThanTheList("cuMemAdvise_v3"));
  EXPECT_TRUE(IsNewerThanTheList("cuMemcpyDtoDAsync_v9_ptsz"));
  EXPECT_TRUE(IsNewerThanTheList("cuMemPrefetchEverything"));
  // Listed, older than what is listed, or left out on purpose.
  for (const char* name : {"cuMemAdvise_v2", "cuMemAlloc", "cuMemAlloc_v2", "cuMemcpyAsync_ptsz", "cuMemGetInfo_v2",
                           "cuDriverGetVersion", "cuLaunchKernel", "cudnnCreate_v3", "cuThereIsNoSuchFunction"}) {
    EXPECT_FALSE(IsNewerThanTheList(name)) << name;
  }
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

// Calls of CUDA 13.1 and 13.2, which the libraries of an older toolkit do not export.
bool IsNewerThanTheToolkit(const std::string& symbol) {
  if (CUDA_VERSION >= 13020) return false;
  return symbol.find("WithAttributesAsync") != std::string::npos || symbol == "cuMulticastBindMem_v2" ||
         symbol == "cuMulticastBindAddr_v2";
}

// The toolkit's stub has the names of the real libcuda: a row with a misspelt name would never be routed.
TEST(PreloadFunctions, EveryDriverRowIsAnExportOfLibcuda) {
  const std::set<std::string> exported = ExportedFunctions(UVMTRACE_LIBCUDA_STUB);
  if (exported.empty()) GTEST_SKIP() << "no stub at " << UVMTRACE_LIBCUDA_STUB;
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    const FunctionRow& row = Function(static_cast<FunctionId>(id));
    if (row.layer != Layer::kDriver || IsNewerThanTheToolkit(row.symbol)) continue;
    EXPECT_TRUE(exported.contains(row.symbol)) << row.symbol;
  }
}

// The same for the toolkit's libcudart. What only an older one exports is listed here, with its reason.
TEST(PreloadFunctions, EveryRuntimeRowIsAnExportOfLibcudart) {
  const std::set<std::string> exported = ExportedFunctions(UVMTRACE_LIBCUDART);
  if (exported.empty()) GTEST_SKIP() << "no libcudart at " << UVMTRACE_LIBCUDART;
  const std::set<std::string> older = {"cudaMemPrefetchAsync_v2", "cudaMemPrefetchAsync_v2_ptsz", "cudaMemAdvise_v2",
                                       "cudaGraphAddNode_v2"};
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    const FunctionRow& row = Function(static_cast<FunctionId>(id));
    if (row.layer != Layer::kRuntime || older.contains(row.symbol) || IsNewerThanTheToolkit(row.symbol)) continue;
    EXPECT_TRUE(exported.contains(row.symbol)) << row.symbol;
  }
}

// A row whose per-thread-stream twin exists in the library but not in the list would lose the calls of every program
// that is compiled with per-thread default streams.
TEST(PreloadFunctions, EveryTwinOfARowIsInTheList) {
  std::set<std::string> exported = ExportedFunctions(UVMTRACE_LIBCUDA_STUB);
  exported.merge(ExportedFunctions(UVMTRACE_LIBCUDART));
  if (exported.empty()) GTEST_SKIP() << "no stub at " << UVMTRACE_LIBCUDA_STUB;
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
    const FunctionRow& row = Function(static_cast<FunctionId>(id));
    for (const char* suffix : {"_ptds", "_ptsz"}) {
      const std::string twin = std::string(row.symbol) + suffix;
      if (!exported.contains(twin)) continue;
      EXPECT_NE(FindFunction(twin), kNoFunction) << twin;
    }
  }
}

// Whatever allocates, frees, maps or moves memory. A function of a new CUDA that is neither in the list nor excused
// here fails this test when the toolkit is updated.
bool ConcernsMemory(const std::string& name) {
  for (const char* part :
       {"Malloc",          "MemAlloc",     "MemFree",    "cudaFree",     "Memcpy",      "Memset",
        "MemPrefetch",     "MemAdvise",    "MemDiscard", "MemHostAlloc", "HostAlloc",   "HostRegister",
        "HostUnregister",  "MemPool",      "MemMap",     "MemUnmap",     "MemCreate",   "MemRelease",
        "MemAddress",      "MemSetAccess", "IpcOpenMem", "IpcCloseMem",  "ArrayCreate", "ArrayDestroy",
        "PrimaryCtxReset", "DeviceReset"}) {
    if (name.find(part) != std::string::npos) return true;
  }
  return false;
}

TEST(PreloadFunctions, TheWholeMemorySurfaceIsInTheList) {
  std::set<std::string> exported = ExportedFunctions(UVMTRACE_LIBCUDA_STUB);
  exported.merge(ExportedFunctions(UVMTRACE_LIBCUDART));
  if (exported.empty()) GTEST_SKIP() << "no toolkit";
  for (const std::string& name : exported) {
    if (!ConcernsMemory(name) || FindFunction(name) != kNoFunction) continue;
    const auto contains = [&](const char* part) { return name.find(part) != std::string::npos; };
    // They only ask, change a node that was recorded when it was added, or are 32-bit functions of CUDA 3, which a
    // version 2 of the same name replaced in 2010.
    const bool asks =
        contains("GetParams") || contains("GetAttribute") || contains("GetAccess") || contains("Granularity");
    const bool changes_a_node = contains("SetParams");
    const bool replaced = exported.contains(name + "_v2");
    const bool current_pool = name == "cudaDeviceGetMemPool" || name == "cuDeviceGetMemPool" ||
                              name == "cudaDeviceGetDefaultMemPool" || name == "cuDeviceGetDefaultMemPool";
    // Kernel nodes of another library; symbols as ends of a node's copy; batches of decompressions.
    const bool symbol_node = contains("MemcpyNodeToSymbol") || contains("MemcpyNodeFromSymbol");
    const bool gl = contains("GL") || contains("EGL") || contains("VDPAU") || contains("D3D");
    EXPECT_TRUE(asks || changes_a_node || replaced || current_pool || symbol_node || gl) << name;
  }
}

}  // namespace
}  // namespace uvmtrace
