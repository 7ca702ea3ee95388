#include "preload/stacks/python_interpreter.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <string.h>

#include "preload/doors/libc_symbols.h"
#include "record/os/loader_work.h"

namespace uvmtrace {

constinit const PythonLayout* python_layout_for_tests = nullptr;

namespace {

// The file of a libpython that was loaded outside of the global scope.
int FindPythonFile(dl_phdr_info* info, size_t, void* path) {
  const char* const slash = info->dlpi_name == nullptr ? nullptr : strrchr(info->dlpi_name, '/');
  if (slash == nullptr || strncmp(slash + 1, "libpython3.", 11) != 0) return 0;
  strncpy(static_cast<char*>(path), info->dlpi_name, PATH_MAX - 1);
  return 1;
}

template <typename Function>
bool Find(void* handle, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(LibcDlsym()(handle, name));
  return *function != nullptr;
}

// Of version 3; 0 for anything else.
int MinorVersion(std::string_view version) {
  if (!version.starts_with("3.")) return 0;
  int minor = 0;
  for (size_t i = 2; i < version.size() && version[i] >= '0' && version[i] <= '9' && minor < 1000; ++i)
    minor = 10 * minor + (version[i] - '0');
  return minor;
}

const PythonLayout* LayoutOf(int minor) {
  if (python_layout_for_tests != nullptr)
    return python_layout_for_tests->minor == 0 ? nullptr : python_layout_for_tests;
  for (const PythonLayout& known : kPythonLayouts) {
    if (known.minor == minor) return &known;
  }
  return nullptr;
}

}  // namespace

// The part that every way needs, and then the rest. False: there is no interpreter.
bool FindPython(PythonApi* found) {
  const LoaderWork loader(LoaderWork::kLookupWaitNs);
  PythonApi api{};
  void* handle = RTLD_DEFAULT;
  if (!Find(handle, "PyGILState_GetThisThreadState", &api.this_thread_state)) {
    char path[PATH_MAX] = "";
    dl_iterate_phdr(&FindPythonFile, path);
    if (path[0] == '\0') return false;
    handle = dlopen(path, RTLD_NOLOAD | RTLD_LAZY);
    if (handle == nullptr || !Find(handle, "PyGILState_GetThisThreadState", &api.this_thread_state)) return false;
  }
  if (!Find(handle, "Py_IsInitialized", &api.is_initialized) || !Find(handle, "Py_GetVersion", &api.version))
    return false;
  if (!Find(handle, "Py_IsFinalizing", &api.is_finalizing)) Find(handle, "_Py_IsFinalizing", &api.is_finalizing);
  if (!Find(handle, "PyThreadState_GetUnchecked", &api.current_thread_state))
    Find(handle, "_PyThreadState_UncheckedGet", &api.current_thread_state);
  Find(handle, "PyGILState_Check", &api.gil_held);
  Find(handle, "PyThreadState_GetFrame", &api.frame_of);
  Find(handle, "PyFrame_GetBack", &api.frame_back);
  Find(handle, "PyFrame_GetCode", &api.frame_code);
  Find(handle, "PyFrame_GetLineNumber", &api.frame_line);
  Find(handle, "PyCode_Addr2Line", &api.address_to_line);
  Find(handle, "PyObject_GetAttrString", &api.attribute);
  Find(handle, "PyUnicode_AsUTF8AndSize", &api.as_utf8);
  Find(handle, "PyThreadState_GetInterpreter", &api.interpreter_of);
  Find(handle, "PyInterpreterState_Main", &api.main_interpreter);
  Find(handle, "Py_IncRef", &api.increment);
  Find(handle, "Py_DecRef", &api.decrement);
  Find(handle, "PyErr_Fetch", &api.fetch_error);
  Find(handle, "PyErr_Restore", &api.restore_error);
  Find(handle, "PyGC_Disable", &api.disable_collector);
  Find(handle, "PyGC_Enable", &api.enable_collector);
  Find(handle, "PyCode_Type", &api.code_type);
  Find(handle, "PyUnicode_Type", &api.string_type);
  void* merge = nullptr;
  api.free_threaded = Find(handle, "_Py_MergeZeroLocalRefcount", &merge);
  *found = api;
  return true;
}

bool ApiIsWhole(const PythonApi& api, int minor) {
  // Without PyGC_Disable there is no frame object to be made either (3.9).
  const bool collector = minor < 11 || (api.disable_collector != nullptr && api.enable_collector != nullptr);
  return collector && api.current_thread_state != nullptr && api.gil_held != nullptr && api.frame_of != nullptr &&
         api.frame_back != nullptr && api.frame_code != nullptr && api.frame_line != nullptr &&
         api.attribute != nullptr && api.as_utf8 != nullptr && api.interpreter_of != nullptr &&
         api.main_interpreter != nullptr && api.increment != nullptr && api.decrement != nullptr &&
         api.fetch_error != nullptr && api.restore_error != nullptr;
}

PythonDecision DecidePython(std::string_view version, const PythonApi& api) {
  const int minor = MinorVersion(version);
  // "3.13.0 experimental free-threading build", "3.14.0 free-threading build"; a distributor may word it otherwise.
  if (api.free_threaded || version.find("free-threading") != std::string_view::npos) {
    return {PythonWay::kRefused, minor, nullptr, "a free-threaded build of CPython: its frames cannot be read safely"};
  }
  const PythonLayout* const layout = LayoutOf(minor);
  if (layout != nullptr && api.address_to_line != nullptr && api.code_type != nullptr && api.string_type != nullptr &&
      sizeof(void*) == 8) {
    return {PythonWay::kUnchecked, minor, layout, "no call was made from Python so far"};
  }
  if (!ApiIsWhole(api, minor)) return {PythonWay::kRefused, minor, nullptr, "this version is not known"};
  return {PythonWay::kApi, minor, nullptr, kOnlyWithGil};
}

}  // namespace uvmtrace
