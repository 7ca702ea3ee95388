// Where the bytes of a chunk's frame stand. proto/FORMAT.md has the picture and the rules of reading.
//
//   0A LL LL LL LL LL | 09 magic(8) | 15 crc32c(4) | 19 run_id(8) | 21 sequence(8) | everything else
//   offset 0            6             15             20             29               38
//
// The length is a varint padded to five bytes and the four fields that follow have fixed sizes, so the run id of a file
// can be read, and a reader can find its feet after damage, without parsing protobuf.
#pragma once

#include <cstddef>
#include <cstdint>

#include "record/wire.h"

namespace uvmtrace {

inline constexpr uint8_t kChunkTag = 0x0a;  // Trace.chunk
inline constexpr uint8_t kMagicTag = 0x09;
inline constexpr uint8_t kCrcTag = 0x15;
inline constexpr uint8_t kRunIdTag = 0x19;
inline constexpr uint8_t kSequenceTag = 0x21;
inline constexpr uint8_t kMagic[8] = {'U', 'V', 'M', 'T', 'R', 'C', 0x01, 0x0a};

inline constexpr size_t kChunkBodyOffset = 6;
inline constexpr size_t kMagicOffset = 7;
inline constexpr size_t kCrcOffset = 16;
inline constexpr size_t kCheckedOffset = 20;  // the CRC covers everything from here to the end of the chunk
inline constexpr size_t kRunIdOffset = 21;
inline constexpr size_t kSequenceOffset = 30;
inline constexpr size_t kChunkFrameBytes = 38;

inline constexpr size_t kTargetChunkBytes = 256 * 1024;
inline constexpr uint64_t kDefinitionsRestartBytes = 64ull * 1024 * 1024;

// Chunk.*, without the event kinds: these are in proto/events.inc.
namespace chunk_field {
inline constexpr uint32_t kWrittenNs = 5;
inline constexpr uint32_t kDefinitionsRestart = 6;
inline constexpr uint32_t kEnd = 7;
inline constexpr uint32_t kProcess = 8;
inline constexpr uint32_t kString = 9;
inline constexpr uint32_t kFunction = 10;
inline constexpr uint32_t kMapping = 11;
inline constexpr uint32_t kStack = 12;
inline constexpr uint32_t kThread = 13;
inline constexpr uint32_t kDevice = 14;
inline constexpr uint32_t kKernelThread = 15;
inline constexpr uint32_t kParameter = 16;
inline constexpr uint32_t kSourceState = 17;
inline constexpr uint32_t kLoss = 18;
inline constexpr uint32_t kDetailChange = 19;
inline constexpr uint32_t kKernelStack = 20;
inline constexpr uint32_t kCode = 21;
inline constexpr uint32_t kAuditCount = 22;
inline constexpr uint32_t kManagedVariable = 23;
inline constexpr uint32_t kMemoryArea = 24;
}  // namespace chunk_field

// Writes the fixed part over the first kChunkFrameBytes of an encoded chunk of `size` bytes. The CRC comes last.
inline void PutChunkFrame(uint8_t* chunk, size_t size, uint64_t run_id, uint64_t sequence) {
  chunk[0] = kChunkTag;
  PutPaddedVarint(chunk + 1, static_cast<uint32_t>(size - kChunkBodyOffset));
  chunk[kMagicOffset - 1] = kMagicTag;
  memcpy(chunk + kMagicOffset, kMagic, sizeof(kMagic));
  chunk[kCrcOffset - 1] = kCrcTag;
  chunk[kRunIdOffset - 1] = kRunIdTag;
  PutFixed64(chunk + kRunIdOffset, run_id);
  chunk[kSequenceOffset - 1] = kSequenceTag;
  PutFixed64(chunk + kSequenceOffset, sequence);
}

}  // namespace uvmtrace
