#include "analyzer/read/chunk_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "analyzer/read/crc32c.h"

namespace uvmtrace::analyzer {
namespace {

constexpr char kMagic[] = "UVMTRC\x01\x0a";
constexpr size_t kMagicBytes = 8;
constexpr size_t kMagicVersionIndex = 6;
constexpr unsigned char kTagChunk = 0x0a;
constexpr unsigned char kTagMagic = 0x09;
constexpr unsigned char kTagCrc = 0x15;
constexpr unsigned char kTagRunId = 0x19;
constexpr unsigned char kTagSequence = 0x21;
constexpr size_t kAfterCrc = 1 + 8 + 1 + 4;
constexpr size_t kFramingBytes = kAfterCrc + 1 + 8 + 1 + 8;
constexpr size_t kMaximumLengthBytes = 5;
// The recorder writes chunks of about 256 KiB; a length beyond this is damage, not a chunk to allocate memory for.
constexpr uint64_t kMaximumChunkBytes = uint64_t{64} << 20;
constexpr size_t kBlockBytes = size_t{1} << 20;
// Small, so that looking on after a magic that heads no intact frame does not move a whole block.
constexpr size_t kSearchBytes = size_t{64} << 10;

uint64_t LittleEndian(std::string_view bytes, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

// Number of bytes of the varint, 0 if it does not end within `bytes` or within five bytes.
size_t ReadLength(std::string_view bytes, uint64_t* value) {
  *value = 0;
  for (size_t i = 0; i < bytes.size() && i < kMaximumLengthBytes; ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    *value |= uint64_t{byte & 0x7fu} << (7 * i);
    if ((byte & 0x80) == 0) return i + 1;
  }
  return 0;
}

}  // namespace

ChunkReader::~ChunkReader() {
  if (file_ >= 0) close(file_);
}

Status ChunkReader::Open(const std::string& path) {
  path_ = path;
  file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file_ < 0) {
    const int error = errno;
    if (error == ENOENT) {
      return Status::Error(fmt::format(
          "{}: there is no such file. Record one with LD_PRELOAD=libuvmtrace.so, or give the path in UVMTRACE_OUT.",
          path));
    }
    return Status::Error(
        fmt::format("{}: cannot be opened: {}. Check the path and its permissions.", path, std::strerror(error)));
  }
  struct stat information {};
  if (fstat(file_, &information) != 0) {
    return Status::Error(fmt::format("{}: cannot be examined: {}. Check the file system.", path, std::strerror(errno)));
  }
  if (!S_ISREG(information.st_mode)) {
    return Status::Error(
        fmt::format("{}: is not a regular file. Give the trace file itself; save a stream to a file first.", path));
  }
  statistics_.file_bytes = static_cast<uint64_t>(information.st_size);
  if (statistics_.file_bytes == 0) {
    return Status::Error(fmt::format(
        "{}: is empty. The traced program wrote nothing: see its \"uvmtrace:\" lines on stderr (UVMTRACE_LOG=info).",
        path));
  }
  return Status::Ok();
}

std::string_view ChunkReader::Window(uint64_t offset, size_t size) {
  if (offset >= statistics_.file_bytes) return {};
  size = static_cast<size_t>(std::min<uint64_t>(size, statistics_.file_bytes - offset));
  if (offset < buffer_offset_ || offset + size > buffer_offset_ + buffer_size_) {
    const size_t wanted =
        static_cast<size_t>(std::min<uint64_t>(std::max(size, kBlockBytes), statistics_.file_bytes - offset));
    // What is already here is kept: frames straddle blocks all the time.
    size_t kept = 0;
    if (offset >= buffer_offset_ && offset < buffer_offset_ + buffer_size_) {
      kept = static_cast<size_t>(buffer_offset_ + buffer_size_ - offset);
      std::memmove(buffer_.data(), buffer_.data() + (offset - buffer_offset_), kept);
    }
    if (buffer_.size() < wanted) buffer_.resize(wanted);
    buffer_offset_ = offset;
    buffer_size_ = kept;
    while (buffer_size_ < wanted) {
      const ssize_t got =
          pread(file_, buffer_.data() + buffer_size_, wanted - buffer_size_, static_cast<off_t>(offset + buffer_size_));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        // A shrinking file or a failing disk ends the trace here, as a torn tail does.
        read_error_ = got < 0 ? errno : 0;
        read_error_offset_ = offset + buffer_size_;
        break;
      }
      buffer_size_ += static_cast<size_t>(got);
    }
  }
  const size_t skip = static_cast<size_t>(offset - buffer_offset_);
  if (skip >= buffer_size_) return {};
  return {buffer_.data() + skip, std::min(size, buffer_size_ - skip)};
}

ChunkReader::Frame ChunkReader::CheckFrame(uint64_t offset) {
  Frame frame;
  const std::string_view head = Window(offset, 1 + kMaximumLengthBytes + kFramingBytes);
  if (head.empty() || static_cast<unsigned char>(head[0]) != kTagChunk) return frame;
  uint64_t length = 0;
  const size_t length_bytes = ReadLength(head.substr(1), &length);
  if (length_bytes == 0) {
    if (head.size() <= kMaximumLengthBytes) frame.state = FrameState::kPastEnd;
    return frame;
  }
  if (length > kMaximumChunkBytes || length < kFramingBytes) return frame;
  frame.header_bytes = 1 + length_bytes;
  frame.bytes = frame.header_bytes + length;
  if (frame.bytes > statistics_.file_bytes - offset) {
    frame.state = FrameState::kPastEnd;
    return frame;
  }
  const std::string_view body = Window(offset, static_cast<size_t>(frame.bytes)).substr(frame.header_bytes);
  if (body.size() < length) {
    frame.state = FrameState::kPastEnd;
    return frame;
  }
  if (static_cast<unsigned char>(body[0]) != kTagMagic || static_cast<unsigned char>(body[9]) != kTagCrc) return frame;
  const std::string_view magic = body.substr(1, kMagicBytes);
  const bool same_family = magic.substr(0, kMagicVersionIndex) == std::string_view(kMagic, kMagicVersionIndex) &&
                           magic[kMagicBytes - 1] == kMagic[kMagicBytes - 1];
  if (!same_family) return frame;
  const auto crc = static_cast<uint32_t>(LittleEndian(body.substr(10), 4));
  if (Crc32c(body.data() + kAfterCrc, body.size() - kAfterCrc) != crc) {
    // Bytes can claim a long chunk every few bytes.
    if (budget_ != nullptr) budget_->Take(Spending::kChecksumBytes, body.size());
    return frame;
  }
  frame.version = static_cast<unsigned char>(magic[kMagicVersionIndex]);
  if (frame.version != static_cast<unsigned char>(kMagic[kMagicVersionIndex])) {
    frame.state = FrameState::kLaterVersion;
    return frame;
  }
  if (static_cast<unsigned char>(body[kAfterCrc]) != kTagRunId ||
      static_cast<unsigned char>(body[kAfterCrc + 9]) != kTagSequence) {
    return frame;
  }
  frame.state = FrameState::kIntact;
  return frame;
}

uint64_t ChunkReader::Resynchronize(uint64_t from) {
  uint64_t search = from;
  while (search < statistics_.file_bytes) {
    if (budget_ != nullptr && budget_->left(Spending::kChecksumBytes) == 0) break;
    const std::string_view window = Window(search, kSearchBytes);
    if (window.size() < kMagicBytes) break;
    const void* found = memmem(window.data(), window.size(), kMagic, kMagicBytes);
    if (found == nullptr) {
      if (search + window.size() >= statistics_.file_bytes) break;
      search += window.size() - (kMagicBytes - 1);
      continue;
    }
    saw_magic_ = true;
    const uint64_t magic = search + static_cast<uint64_t>(static_cast<const char*>(found) - window.data());
    // The tag of the magic, the length (padded to five bytes, but a plain varint will do) and the tag of the chunk.
    for (uint64_t length_bytes = kMaximumLengthBytes; length_bytes >= 1; --length_bytes) {
      if (magic < length_bytes + 2 + from) continue;
      const uint64_t start = magic - length_bytes - 2;
      const Frame frame = CheckFrame(start);
      if (frame.state == FrameState::kIntact && frame.header_bytes == length_bytes + 1) return start;
    }
    search = magic + 1;
  }
  return statistics_.file_bytes;
}

bool ChunkReader::OnlyZeros(uint64_t from) {
  while (from < statistics_.file_bytes) {
    const std::string_view window = Window(from, kBlockBytes);
    if (window.empty()) return true;
    if (window.find_first_not_of('\0') != std::string_view::npos) return false;
    from += window.size();
  }
  return true;
}

bool ChunkReader::Next(ChunkFrame* frame) {
  while (position_ < statistics_.file_bytes) {
    const Frame checked = CheckFrame(position_);
    if (checked.state != FrameState::kIntact) {
      if (checked.state == FrameState::kLaterVersion) later_version_ = checked.version;
      const uint64_t next = Resynchronize(position_ + 1);
      const bool tail = next >= statistics_.file_bytes;
      // A tail that was cut, or that a file system filled with zeros, is how a killed program's file ends; anything
      // else was a chunk once.
      const bool torn = tail && (checked.state == FrameState::kPastEnd || OnlyZeros(position_));
      if (!torn) ++damaged_since_good_;
      statistics_.torn_bytes += next - position_;
      position_ = next;
      continue;
    }
    const std::string_view body = Window(position_, static_cast<size_t>(checked.bytes)).substr(checked.header_bytes);
    frame->offset = position_;
    frame->run_id = LittleEndian(body.substr(kAfterCrc + 1), 8);
    frame->sequence = LittleEndian(body.substr(kAfterCrc + 10), 8);
    frame->fields = body.substr(kFramingBytes);
    frame->fields_offset = position_ + checked.header_bytes + kFramingBytes;
    saw_magic_ = true;
    position_ += checked.bytes;
    if (frame->sequence < expected_sequence_) {
      // The same chunk again, or another file's: its ids would be taken for ours.
      ++statistics_.bad_chunks;
      statistics_.torn_bytes += checked.bytes;
      continue;
    }
    // A damaged chunk leaves a gap in the sequence too: count it once.
    statistics_.bad_chunks += std::max(damaged_since_good_, frame->sequence - expected_sequence_);
    damaged_since_good_ = 0;
    expected_sequence_ = frame->sequence + 1;
    last_frame_bytes_ = checked.bytes;
    ++statistics_.chunks;
    return true;
  }
  statistics_.bad_chunks += damaged_since_good_;
  damaged_since_good_ = 0;
  return false;
}

void ChunkReader::RejectLast() {
  --statistics_.chunks;
  ++statistics_.bad_chunks;
  statistics_.torn_bytes += last_frame_bytes_;
}

Status ChunkReader::Finish() const {
  if (statistics_.chunks > 0) return Status::Ok();
  if (read_error_ != 0) {
    return Status::Error(fmt::format("{}: cannot be read at offset {}: {}. Check the disk, or copy the file first.",
                                     path_, read_error_offset_, std::strerror(read_error_)));
  }
  if (later_version_ != 0) {
    return Status::Error(
        fmt::format("{}: has trace format version {}; this uvmtrace-report reads version {}. Use the uvmtrace-report "
                    "of the version "
                    "that recorded it, or a later one.",
                    path_, later_version_, static_cast<int>(kMagic[kMagicVersionIndex])));
  }
  if (saw_magic_) {
    return Status::Error(
        fmt::format("{}: is a uvmtrace trace, but holds no complete, undamaged chunk ({} bytes). The program was "
                    "probably killed before "
                    "the first 100 ms were written, or the copy is incomplete: record or copy it again.",
                    path_, statistics_.file_bytes));
  }
  return Status::Error(
      fmt::format("{}: is not a uvmtrace trace: no chunk starts at offset 0 or anywhere after it. Give the file that "
                  "UVMTRACE_OUT named (default trace.pb).",
                  path_));
}

}  // namespace uvmtrace::analyzer
