// A folder that shows what /proc and /sys would show of the driver: its threads, its GPU, its parameters.
#pragma once

#include <string>
#include <vector>

#include "sim/engine/paging_model.h"

namespace uvmsim {

class ProcRoot {
 public:
  // Makes the folder under $TMPDIR or /tmp and removes those that dead processes left there. Empty path() on failure,
  // with a line on stderr.
  void Create(const std::vector<std::string>& gpu_uuids, const std::string& gpu_name, const ModelOptions& options);
  void AddThread(int tid);
  void Remove();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int owner_ = 0;  // the process that made it: a forked child must leave it alone
};

}  // namespace uvmsim
