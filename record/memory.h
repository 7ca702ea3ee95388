// Memory of the recorder: pages from the kernel, never from the host's malloc, which may be replaced, locked or being
// traced. Nothing here is freed on destruction: the recorder outlives the host's exit handlers.
#pragma once

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace uvmtrace {

// No page of the kernel is larger, so that multiples of it are whole pages.
#if defined(__aarch64__)
inline constexpr size_t kPageBytes = 65536;
#else
inline constexpr size_t kPageBytes = 4096;
#endif

inline constexpr size_t RoundUpToPages(size_t bytes) { return (bytes + kPageBytes - 1) & ~(kPageBytes - 1); }

// Zeroed pages that cost nothing until they are touched; null without changing errno if there are none.
inline void* MapPages(size_t bytes) {
  const int saved_errno = errno;
  void* pages =
      mmap(nullptr, RoundUpToPages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  errno = saved_errno;
  return pages == MAP_FAILED ? nullptr : pages;
}

inline void UnmapPages(void* pages, size_t bytes) {
  const int saved_errno = errno;
  munmap(pages, RoundUpToPages(bytes));
  errno = saved_errno;
}

// An array that grows by moving pages (mremap), up to a limit. For one thread.
template <typename T>
class GrowableArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  constexpr explicit GrowableArray(size_t limit_bytes = SIZE_MAX / 2) : limit_bytes_(limit_bytes) {}

  size_t size() const { return size_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t index) { return data_[index]; }
  const T& operator[](size_t index) const { return data_[index]; }
  void Truncate(size_t size) { size_ = size; }

  void Free() {
    if (data_ != nullptr) UnmapPages(data_, capacity_bytes_);
    data_ = nullptr;
    size_ = capacity_ = capacity_bytes_ = 0;
  }

  // Makes room for `extra` more elements. False: no memory, or the limit; the array is as it was.
  bool Reserve(size_t extra) {
    if (size_ + extra <= capacity_) return true;
    size_t bytes = capacity_bytes_ == 0 ? 16 * kPageBytes : 2 * capacity_bytes_;
    const size_t needed_bytes = (size_ + extra) * sizeof(T);
    if (bytes < needed_bytes) bytes = RoundUpToPages(needed_bytes);
    if (bytes > limit_bytes_) bytes = limit_bytes_ / kPageBytes * kPageBytes;
    if (bytes < needed_bytes) return false;
    void* pages;
    if (data_ == nullptr) {
      pages = MapPages(bytes);
      if (pages == nullptr) return false;
    } else {
      const int saved_errno = errno;
      pages = mremap(data_, capacity_bytes_, bytes, MREMAP_MAYMOVE);
      errno = saved_errno;
      if (pages == MAP_FAILED) return false;
    }
    data_ = static_cast<T*>(pages);
    capacity_bytes_ = bytes;
    capacity_ = bytes / sizeof(T);
    return true;
  }

  bool Append(const T& value) {
    if (!Reserve(1)) return false;
    data_[size_++] = value;
    return true;
  }

  bool Append(const T* values, size_t count) {
    if (!Reserve(count)) return false;
    if (count != 0) memcpy(data_ + size_, values, count * sizeof(T));
    size_ += count;
    return true;
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
  size_t capacity_bytes_ = 0;
  size_t limit_bytes_;
};

}  // namespace uvmtrace
