// A queue of records of different sizes from one thread to the writer.
//
//   [header 8 | event | tail] [header | event] ... [filler to the end]  wraps to the start
//
// One producer, one consumer. Records are contiguous: one that does not fit before the end of the memory is preceded by
// a filler and starts at the beginning. A record becomes visible as a whole, by one release store of the head, so a
// producer that is killed half way leaves nothing torn. The producer never waits: when the ring is full the event is
// counted as lost, by type, and dropped. A signal handler that interrupts Push on the same thread and pushes too is
// counted as lost, because its record would lie inside the unfinished one. A handler that leaves Push by siglongjmp
// leaves the ring unfinished for ever: the thread then gets another ring (WasLeft).
#pragma once

#include <string.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "record/event.h"

namespace uvmtrace {

struct RecordHeader {
  uint32_t bytes;        // of the whole record, with this header; a multiple of 8
  uint16_t event_bytes;  // what follows them, up to `bytes`, is the tail
  uint8_t type;          // EventType; 0 is a filler
  uint8_t reserved;
};
static_assert(sizeof(RecordHeader) == 8);

class Ring {
 public:
  enum class LossReason : uint8_t { kFull = 0, kInterrupted = 1 };
  static constexpr int kLossReasonCount = 2;

  // `memory` is 8-byte aligned; `capacity` a power of two. Both stay until the end of the process.
  void Initialize(void* memory, size_t capacity) {
    data_ = static_cast<uint8_t*>(memory);
    capacity_ = capacity;
  }

  size_t capacity() const { return capacity_; }

  enum class PushResult : uint8_t { kPushed, kPushedMoreThanHalfFull, kLost, kInterrupted };

  // Producer. `event_bytes` is a multiple of 8; `frame` is where the caller stands on its stack. kInterrupted: another
  // Push is unfinished, and nothing has been counted.
  PushResult Push(EventType type, const void* event, size_t event_bytes, std::span<const uint64_t> tail,
                  uintptr_t frame = 1) {
    if (busy_frame_.load(std::memory_order_relaxed) != 0) return PushResult::kInterrupted;
    busy_frame_.store(frame, std::memory_order_relaxed);
    interruptions_ = 0;
    std::atomic_signal_fence(std::memory_order_seq_cst);

    const size_t bytes = sizeof(RecordHeader) + event_bytes + tail.size_bytes();
    const uint64_t head = head_.load(std::memory_order_relaxed);
    const size_t offset = head & (capacity_ - 1);
    const size_t filler = bytes > capacity_ - offset ? capacity_ - offset : 0;
    PushResult result;
    if (head + filler + bytes - known_consumed_ > capacity_)
      known_consumed_ = consumed_.load(std::memory_order_acquire);
    const uint64_t used = head + filler + bytes - known_consumed_;
    if (used > capacity_ || bytes > capacity_ / 2) {
      result = Lose(LossReason::kFull, type);
    } else {
      if (filler != 0) {
        const RecordHeader skip = {static_cast<uint32_t>(filler), 0, 0, 0};
        memcpy(data_ + offset, &skip, sizeof(skip));
      }
      uint8_t* out = data_ + ((head + filler) & (capacity_ - 1));
      const RecordHeader header = {static_cast<uint32_t>(bytes), static_cast<uint16_t>(event_bytes),
                                   static_cast<uint8_t>(type), 0};
      memcpy(out, &header, sizeof(header));
      memcpy(out + sizeof(header), event, event_bytes);
      if (!tail.empty()) memcpy(out + sizeof(header) + event_bytes, tail.data(), tail.size_bytes());
      head_.store(head + filler + bytes, std::memory_order_release);
      // known_consumed_ may be old: look again before claiming that the writer is behind.
      result = PushResult::kPushed;
      if (used > capacity_ / 2) {
        known_consumed_ = consumed_.load(std::memory_order_acquire);
        if (head + filler + bytes - known_consumed_ > capacity_ / 2) result = PushResult::kPushedMoreThanHalfFull;
      }
    }

    std::atomic_signal_fence(std::memory_order_seq_cst);
    busy_frame_.store(0, std::memory_order_relaxed);
    return result;
  }

  // Producer, after kInterrupted: whether the unfinished Push will not go on. What is called now does not stand beneath
  // it on the stack, or it has been unfinished for too many events. That is a guess (there are stacks for signal
  // handlers), so a ring that was left must not be used again.
  bool WasLeft(uintptr_t frame) {
    return frame >= busy_frame_.load(std::memory_order_relaxed) || ++interruptions_ > kMostInterruptions;
  }

  // Producer: counts an event that is not pushed.
  PushResult Lose(LossReason reason, EventType type) {
    lost_[static_cast<int>(reason)][static_cast<int>(type)].fetch_add(1, std::memory_order_relaxed);
    return PushResult::kLost;
  }

  // Consumer.
  uint64_t head() const { return head_.load(std::memory_order_acquire); }
  uint64_t consumed() const { return consumed_.load(std::memory_order_relaxed); }

  // Calls visit(type, event, event_bytes, tail, tail_words) for each record up to `until`, an earlier value of head().
  // The pointers are 8-byte aligned and valid during the call.
  template <typename Visit>
  void Drain(uint64_t until, Visit&& visit) {
    uint64_t position = consumed_.load(std::memory_order_relaxed);
    while (position < until) {
      const uint8_t* record = data_ + (position & (capacity_ - 1));
      RecordHeader header;
      memcpy(&header, record, sizeof(header));
      if (header.type != 0) {
        const uint8_t* event = record + sizeof(header);
        visit(static_cast<EventType>(header.type), event, size_t{header.event_bytes},
              reinterpret_cast<const uint64_t*>(event + header.event_bytes),
              (header.bytes - sizeof(header) - header.event_bytes) / sizeof(uint64_t));
      }
      position += header.bytes;
      // Handed back record by record: a producer that is waiting for nothing but room gets it early.
      consumed_.store(position, std::memory_order_release);
    }
  }

  // What was lost since the last call.
  uint64_t TakeLost(LossReason reason, EventType type) {
    std::atomic<uint64_t>& lost = lost_[static_cast<int>(reason)][static_cast<int>(type)];
    return lost.load(std::memory_order_relaxed) == 0 ? 0 : lost.exchange(0, std::memory_order_relaxed);
  }

 private:
  static constexpr uint32_t kMostInterruptions = 64;

  // The producer's words and the consumer's are on lines of their own, two lines apart for the adjacent-line
  // prefetcher.
  uint8_t* data_ = nullptr;
  size_t capacity_ = 0;
  std::atomic<uint64_t> head_{0};
  uint64_t known_consumed_ = 0;
  std::atomic<uintptr_t> busy_frame_{0};  // of the Push that is under way
  uint32_t interruptions_ = 0;             // of that Push
  std::atomic<uint64_t> lost_[kLossReasonCount][kEventTypeCount] = {};
  alignas(128) std::atomic<uint64_t> consumed_{0};
};

}  // namespace uvmtrace
