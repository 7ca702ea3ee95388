// When migrations are recorded at the details "exact" and "sampled": short windows, one in each period.
//
//   |--------- period ---------|--------- period ---------|
//   ......[window]................................[window]..
//
// Where the window lies in its period is drawn at random, so that a program that repeats itself in step with the period
// is not always seen at the same place.
#pragma once

#include <cstdint>

namespace uvmtrace {

struct MigrationWindowPlan {
  uint64_t window_ns = 10'000'000;
  uint64_t period_ns = 200'000'000;  // 5 %
};

class MigrationWindows {
 public:
  void Start(const MigrationWindowPlan& plan, uint64_t now_ns, uint64_t seed) {
    plan_ = plan;
    random_ = seed | 1;
    period_start_ns_ = now_ns;
    open_ = false;
    PlaceWindow();
  }

  bool open() const { return open_; }
  // When Turn is due: at the start of the next window, or at the end of this one.
  uint64_t due_ns() const { return open_ ? close_ns_ : open_ns_; }

  // The window was opened, or closed, at `now_ns`, which may be later than planned. An open window has its full length.
  void Turn(uint64_t now_ns) {
    open_ = !open_;
    if (open_) {
      close_ns_ = now_ns + plan_.window_ns;
      return;
    }
    const uint64_t next_ns = period_start_ns_ + plan_.period_ns;
    // A thread that was kept from running skips periods: it does not make up for them by windows in a row.
    period_start_ns_ = next_ns > now_ns ? next_ns : now_ns;
    PlaceWindow();
  }

 private:
  void PlaceWindow() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    const uint64_t room_ns = plan_.period_ns > plan_.window_ns ? plan_.period_ns - plan_.window_ns : 1;
    open_ns_ = period_start_ns_ + (random_ >> 11) % room_ns;
  }

  MigrationWindowPlan plan_;
  uint64_t random_ = 1;
  uint64_t period_start_ns_ = 0;
  uint64_t open_ns_ = 0;
  uint64_t close_ns_ = 0;
  bool open_ = false;
};

}  // namespace uvmtrace
