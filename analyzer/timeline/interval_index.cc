#include "analyzer/timeline/interval_index.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

namespace uvmtrace::analyzer {

uint32_t NameSets::Intern(const std::vector<uint32_t>& names) {
  if (names.empty()) return kNone;
  const auto known = known_.find(names);
  if (known != known_.end()) return known->second;
  if (sets_.size() >= kMaximumSets) return kOthers;
  const auto set = static_cast<uint32_t>(sets_.size());
  sets_.push_back(names);
  known_.emplace(names, set);
  return set;
}

void IntervalIndex::Seal(NameSets* sets) {
  // Ends before starts: what ends where the next begins does not overlap it.
  std::sort(intervals_.begin(), intervals_.end(), [](const Interval& a, const Interval& b) {
    return std::tie(a.start_ns, a.end_ns, a.name) < std::tie(b.start_ns, b.end_ns, b.name);
  });
  std::vector<std::pair<uint64_t, uint32_t>> ends;  // heap, the earliest first
  const auto later = [](const auto& a, const auto& b) { return a > b; };
  std::map<uint32_t, uint32_t> running;  // name -> how many
  std::vector<uint32_t> names;
  const auto cut = [&](uint64_t time_ns) {
    names.clear();
    for (const auto& [name, count] : running) {
      if (names.size() == kMaximumShared) break;
      names.push_back(name);
    }
    const uint32_t set = sets->Intern(names);
    if (!segments_.empty() && segments_.back().start_ns == time_ns) {
      segments_.back().set = set;
    } else if (segments_.empty() || segments_.back().set != set) {
      segments_.push_back({time_ns, set});
    }
  };
  const auto end_until = [&](uint64_t time_ns) {
    while (!ends.empty() && ends.front().first <= time_ns) {
      const uint64_t at = ends.front().first;
      while (!ends.empty() && ends.front().first == at) {
        const auto known = running.find(ends.front().second);
        if (--known->second == 0) running.erase(known);
        std::pop_heap(ends.begin(), ends.end(), later);
        ends.pop_back();
      }
      cut(at);
    }
  };
  for (const Interval& interval : intervals_) {
    end_until(interval.start_ns);
    ++running[interval.name];
    ends.emplace_back(interval.end_ns, interval.name);
    std::push_heap(ends.begin(), ends.end(), later);
    cut(interval.start_ns);
  }
  end_until(~uint64_t{0});
  intervals_.clear();
  intervals_.shrink_to_fit();
}

uint64_t IntervalIndex::CoveredNs(uint64_t from_ns, uint64_t until_ns) const {
  auto next = std::upper_bound(segments_.begin(), segments_.end(), from_ns,
                               [](uint64_t wanted, const Segment& segment) { return wanted < segment.start_ns; });
  if (next != segments_.begin()) --next;
  uint64_t covered_ns = 0;
  for (; next != segments_.end() && next->start_ns < until_ns; ++next) {
    if (next->set == NameSets::kNone) continue;
    const uint64_t end_ns = next + 1 == segments_.end() ? until_ns : std::min(until_ns, (next + 1)->start_ns);
    const uint64_t start_ns = std::max(from_ns, next->start_ns);
    if (end_ns > start_ns) covered_ns += end_ns - start_ns;
  }
  return covered_ns;
}

void IntervalIndex::Coarsen(size_t maximum) {
  if (intervals_.size() <= maximum) return;
  std::sort(intervals_.begin(), intervals_.end(), [](const Interval& a, const Interval& b) {
    return std::tie(a.name, a.start_ns) < std::tie(b.name, b.start_ns);
  });
  // Those gaps go that are shorter than what keeps `maximum` intervals.
  std::vector<uint64_t> gaps;
  for (size_t i = 1; i < intervals_.size(); ++i) {
    if (intervals_[i].name != intervals_[i - 1].name) continue;
    const uint64_t end_ns = intervals_[i - 1].end_ns;
    gaps.push_back(intervals_[i].start_ns > end_ns ? intervals_[i].start_ns - end_ns : 0);
  }
  const size_t surplus = std::min(intervals_.size() - maximum, gaps.size());
  if (surplus == 0) return;
  std::nth_element(gaps.begin(), gaps.begin() + static_cast<std::ptrdiff_t>(surplus - 1), gaps.end());
  const uint64_t longest = gaps[surplus - 1];
  size_t kept = 0;
  for (size_t i = 1; i < intervals_.size(); ++i) {
    Interval& last = intervals_[kept];
    const Interval& next = intervals_[i];
    if (next.name == last.name && next.start_ns <= last.end_ns + std::min(longest, ~last.end_ns)) {
      last.end_ns = std::max(last.end_ns, next.end_ns);
    } else {
      intervals_[++kept] = next;
    }
  }
  intervals_.resize(kept + 1);
}

uint32_t IntervalIndex::Cursor::Move(uint64_t time_ns) {
  set_ = NameSets::kNone;
  start_ns_ = 0;
  length_ns_ = ~uint64_t{0};
  if (index_ == nullptr || index_->segments_.empty()) return set_;
  const std::vector<Segment>& segments = index_->segments_;
  auto next = std::upper_bound(segments.begin(), segments.end(), time_ns,
                               [](uint64_t wanted, const Segment& segment) { return wanted < segment.start_ns; });
  if (next != segments.end()) length_ns_ = next->start_ns;
  if (next == segments.begin()) return set_;
  --next;
  start_ns_ = next->start_ns;
  length_ns_ -= start_ns_;
  set_ = next->set;
  return set_;
}

}  // namespace uvmtrace::analyzer
