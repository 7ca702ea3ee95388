#include "preload/session/devices.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <iterator>

#include "driver/proc_file.h"
#include "preload/doors/resolve.h"
#include "record/recorder.h"
#include "sim/include/uvmsim_host.h"

namespace uvmtrace {
namespace {

constinit std::atomic<bool> pageable_memory_access{false};

// A driver function by its exported name, typed as the header declares it.
template <typename Function>
Function* Find(const char* name) {
  return reinterpret_cast<Function*>(DriverSymbol(name));
}
#define FIND(symbol) Find<decltype(symbol)>(#symbol)

int Attribute(CUdevice device, CUdevice_attribute attribute) {
  const auto get = FIND(cuDeviceGetAttribute);
  int value = 0;
  return get != nullptr && get(&value, attribute, device) == CUDA_SUCCESS ? value : 0;
}

// GT/s as sysfs has it ("32.0 GT/s PCIe") to a generation of PCIe.
uint32_t Generation(const char* speed) {
  constexpr int kTenthsOfGigatransfers[] = {25, 50, 80, 160, 320, 640};
  int whole = 0;
  int tenths = 0;
  if (sscanf(speed, "%d.%d", &whole, &tenths) != 2) return 0;
  for (uint32_t i = 0; i < std::size(kTenthsOfGigatransfers); ++i) {
    if (kTenthsOfGigatransfers[i] == whole * 10 + tenths) return i + 1;
  }
  return 0;
}

// The link as the kernel knows it: no library is needed, and a container sees it.
void ReadLink(const char* pci_bus_id, DeviceDefinition* definition) {
  const char* const root = SimulatorRoot();
  char id[32] = "";
  for (size_t i = 0; i + 1 < sizeof(id) && pci_bus_id[i] != '\0'; ++i) {
    id[i] = static_cast<char>(tolower(static_cast<unsigned char>(pci_bus_id[i])));
  }
  const auto read = [&](const char* name, char* text, size_t size) {
    char path[700];
    snprintf(path, sizeof(path), "%.500s/sys/bus/pci/devices/%s/%s", root != nullptr ? root : "", id, name);
    return id[0] != '\0' && ReadSmallFile(path, text, size) > 0;
  };
  char text[64];
  if (read("current_link_speed", text, sizeof(text))) definition->link_generation = Generation(text);
  if (read("max_link_speed", text, sizeof(text))) definition->link_generation_max = Generation(text);
  // 63 and more: the device does not tell.
  const auto width = [&](const char* name) {
    const long lanes = read(name, text, sizeof(text)) ? strtol(text, nullptr, 10) : 0;
    return lanes > 0 && lanes <= 32 ? static_cast<uint32_t>(lanes) : 0;
  };
  definition->link_width = width("current_link_width");
  definition->link_width_max = width("max_link_width");
  if (read("numa_node", text, sizeof(text))) {
    definition->host_numa_node = static_cast<int32_t>(strtol(text, nullptr, 10));
    definition->has_host_numa_node = definition->host_numa_node >= 0;
  }
}

void DefineDevice(int ordinal, CUdevice device) {
  char name[256] = "";
  char pci_bus_id[32] = "";
  CUuuid uuid{};
  size_t total = 0;
  if (const auto get = FIND(cuDeviceGetName)) get(name, sizeof(name), device);
  if (const auto get = FIND(cuDeviceGetPCIBusId)) get(pci_bus_id, sizeof(pci_bus_id), device);
  if (const auto get = FIND(cuDeviceTotalMem_v2)) get(&total, device);
  auto get_uuid = FIND(cuDeviceGetUuid_v2);
  if (get_uuid == nullptr) get_uuid = FIND(cuDeviceGetUuid);
  if (get_uuid != nullptr) get_uuid(&uuid, device);

  DeviceDefinition definition{};
  definition.ordinal = static_cast<uint32_t>(ordinal);
  definition.name = name;
  static_assert(sizeof(definition.uuid) == sizeof(uuid.bytes));
  memcpy(definition.uuid, uuid.bytes, sizeof(definition.uuid));
  definition.total_memory_bytes = total;
  definition.compute_capability =
      static_cast<uint32_t>(Attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) * 10 +
                            Attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
  definition.concurrent_managed_access = Attribute(device, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS) != 0;
  definition.pageable_memory_access = Attribute(device, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS) != 0;
  if (definition.pageable_memory_access) pageable_memory_access.store(true, std::memory_order_relaxed);
  definition.pci_bus_id = pci_bus_id;
  definition.integrated = Attribute(device, CU_DEVICE_ATTRIBUTE_INTEGRATED) != 0;
  definition.host_page_tables =
      Attribute(device, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES) != 0;
  ReadLink(pci_bus_id, &definition);
  Recorder::Get().DefineDevice(definition);
}

}  // namespace

CUresult DefineDevices() {
  const auto get_count = FIND(cuDeviceGetCount);
  const auto get = FIND(cuDeviceGet);
  if (get_count == nullptr || get == nullptr) return CUDA_ERROR_NOT_FOUND;
  int count = 0;
  const CUresult result = get_count(&count);
  if (result != CUDA_SUCCESS) return result;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    CUdevice device = 0;
    if (get(&device, ordinal) == CUDA_SUCCESS) DefineDevice(ordinal, device);
  }
  return CUDA_SUCCESS;
}

bool PageableMemoryAccess() { return pageable_memory_access.load(std::memory_order_relaxed); }

uint32_t DriverVersion() {
  const auto get = FIND(cuDriverGetVersion);
  int version = 0;
  return get != nullptr && get(&version) == CUDA_SUCCESS ? static_cast<uint32_t>(version) : 0;
}

void DescribeError(CUresult error, char* text, size_t size) {
  const char* name = nullptr;
  const auto get_name = FIND(cuGetErrorName);
  if (get_name == nullptr || get_name(error, &name) != CUDA_SUCCESS || name == nullptr) name = "CUresult";
  snprintf(text, size, "%s (%d)", name, static_cast<int>(error));
}

const char* SimulatorRoot() {
  const auto* const host = static_cast<const UvmsimHost*>(DriverSymbol("uvmsim_host"));
  return host != nullptr ? host->root : nullptr;
}

void KernelDriverVersion(char* text, size_t size) {
  text[0] = '\0';
  const int file = open("/sys/module/nvidia/version", O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  const ssize_t length = read(file, text, size - 1);
  close(file);
  text[length > 0 ? length : 0] = '\0';
  text[strcspn(text, "\n")] = '\0';
}

bool IsManagedAddress(uint64_t address) {
  const auto get = reinterpret_cast<decltype(&cuPointerGetAttribute)>(DriverSymbol("cuPointerGetAttribute"));
  unsigned managed = 0;
  return address != 0 && get != nullptr && get(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, address) == CUDA_SUCCESS &&
         managed != 0;
}

}  // namespace uvmtrace
