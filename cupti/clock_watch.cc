// See clock_watch.h.
#include "cupti/clock_watch.h"

#include <stdio.h>
#include <time.h>

#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr uint64_t kSamplePeriodNs = 1'000'000'000;
constexpr int64_t kJumpNs = 1'000'000;
constexpr uint64_t kWideBracketNs = 20'000;
constexpr int kReadings = 4;

uint64_t ReadClock(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

int64_t Offset(uint64_t a, uint64_t b) { return static_cast<int64_t>(a - b); }
bool Near(uint64_t a, uint64_t b) { return Offset(a, b) < kJumpNs && Offset(b, a) < kJumpNs; }

bool Moved(int64_t before, int64_t after) { return after - before > kJumpNs || before - after > kJumpNs; }

}  // namespace

// The clocks are read between two readings of CLOCK_MONOTONIC whose middle stands for the instant. A thread that was
// interrupted in between tries again: the narrowest bracket wins.
ClockWatch::Reading ClockWatch::Read(const CuptiApi* api) {
  Reading best{};
  uint64_t best_width = UINT64_MAX;
  for (int i = 0; i < kReadings && best_width > kWideBracketNs; ++i) {
    Reading reading{};
    const uint64_t before = ReadClock(CLOCK_MONOTONIC);
    if (api != nullptr && api->GetTimestamp(&reading.cupti_ns) != CUPTI_SUCCESS) reading.cupti_ns = 0;
    reading.realtime_ns = ReadClock(CLOCK_REALTIME);
    reading.monotonic_raw_ns = ReadClock(CLOCK_MONOTONIC_RAW);
    const uint64_t after = ReadClock(CLOCK_MONOTONIC);
    reading.monotonic_ns = before + (after - before) / 2;
    if (after - before < best_width) {
      best_width = after - before;
      best = reading;
      best.bracket_ns = best_width;
    }
  }
  return best;
}

ClockWatch::Base ClockWatch::BaseOf(const Reading& reading) const {
  // Soon after boot two of the system's clocks may agree: then nothing has changed.
  if (base_ == Base::kMonotonic && Near(reading.cupti_ns, reading.monotonic_ns)) return base_;
  if (Near(reading.cupti_ns, reading.realtime_ns)) return Base::kRealtime;
  if (Near(reading.cupti_ns, reading.monotonic_raw_ns)) return Base::kMonotonicRaw;
  if (Near(reading.cupti_ns, reading.monotonic_ns)) return Base::kMonotonic;
  return Base::kOther;
}

bool ClockWatch::IsReplaced(const CuptiApi& api) {
  const Reading reading = Read(&api);
  return reading.cupti_ns != 0 && ClockWatch().BaseOf(reading) == Base::kOther;
}

void ClockWatch::TellBase(Base base) {
  static constexpr const char* kNames[] = {"", "CLOCK_REALTIME", "CLOCK_MONOTONIC_RAW", "CLOCK_MONOTONIC",
                                           "a clock that is none of the system's"};
  const char* name = kNames[static_cast<int>(base)];
  if (base_ == Base::kNotLooked) {
    Recorder::Get().SetSourceState("cupti.clock", SourceStateKind::kActive, name);
    return;
  }
  char reason[256];
  snprintf(
      reason, sizeof reason,
      "CUPTI's times changed from %s to %s: another CUPTI client of this process registered a clock; times of faults "
      "and migrations near the change may be off",
      kNames[static_cast<int>(base_)], name);
  Recorder::Get().SetSourceState("cupti.clock", SourceStateKind::kActive, reason);
}

void ClockWatch::Tick(const CuptiApi* api, bool force) {
  const Reading now = Read(api);
  const bool trusted = now.bracket_ns < static_cast<uint64_t>(kJumpNs) / 4;  // else the thread was kept off its CPU
  const bool jumped =
      sampled_ && trusted &&
      (Moved(Offset(last_.realtime_ns, last_.monotonic_ns), Offset(now.realtime_ns, now.monotonic_ns)) ||
       Moved(Offset(last_.cupti_ns, last_.monotonic_ns), Offset(now.cupti_ns, now.monotonic_ns)));
  auto record = [](const Reading& reading) {
    ClockSampleEvent event;
    event.monotonic_ns = reading.monotonic_ns;
    event.realtime_ns = reading.realtime_ns;
    event.monotonic_raw_ns = reading.monotonic_raw_ns;
    event.cupti_ns = reading.cupti_ns;
    Recorder::Get().Record(event);
  };
  if (jumped) record(previous_);  // the last instant at which the old relation was seen to hold
  if (!sampled_ || jumped || force || now.monotonic_ns - last_.monotonic_ns >= kSamplePeriodNs) {
    record(now);
    last_ = now;
    sampled_ = true;
  }
  if (!trusted) return;
  previous_ = now;
  if (api == nullptr || now.cupti_ns == 0) return;
  // A clock that runs at another rate than MONOTONIC drifts against it; only the base is told, not each step.
  const Base base = BaseOf(now);
  if (base != base_) {
    TellBase(base);
    base_ = base;
  }
}

}  // namespace uvmtrace
