// Which changes of a file help: each is tried on top of those that were kept so far, beside runs without it.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "analyzer/advise/changes.h"
#include "analyzer/tune/trial.h"

namespace uvmtrace::analyzer {

// The runs of one configuration.
struct Variant {
  std::vector<Trial> trials;

  bool failed(int base_status) const;
  uint64_t Score() const;  // the median
  uint64_t Median(const std::string& name) const;
  uint64_t Spread() const;  // of the scores, between largest and smallest
};

struct Step {
  Change change;
  Variant variant;  // the kept ones with this change
  Variant beside;   // the kept ones without it, run in turn with it
  bool kept = false;
  std::string verdict;
};

struct TuningOptions {
  TrialOptions trial;
  std::string folder;  // for traces and files of changes
  int rounds = 2;
  size_t most_changes = 6;
  std::chrono::seconds time{600};
};

class Tuning {
 public:
  explicit Tuning(TuningOptions options);

  // False, with a message on stderr, if the program cannot be recorded.
  bool Run();

  const Variant& base() const { return base_; }
  const Variant& tuned() const { return tuned_; }
  const std::vector<Step>& steps() const { return steps_; }
  std::vector<Change> kept() const;
  const std::map<std::string, SitePaths>& paths() const { return paths_; }
  int runs() const { return runs_; }
  bool out_of_time() const { return out_of_time_; }

 private:
  const Trial& Try(const std::vector<Change>& changes);
  // The same, or the run before this one if that was just the same.
  const Trial& TryUnlessJustDone(const std::vector<Change>& changes);
  std::string TextOf(std::vector<Change> changes) const;
  void TryStep(Change change, const std::vector<Change>& with, const std::vector<Change>& without);
  void TryAhead();
  bool TimeLeft();

  const TuningOptions options_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::duration longest_run_{};
  Trial last_;
  std::string last_changes_;
  Variant base_;
  Variant tuned_;
  std::vector<Step> steps_;
  std::map<std::string, SitePaths> paths_;
  int runs_ = 0;
  bool out_of_time_ = false;
};

// What helped, phase by phase, as a table.
std::string TuningText(const Tuning& tuning);

}  // namespace uvmtrace::analyzer
