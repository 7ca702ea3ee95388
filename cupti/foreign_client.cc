// See foreign_client.h.
#include "cupti/foreign_client.h"

#include <link.h>
#include <stdio.h>
#include <string.h>

#include "record/os/loader_work.h"

namespace uvmtrace {
namespace {

struct Client {
  const char* library;  // what its file's name begins with
  const char* name;
};
constexpr Client kClients[] = {
    {"libtorch_cpu.so", "torch.profiler"},
    {"libkineto", "torch.profiler"},
    {"_pywrap_tensorflow", "TensorFlow's profiler"},
    {"libtensorflow_framework", "TensorFlow's profiler"},
    {"xla_cuda_plugin", "JAX's profiler"},
    {"libjax_", "JAX's profiler"},
    {"libToolsInjection", "Nsight Systems"},
    {"libInjectionCupti", "Nsight Systems"},
    {"libcaliper", "Caliper"},
    {"libscorep", "Score-P"},
    {"libTAU", "TAU"},
    {"libhpcrun", "HPCToolkit"},
    {"libproton", "Triton's Proton"},
    {"libTracyClient", "Tracy"},
};

struct Found {
  char* text;
  size_t size;
  size_t used;
};

int Look(dl_phdr_info* info, size_t, void* data) {
  auto* const found = static_cast<Found*>(data);
  const char* const slash = strrchr(info->dlpi_name, '/');
  const char* const file = slash != nullptr ? slash + 1 : info->dlpi_name;
  for (const Client& client : kClients) {
    if (strncmp(file, client.library, strlen(client.library)) != 0) continue;
    if (strstr(found->text, client.name) != nullptr) break;
    const int length = snprintf(found->text + found->used, found->size - found->used, "%s%s (%s)",
                                found->used > 0 ? ", " : "", client.name, file);
    if (length > 0) found->used += static_cast<size_t>(length);
    if (found->used >= found->size) found->used = found->size - 1;
    break;
  }
  return 0;
}

}  // namespace

void FindCuptiClients(char* text, size_t size) {
  text[0] = '\0';
  Found found = {text, size, 0};
  const LoaderWork loader;
  dl_iterate_phdr(&Look, &found);
}

}  // namespace uvmtrace
