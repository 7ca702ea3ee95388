#include "analyzer/tune/tuning.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "analyzer/run_input.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

// A change is kept if it saves more than this, and more than the runs of one configuration differ by.
constexpr double kWorthKeeping = 0.02;
// A phase that takes longer by more than this is told.
constexpr double kSlower = 0.05;

uint64_t MedianOf(std::vector<uint64_t> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[(values.size() - 1) / 2];
}

std::string Percent(uint64_t base, uint64_t now) {
  if (base == 0) return "";
  return fmt::format("{:+.0f} %", (static_cast<double>(now) / static_cast<double>(base) - 1) * 100);
}

bool IsPrefetch(const Change& change) { return change.actions == std::vector<std::string>{"prefetch gpu"}; }

std::string Label(const Change& change) {
  return fmt::format("{}, {}", fmt::join(change.actions, " + "), change.place);
}

// Whether runs of the program as it is print the same each time: then what they print can be compared.
bool PrintsTheSame(const Variant& base) {
  return base.trials.size() > 1 && std::all_of(base.trials.begin(), base.trials.end(), [&](const Trial& trial) {
           return trial.output == base.trials.front().output;
         });
}

// The phase that lost most time by the change, if any did.
std::string SlowerPhase(const Variant& before, const Variant& after) {
  std::string worst;
  double most = kSlower;
  for (const auto& [name, ns] : before.trials.front().durations) {
    const uint64_t base = before.Median(name);
    if (name.front() == '(' || base == 0) continue;
    const double slower = static_cast<double>(after.Median(name)) / static_cast<double>(base) - 1;
    if (slower > most) {
      most = slower;
      worst = fmt::format("{} takes {:.0f} % longer", name, slower * 100);
    }
  }
  return worst;
}

}  // namespace

bool Variant::failed(int base_status) const {
  return std::any_of(trials.begin(), trials.end(),
                     [&](const Trial& trial) { return !trial.recorded || trial.exit_status != base_status; });
}

uint64_t Variant::Score() const {
  std::vector<uint64_t> scores;
  for (const Trial& trial : trials) scores.push_back(trial.score);
  return MedianOf(std::move(scores));
}

uint64_t Variant::Median(const std::string& name) const {
  std::vector<uint64_t> values;
  for (const Trial& trial : trials) {
    const auto found = trial.durations.find(name);
    if (found != trial.durations.end()) values.push_back(found->second);
  }
  return MedianOf(std::move(values));
}

uint64_t Variant::Spread() const {
  const auto [low, high] = std::minmax_element(trials.begin(), trials.end(),
                                               [](const Trial& a, const Trial& b) { return a.score < b.score; });
  return low == trials.end() ? 0 : high->score - low->score;
}

Tuning::Tuning(TuningOptions options) : options_(std::move(options)) {}

std::vector<Change> Tuning::kept() const {
  std::vector<Change> changes;
  for (const Step& step : steps_) {
    if (!step.kept) continue;
    // "ahead" stands in the place of the plain prefetch.
    changes.erase(std::remove_if(changes.begin(), changes.end(),
                                 [&](const Change& one) {
                                   return one.site == step.change.site && IsPrefetch(one) &&
                                          step.change.actions.front() == "prefetch gpu ahead";
                                 }),
                  changes.end());
    changes.push_back(step.change);
  }
  return changes;
}

bool Tuning::TimeLeft() {
  out_of_time_ |= std::chrono::steady_clock::now() + longest_run_ - start_ > options_.time;
  return !out_of_time_;
}

const Trial& Tuning::Try(const std::vector<Change>& changes) {
  const std::string folder = fmt::format("{}/run{}", options_.folder, ++runs_);
  std::string file;
  last_changes_ = TextOf(changes);
  if (!changes.empty()) {
    file = folder + ".apply";
    std::ofstream(file) << last_changes_;
  }
  const auto begin = std::chrono::steady_clock::now();
  last_ = RunTrial(options_.trial, folder, file);
  longest_run_ = std::max(longest_run_, std::chrono::steady_clock::now() - begin);
  return last_;
}

const Trial& Tuning::TryUnlessJustDone(const std::vector<Change>& changes) {
  return runs_ > 0 && TextOf(changes) == last_changes_ ? last_ : Try(changes);
}

std::string Tuning::TextOf(std::vector<Change> changes) const {
  if (changes.empty()) return "";
  for (Change& change : changes) change.certain = true;
  return ApplyFileText({}, {std::move(changes), {}}, paths_);
}

void Tuning::TryStep(Change change, const std::vector<Change>& with, const std::vector<Change>& without) {
  Step step;
  step.change = std::move(change);
  for (int round = 0; round < options_.rounds && (round == 0 || TimeLeft()); ++round) {
    const int runs = runs_;
    step.beside.trials.push_back(TryUnlessJustDone(without));
    if (without.empty() && runs_ > runs) base_.trials.push_back(step.beside.trials.back());
    step.variant.trials.push_back(Try(with));
  }
  const int status = base_.trials.front().exit_status;
  const uint64_t before = step.beside.Score();
  const uint64_t after = step.variant.Score();
  const uint64_t noise = std::max(step.beside.Spread(), step.variant.Spread());
  const uint64_t least = std::max<uint64_t>(noise, static_cast<uint64_t>(kWorthKeeping * static_cast<double>(before)));
  if (step.variant.failed(status)) {
    step.verdict = "left out: the program ended otherwise with it, or left no trace";
  } else if (PrintsTheSame(base_) && step.variant.trials.front().output != base_.trials.front().output) {
    step.verdict = "left out: the program printed something else with it";
  } else if (after + least < before) {
    step.kept = true;
    // Times of a simulated run are those of the machine that simulates.
    const bool simulated = base_.trials.front().report.capture().simulated();
    const std::string slower = simulated ? "" : SlowerPhase(step.beside, step.variant);
    step.verdict = fmt::format("kept: {}{}", Percent(before, after), slower.empty() ? "" : ", though " + slower);
  } else {
    step.verdict = fmt::format("left out: {}, runs differ by {}", Percent(before, after), FormatDuration(noise));
  }
  steps_.push_back(std::move(step));
}

// What comes beside the kernel before costs nothing if it is guessed right.
void Tuning::TryAhead() {
  for (const Change& one : kept()) {
    if (!IsPrefetch(one) || !TimeLeft()) continue;
    Change ahead = one;
    ahead.actions = {"prefetch gpu ahead"};
    const std::vector<Change> without = kept();
    std::vector<Change> with = without;
    for (Change& other : with) {
      if (other.site == one.site && IsPrefetch(other)) other = ahead;
    }
    TryStep(ahead, with, without);
  }
}

bool Tuning::Run() {
  base_.trials.push_back(Try({}));
  const Trial& first = base_.trials.front();
  if (!first.recorded) {
    fmt::print(stderr,
               "uvmtrace: the program ended with status {} and left no trace. Its output is in {}/run1/output.\n",
               first.exit_status, options_.folder);
    return false;
  }
  uvmtrace::analyzer::Run run;
  if (!ReadRun({options_.folder + "/run1"}, {}, &run)) return false;
  paths_ = PathsOfSites(run, {});
  std::vector<Change> candidates = ChangesOf(first.report, paths_).changes;
  if (candidates.size() > options_.most_changes) candidates.resize(options_.most_changes);

  const auto try_all = [&](bool certain) {
    for (const Change& candidate : candidates) {
      if (candidate.certain != certain || !TimeLeft()) continue;
      const std::vector<Change> without = kept();
      std::vector<Change> with = without;
      with.push_back(candidate);
      TryStep(candidate, with, without);
    }
  };
  try_all(true);
  TryAhead();
  try_all(false);
  // The last word: what was kept, in turn with the program as it is.
  const std::vector<Change> all = kept();
  for (int round = 0; round < options_.rounds && !all.empty() && (round == 0 || TimeLeft()); ++round) {
    base_.trials.push_back(Try({}));
    tuned_.trials.push_back(Try(all));
  }
  return true;
}

std::string TuningText(const Tuning& tuning) {
  const auto& steps = tuning.steps();
  std::string text = fmt::format("{} runs{}\n\n", tuning.runs(), tuning.out_of_time() ? ", until the time was up" : "");
  std::vector<std::string> names;
  size_t width = 5;
  for (const auto& [name, ns] : tuning.base().trials.front().durations) {
    names.push_back(name);
    width = std::max(width, name.size());
  }
  text += fmt::format("{:<{}}  {:>10}", "phase", width, "base");
  for (size_t i = 0; i < steps.size(); ++i) text += fmt::format("  {:>19}", fmt::format("change {}", i + 1));
  text += fmt::format("  {:>19}\n", "kept");
  const auto cell = [](uint64_t base, uint64_t now, bool known) {
    return known ? fmt::format("  {:>19}", fmt::format("{} {}", FormatDuration(now), Percent(base, now)))
                 : fmt::format("  {:>19}", "-");
  };
  for (const std::string& name : names) {
    const uint64_t base = tuning.base().Median(name);
    text += fmt::format("{:<{}}  {:>10}", name, width, FormatDuration(base));
    for (const Step& step : steps) text += cell(base, step.variant.Median(name), true);
    text += cell(base, tuning.tuned().Median(name), !tuning.tuned().trials.empty()) + "\n";
  }
  text += "\n";
  for (size_t i = 0; i < steps.size(); ++i) {
    text += fmt::format("change {}: {}\n          {}\n", i + 1, Label(steps[i].change), steps[i].verdict);
  }
  if (!tuning.tuned().trials.empty()) {
    const bool same = tuning.tuned().trials.front().output == tuning.base().trials.front().output;
    text += same ? "\nThe program printed the same with the kept changes.\n"
            : PrintsTheSame(tuning.base())
                ? "\nThe program printed something else with the kept changes: look at its output (--keep).\n"
                : "\nWhat the program prints changes from run to run (times?): compare it yourself (--keep).\n";
  }
  if (steps.empty()) {
    text += tuning.out_of_time()
                ? "No change was tried, because the time was up after the first run: give --time more.\n"
                : "No finding of the first run is a change that can be applied.\n";
  }
  return text;
}

}  // namespace uvmtrace::analyzer
