// See clock_watch.h.
#include "cupti/clock_watch.h"

#include <stdio.h>
#include <time.h>

#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr uint64_t kSamplePeriodNs = 1'000'000'000;
constexpr int64_t kJumpNs = 1'000'000;

int64_t Offset(uint64_t a, uint64_t b) { return static_cast<int64_t>(a - b); }
bool Near(uint64_t a, uint64_t b) { return Offset(a, b) < kJumpNs && Offset(b, a) < kJumpNs; }

bool Moved(int64_t before, int64_t after) { return after - before > kJumpNs || before - after > kJumpNs; }

}  // namespace

ClockWatch::Reading ClockWatch::Read(const CuptiApi* api) {
  return ReadClocks([api] {
    uint64_t cupti_ns = 0;
    return api != nullptr && api->GetTimestamp(&cupti_ns) == CUPTI_SUCCESS ? cupti_ns : 0;
  });
}

ClockWatch::Base ClockWatch::BaseOf(const Reading& reading) const {
  // Soon after boot two of the system's clocks may agree: then nothing has changed.
  if (base_ == Base::kMonotonic && Near(reading.other_ns, reading.monotonic_ns)) return base_;
  if (Near(reading.other_ns, reading.realtime_ns)) return Base::kRealtime;
  if (Near(reading.other_ns, reading.monotonic_raw_ns)) return Base::kMonotonicRaw;
  if (Near(reading.other_ns, reading.monotonic_ns)) return Base::kMonotonic;
  return Base::kOther;
}

bool ClockWatch::IsReplaced(const CuptiApi& api) {
  const Reading reading = Read(&api);
  return reading.other_ns != 0 && ClockWatch().BaseOf(reading) == Base::kOther;
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
  const bool trusted = now.width_ns < static_cast<uint64_t>(kJumpNs) / 4;  // else the thread was kept off its CPU
  const bool jumped =
      sampled_ && trusted &&
      (Moved(Offset(last_.realtime_ns, last_.monotonic_ns), Offset(now.realtime_ns, now.monotonic_ns)) ||
       Moved(Offset(last_.other_ns, last_.monotonic_ns), Offset(now.other_ns, now.monotonic_ns)));
  auto record = [](const Reading& reading) {
    ClockSampleEvent event;
    event.monotonic_ns = reading.monotonic_ns;
    event.realtime_ns = reading.realtime_ns;
    event.monotonic_raw_ns = reading.monotonic_raw_ns;
    event.cupti_ns = reading.other_ns;
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
  if (api == nullptr || now.other_ns == 0) return;
  // A clock that runs at another rate than MONOTONIC drifts against it; only the base is told, not each step.
  const Base base = BaseOf(now);
  if (base != base_) {
    TellBase(base);
    base_ = base;
  }
}

}  // namespace uvmtrace
