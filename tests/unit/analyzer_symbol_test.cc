// Names for addresses, from a real file: this test's own executable.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>

#include <cstring>
#include <fstream>
#include <string>

#include "analyzer/findings/call_site.h"
#include "analyzer/symbols/symbolizer.h"

namespace uvmtrace::testing {

// Calls the callback so that the return address lies in this function. Not static: its name is looked for.
constexpr int kCallLine = __LINE__ + 2;
__attribute__((noinline)) uint64_t CallerThatIsLookedFor(uint64_t (*callback)()) {
  const uint64_t address = callback();  // kCallLine
  asm volatile("" ::: "memory");
  return address;
}

namespace {

__attribute__((noinline)) uint64_t ReturnAddress() { return reinterpret_cast<uint64_t>(__builtin_return_address(0)); }

// The mapping of this executable, as the recorder describes it.
analyzer::MappingDefinition OwnMapping() {
  analyzer::MappingDefinition mapping;
  mapping.id = 1;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto* own = static_cast<analyzer::MappingDefinition*>(data);
        own->load_bias = info->dlpi_addr;
        own->start = UINT64_MAX;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type == PT_LOAD) {
            own->start = std::min<uint64_t>(own->start, info->dlpi_addr + header.p_vaddr);
            own->end = std::max<uint64_t>(own->end, info->dlpi_addr + header.p_vaddr + header.p_memsz);
          }
          if (header.p_type != PT_NOTE) continue;
          const char* next = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
          const char* end = next + header.p_memsz;
          while (next + sizeof(ElfW(Nhdr)) <= end) {
            const auto* note = reinterpret_cast<const ElfW(Nhdr)*>(next);
            const char* name = next + sizeof(*note);
            const char* value = name + ((note->n_namesz + 3) & ~3u);
            if (note->n_type == NT_GNU_BUILD_ID && std::memcmp(name, "GNU", 4) == 0) {
              own->build_id.assign(value, note->n_descsz);
            }
            next = value + ((note->n_descsz + 3) & ~3u);
          }
        }
        return 1;  // the first is the executable
      },
      &mapping);
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  mapping.path.assign(path, static_cast<size_t>(length));
  return mapping;
}

TEST(SymbolizerTest, FunctionFileAndLineOfTheCall) {
  analyzer::Symbolizer symbolizer({});
  const auto& frames = symbolizer.Resolve(OwnMapping(), CallerThatIsLookedFor(ReturnAddress));
  ASSERT_FALSE(frames.empty());
  const auto& frame = frames.back();
  EXPECT_EQ(frame.function, "uvmtrace::testing::CallerThatIsLookedFor(unsigned long (*)())");
  EXPECT_NE(frame.file.find("analyzer_symbol_test.cc"), std::string::npos);
  EXPECT_EQ(frame.line, kCallLine);
  EXPECT_TRUE(symbolizer.problems().empty());
}

TEST(SymbolizerTest, AnotherBuildIsRefusedWithANote) {
  analyzer::MappingDefinition mapping = OwnMapping();
  if (mapping.build_id.empty()) mapping.build_id = "12345678901234567890";
  mapping.build_id[0] = static_cast<char>(mapping.build_id[0] ^ 1);
  analyzer::Symbolizer symbolizer({});
  const auto& frames = symbolizer.Resolve(mapping, CallerThatIsLookedFor(ReturnAddress));
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(frames[0].function.empty());
  EXPECT_NE(frames[0].offset, 0u);
  ASSERT_EQ(symbolizer.problems().size(), 1u);
  EXPECT_NE(symbolizer.problems().begin()->find("build id"), std::string::npos);
}

TEST(SymbolizerTest, MissingFileGivesModuleAndOffset) {
  analyzer::MappingDefinition mapping;
  mapping.path = "/nonexistent/libfoo.so";
  mapping.load_bias = 0x7000;
  analyzer::Symbolizer symbolizer({});
  const auto& frames = symbolizer.Resolve(mapping, 0x7000 + 0x1234);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].module, "libfoo.so");
  EXPECT_EQ(frames[0].offset, 0x1234u);
  EXPECT_EQ(symbolizer.problems().size(), 1u);
}

TEST(SymbolizerTest, DevicesAreNotOpened) {
  analyzer::MappingDefinition mapping;
  mapping.path = "/dev/zero";
  analyzer::Symbolizer symbolizer({});
  EXPECT_TRUE(symbolizer.Resolve(mapping, 0x1234)[0].function.empty());
}

TEST(SymbolizerTest, NamesAreDemangled) {
  EXPECT_EQ(analyzer::Demangle("_Z5touchPfm"), "touch(float*, unsigned long)");
  EXPECT_EQ(analyzer::Demangle("main"), "main");
  EXPECT_EQ(analyzer::Demangle("_Znonsense"), "_Znonsense");
  EXPECT_EQ(analyzer::Demangle(""), "");
}

TEST(CallSiteTest, LaterMappingAtTheSameAddressesIsNotUsedForAnEarlierStack) {
  analyzer::ProcessModel process;
  analyzer::Chunk chunk;
  const auto map = [&chunk](uint32_t id, const char* path) {
    analyzer::MappingDefinition mapping;
    mapping.id = id;
    mapping.start = 0x1000;
    mapping.end = 0x2000;
    mapping.path = path;
    chunk.mappings.push_back(mapping);
  };
  map(1, "/nonexistent/libold.so");
  chunk.stacks.push_back({1, {0x1100}, {}, {}});
  process.ApplyDefinitions(chunk, {});
  chunk.Clear();
  map(2, "/nonexistent/libnew.so");
  chunk.stacks.push_back({2, {0x1100}, {}, {}});
  process.ApplyDefinitions(chunk, {});
  analyzer::Symbolizer symbolizer({});
  EXPECT_EQ(analyzer::ResolveCallSite(process, 1, &symbolizer).site, "libold.so+0x1100");
  EXPECT_EQ(analyzer::ResolveCallSite(process, 2, &symbolizer).site, "libnew.so+0x1100");
  EXPECT_EQ(analyzer::ResolveCallSite(process, 3, &symbolizer).site, "");
}

TEST(CallSiteTest, PythonFramesStandForTheInterpretersAndPackagesAreSkipped) {
  analyzer::ProcessModel process;
  analyzer::Chunk chunk;
  const auto map = [&chunk](uint32_t id, uint64_t start, const char* path) {
    analyzer::MappingDefinition mapping;
    mapping.id = id;
    mapping.start = start;
    mapping.end = start + 0x1000;
    mapping.path = path;
    chunk.mappings.push_back(mapping);
  };
  map(1, 0x1000, "/nonexistent/libtorch_cuda.so");
  map(2, 0x2000, "/nonexistent/lib/python3.12/site-packages/cupy/runtime.cpython-312-x86_64-linux-gnu.so");
  map(3, 0x3000, "/nonexistent/bin/python3.12");
  map(4, 0x4000, "/nonexistent/libown_extension.so");
  const char* const strings[] = {"",           "/v/lib/python3.12/site-packages/cupy/core.py",
                                 "alloc",      "/home/me/train.py",
                                 "Model.grow", "/usr/lib/python3.12/threading.py",
                                 "Thread.run"};
  for (uint32_t id = 1; id < 7; ++id) chunk.strings.push_back({id, strings[id]});
  chunk.codes = {{1, 1, 2}, {2, 3, 4}, {3, 5, 6}};
  chunk.stacks.push_back({1, {0x1100, 0x2100, 0x3100, 0x3200}, {1, 2, 3}, {10, 20, 30}});
  chunk.stacks.push_back({2, {0x4100, 0x3100}, {1, 2}, {10, 20}});  // a library of the program's own, beneath Python
  chunk.stacks.push_back({3, {0x2100}, {1, 3}, {10, 30}});          // nothing is the user's
  chunk.stacks.push_back({4, {0x2100, 0x3100}, {}, {}});            // no Python frames were recorded
  chunk.stacks.push_back({5, {0x3100}, {99}, {1}});                 // whose definition stood in a damaged chunk
  process.ApplyDefinitions(chunk, {});
  analyzer::Symbolizer symbolizer({});
  const analyzer::CallSite site = analyzer::ResolveCallSite(process, 1, &symbolizer);
  EXPECT_EQ(site.site, "Model.grow (train.py:20)");
  EXPECT_EQ(site.stack, (std::vector<std::string>{
                            "libtorch_cuda.so+0x1100", "runtime.cpython-312-x86_64-linux-gnu.so+0x2100",
                            "alloc (/v/lib/python3.12/site-packages/cupy/core.py:10)",
                            "Model.grow (/home/me/train.py:20)", "Thread.run (/usr/lib/python3.12/threading.py:30)"}));
  EXPECT_EQ(analyzer::ResolveCallSite(process, 2, &symbolizer).site, "libown_extension.so+0x4100");
  EXPECT_EQ(analyzer::ResolveCallSite(process, 3, &symbolizer).site, "alloc (core.py:10)");
  EXPECT_EQ(analyzer::ResolveCallSite(process, 4, &symbolizer).site, "runtime.cpython-312-x86_64-linux-gnu.so+0x2100");
  EXPECT_EQ(analyzer::ResolveCallSite(process, 5, &symbolizer).site, "? (?:1)");
}

}  // namespace
}  // namespace uvmtrace::testing
