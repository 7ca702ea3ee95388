#include "uvm_model/thrashing.h"

#include <algorithm>

namespace uvm_model {

Thrashing::PageState& Thrashing::StateOf(int page) {
  for (PageState& state : states_) {
    if (state.page == page) return state;
  }
  return states_.emplace_back(PageState{.page = static_cast<int16_t>(page)});
}

void Thrashing::UpdateView() {
  view_ = {};
  for (const PageState& state : states_) {
    view_.pages.Set(state.page);
    if (state.pinned_at == kNoProcessor) continue;
    view_.pinned.Set(state.page);
    view_.pinned_at = state.pinned_at;
  }
}

void Thrashing::Expire(uint64_t time_ns, const Limits& limits) {
  if (states_.empty()) return;
  const auto unpinned = std::remove_if(states_.begin(), states_.end(), [time_ns](const PageState& state) {
    return state.pinned_at != kNoProcessor && time_ns > state.pinned_until_ns;
  });
  bool changed = unpinned != states_.end();
  states_.erase(unpinned, states_.end());
  const uint64_t epoch_ns = limits.epoch_lapses * limits.lapse_ns;
  const bool any_pinned = view_.pinned_at != kNoProcessor && !changed;
  if (!states_.empty() && !any_pinned && time_ns > last_ns_ + epoch_ns && resets_ < limits.max_resets) {
    states_.clear();
    ++resets_;
    changed = true;
  }
  if (changed) UpdateView();
}

void Thrashing::Begin(int page, uint64_t time_ns) {
  StateOf(page).last_ns = time_ns;
  last_ns_ = time_ns;
  UpdateView();
}

void Thrashing::Pin(int page, int processor, uint64_t time_ns, const Limits& limits) {
  PageState& state = StateOf(page);
  state.pinned_at = static_cast<int8_t>(processor);
  state.pinned_until_ns = time_ns + limits.pin_lapses * limits.lapse_ns;
  UpdateView();
}

void Thrashing::Moved(const PageMask& pages, uint64_t time_ns, const Limits& limits) {
  if (!pages.Intersects(view_.pages)) return;
  size_t kept = 0;
  for (PageState& state : states_) {
    if (pages.Test(state.page)) {
      if (state.pinned_at == kNoProcessor && time_ns > state.last_ns + limits.lapse_ns) continue;
      state.last_ns = last_ns_ = time_ns;
    }
    states_[kept++] = state;
  }
  if (kept == states_.size()) return;
  states_.resize(kept);
  UpdateView();
}

}  // namespace uvm_model
