// From the bytes of a trace file to its intact chunks, in the order of the file.
//
//   chunk := 0x0A  length (varint, the recorder pads it to 5 bytes)  body
//   body  := 0x09 magic(8)  0x15 crc32c(4)  0x19 run_id(8)  0x21 sequence(8)  fields...
//
// The CRC covers every byte of the body after the CRC. The rules of reading, in proto/FORMAT.md in full:
//   - a frame that runs past the end of the file, with nothing readable after it, is a torn tail: the file ends there;
//   - any other frame that does not check out is skipped up to the next magic that heads an intact frame;
//   - a gap in the sequence is chunks that are missing;
//   - nothing of this is an error; it is counted.
// The file is read with pread in blocks, never mapped: a file that another program truncates would kill us with SIGBUS.
// Its size is read once, so that a file that is still growing is read up to what it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "analyzer/read/read_budget.h"
#include "analyzer/read/status.h"

namespace uvmtrace::analyzer {

struct ReadStatistics {
  uint64_t file_bytes = 0;
  uint64_t chunks = 0;      // intact
  uint64_t bad_chunks = 0;  // whose bytes are damaged, and chunks missing from the sequence
  uint64_t torn_bytes = 0;  // that belong to no readable chunk
};

// An intact frame. Views are valid until the next call of ChunkReader::Next.
struct ChunkFrame {
  uint64_t offset = 0;  // of the frame in the file
  uint64_t run_id = 0;
  uint64_t sequence = 0;
  uint64_t fields_offset = 0;  // in the file
  std::string_view fields;     // the body after the four framing fields
};

class ChunkReader {
 public:
  ChunkReader() = default;
  ~ChunkReader();
  ChunkReader(const ChunkReader&) = delete;
  ChunkReader& operator=(const ChunkReader&) = delete;

  // Fails if the file cannot be opened, is no regular file, or is empty.
  Status Open(const std::string& path);

  // What looking for the next intact chunk after damage may cost. Without one it may cost anything.
  void SetBudget(ReadBudget* budget) { budget_ = budget; }

  // Moves to the next intact chunk. False at the end of the file; then statistics() are final and Finish() says whether
  // this was a trace at all.
  bool Next(ChunkFrame* frame);

  // The chunk that Next returned last cannot be decoded: it counts as bad.
  void RejectLast();

  // After Next returned false: an error if no chunk could be read, saying why.
  Status Finish() const;

  const ReadStatistics& statistics() const { return statistics_; }
  const std::string& path() const { return path_; }

 private:
  enum class FrameState { kIntact, kDamaged, kPastEnd, kLaterVersion };
  struct Frame {
    FrameState state = FrameState::kDamaged;
    uint64_t bytes = 0;  // of the whole frame, if intact
    unsigned char version = 0;
    size_t header_bytes = 0;  // tag and length
  };

  // Makes [offset, offset + size) available at the returned view; shorter at the end of the file.
  std::string_view Window(uint64_t offset, size_t size);
  Frame CheckFrame(uint64_t offset);
  // The next offset >= from at which an intact frame starts, or the end of the file.
  uint64_t Resynchronize(uint64_t from);
  bool OnlyZeros(uint64_t from);

  ReadBudget* budget_ = nullptr;
  std::string path_;
  int file_ = -1;
  std::vector<char> buffer_;
  uint64_t buffer_offset_ = 0;
  size_t buffer_size_ = 0;
  uint64_t position_ = 0;
  uint64_t expected_sequence_ = 0;
  uint64_t damaged_since_good_ = 0;  // regions skipped since the last intact chunk
  uint64_t last_frame_bytes_ = 0;
  unsigned char later_version_ = 0;
  bool saw_magic_ = false;
  int read_error_ = 0;
  uint64_t read_error_offset_ = 0;
  ReadStatistics statistics_;
};

}  // namespace uvmtrace::analyzer
