// See crc32c.h.
#include "record/crc32c.h"

#include <string.h>

#include <array>

#if defined(__x86_64__)
#include <cpuid.h>
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

namespace uvmtrace {
namespace {

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

#if defined(__x86_64__)
// 5 GB/s: a hundred times what the writer produces, so the three-way interleaved form is not worth its code.
__attribute__((target("sse4.2"))) uint32_t Crc32cHardware(const uint8_t* data, size_t size) {
  uint64_t crc = 0xffffffffu;
  for (; size >= 8; size -= 8, data += 8) {
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    crc = _mm_crc32_u64(crc, word);
  }
  uint32_t crc32 = static_cast<uint32_t>(crc);
  for (; size != 0; --size, ++data) crc32 = _mm_crc32_u8(crc32, *data);
  return ~crc32;
}

bool HasSse42() {
  unsigned int eax = 0;
  unsigned int ebx = 0;
  unsigned int ecx = 0;
  unsigned int edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_SSE4_2) != 0;
}
#define UVMTRACE_HARDWARE_CRC32C HasSse42()
#elif defined(__aarch64__)
__attribute__((target("+crc"))) uint32_t Crc32cHardware(const uint8_t* data, size_t size) {
  uint32_t crc = 0xffffffffu;
  for (; size >= 8; size -= 8, data += 8) {
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    crc = __crc32cd(crc, word);
  }
  for (; size != 0; --size, ++data) crc = __crc32cb(crc, *data);
  return ~crc;
}

constexpr unsigned long kHwcapCrc32 = 1ul << 7;  // HWCAP_CRC32
#define UVMTRACE_HARDWARE_CRC32C ((getauxval(AT_HWCAP) & kHwcapCrc32) != 0)
#endif

}  // namespace

uint32_t Crc32cSoftware(const void* data, size_t size) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < size; ++i) crc = (crc >> 8) ^ kTable[(crc ^ bytes[i]) & 0xff];
  return ~crc;
}

uint32_t Crc32c(const void* data, size_t size) {
#if defined(UVMTRACE_HARDWARE_CRC32C)
  // CPUID is a few hundred cycles (more under a hypervisor), once a chunk: no cache, so no guard variable.
  if (UVMTRACE_HARDWARE_CRC32C) return Crc32cHardware(static_cast<const uint8_t*>(data), size);
#endif
  return Crc32cSoftware(data, size);
}

}  // namespace uvmtrace
