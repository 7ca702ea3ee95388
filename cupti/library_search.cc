// See library_search.h.
#include "cupti/library_search.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string_view>

namespace uvmtrace {
namespace {

// Folders of libcupti relative to the folder of libcudart: the same one, the toolkit's, and those of pip's nvidia
// packages (nvidia/cuda_runtime/lib and nvidia/cuda_cupti/lib; nvidia/cu13/lib holds both).
constexpr const char* kBesideCudart[] = {"", "/../extras/CUPTI/lib64", "/../../cuda_cupti/lib", "/../../cu13/lib"};
constexpr const char* kInToolkit[] = {"/extras/CUPTI/lib64", "/lib64"};

bool IsCuptiFile(std::string_view path) {
  std::string_view name = path;
  name.remove_prefix(path.rfind('/') + 1);  // npos + 1 is 0. substr would bring an exception along
  // "libcupti-0123abcd.so.12" is how wheels rename a bundled library.
  return name.starts_with("libcupti.so") || (name.starts_with("libcupti-") && name.find(".so") != name.npos);
}

// The libraries' names, that of libcudart's major version first: libcupti 13 needs a newer driver than CUDA 12 does.
struct Names {
  const char* names[3];
};
Names NamesFor(const char* cudart_path) {
  const char* found = cudart_path == nullptr ? nullptr : strstr(cudart_path, "libcudart.so.12");
  if (found != nullptr) return {{"libcupti.so.12", "libcupti.so.13", "libcupti.so"}};
  return {{"libcupti.so.13", "libcupti.so.12", "libcupti.so"}};
}

class Search {
 public:
  Search(CuptiLibrary* library, const Names& names) : library_(library), names_(names) {}

  bool TryFolder(const char* folder) {
    for (const char* name : names_.names) {
      char path[sizeof library_->path];
      const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
      if (length < 0 || static_cast<size_t>(length) >= sizeof path || access(path, R_OK) != 0) continue;
      if (TryOpen(path, RTLD_LAZY | RTLD_LOCAL)) return true;
    }
    return false;
  }

  bool TryFolders(const char* base, const char* const* below, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      char folder[sizeof library_->path];
      const int length = snprintf(folder, sizeof folder, "%s%s", base, below[i]);
      if (length > 0 && static_cast<size_t>(length) < sizeof folder && TryFolder(folder)) return true;
    }
    return false;
  }

  bool TryLoaderPath() {
    for (const char* name : names_.names) {
      if (TryOpen(name, RTLD_LAZY | RTLD_LOCAL)) return true;
    }
    return false;
  }

  bool TryOpen(const char* path, int flags) {
    void* handle = dlopen(path, flags);
    if (handle == nullptr) {
      // The last reason is kept: of a file that exists and does not load it says what is missing.
      const char* error = dlerror();
      if (error != nullptr) snprintf(library_->failure, sizeof library_->failure, "%s", error);
      return false;
    }
    library_->handle = handle;
    library_->failure[0] = '\0';
    const link_map* opened = nullptr;  // the loader knows which file a bare name led to
    const bool known = dlinfo(handle, RTLD_DI_LINKMAP, &opened) == 0 && opened != nullptr && opened->l_name[0] != '\0';
    snprintf(library_->path, sizeof library_->path, "%s", known ? opened->l_name : path);
    return true;
  }

 private:
  CuptiLibrary* library_;
  Names names_;
};

}  // namespace

int FindMappedCupti(const char* maps_path, char* path, size_t path_size) {
  path[0] = '\0';
  const int fd = open(maps_path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  int files = 0;
  char last[512] = {};
  char buffer[8192];
  size_t filled = 0;
  while (true) {
    const ssize_t got = read(fd, buffer + filled, sizeof buffer - filled);
    if (got <= 0) break;
    filled += static_cast<size_t>(got);
    size_t start = 0;
    while (const void* newline = memchr(buffer + start, '\n', filled - start)) {
      const size_t end = static_cast<size_t>(static_cast<const char*>(newline) - buffer);
      std::string_view line(buffer + start, end - start);
      start = end + 1;
      const size_t slash = line.find('/');
      if (slash == std::string_view::npos) continue;
      line.remove_prefix(slash);
      if (line.ends_with(" (deleted)") || !IsCuptiFile(line) || line.size() >= sizeof last || line == last) continue;
      memcpy(last, line.data(), line.size());
      last[line.size()] = '\0';
      if (files++ == 0) snprintf(path, path_size, "%s", last);
    }
    // A line longer than the buffer is no libcupti of ours: drop it.
    if (start == 0 && filled == sizeof buffer) start = filled;
    memmove(buffer, buffer + start, filled - start);
    filled -= start;
  }
  close(fd);
  return files;
}

void FindCupti(const char* cudart_path, bool simulated, CuptiLibrary* library) {
  *library = CuptiLibrary{};
  Search search(library, NamesFor(cudart_path));
  if (simulated && search.TryLoaderPath()) return;

  char mapped[sizeof library->path];
  const int files = FindMappedCupti("/proc/self/maps", mapped, sizeof mapped);
  if (files > 0 &&
      (search.TryOpen(mapped, RTLD_LAZY | RTLD_NOLOAD) || search.TryOpen(mapped, RTLD_LAZY | RTLD_LOCAL))) {
    library->mapped_others = files - 1;
    return;
  }
  if (cudart_path != nullptr) {
    const char* slash = strrchr(cudart_path, '/');
    char folder[sizeof library->path];
    if (slash != nullptr && static_cast<size_t>(slash - cudart_path) < sizeof folder) {
      const size_t length = static_cast<size_t>(slash - cudart_path);
      memcpy(folder, cudart_path, length);
      folder[length] = '\0';
      if (search.TryFolders(folder, kBesideCudart, std::size(kBesideCudart))) return;
    }
  }
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    const char* base = getenv(variable);
    if (base != nullptr && base[0] != '\0' && search.TryFolders(base, kInToolkit, std::size(kInToolkit))) return;
  }
  if (search.TryFolders("/usr/local/cuda", kInToolkit, std::size(kInToolkit))) return;
  if (!simulated) search.TryLoaderPath();
  dlerror();  // our failures are not the host's to read
}

}  // namespace uvmtrace
