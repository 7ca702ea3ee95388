// RecordInChild of sources_trace.h.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "record/recorder.h"
#include "tests/unit/sources_trace.h"

namespace sources_test {

TraceContents RecordInChild(const std::function<std::string()>& scenario) {
  char folder[] = "/tmp/uvmtrace_sources_XXXXXX";
  EXPECT_NE(mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/trace.pb";
  int failure[2];
  EXPECT_EQ(pipe(failure), 0);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    close(failure[0]);
    uvmtrace::RecorderOptions options{};
    options.path = path.c_str();
    options.run_id = 1;
    options.buffer_bytes = size_t{64} << 20;
    options.detail = "full";
    std::string wrong;
    if (!uvmtrace::Recorder::Get().Start(options)) {
      wrong = "the recorder did not start";
    } else {
      wrong = scenario();
      if (!uvmtrace::Recorder::Get().Close(5000) && wrong.empty()) wrong = "the recorder did not close";
    }
    if (write(failure[1], wrong.data(), wrong.size()) < 0) _exit(3);
    _exit(0);
  }
  close(failure[1]);
  std::string wrong;
  char part[512];
  for (ssize_t got; (got = read(failure[0], part, sizeof part)) > 0;) wrong.append(part, static_cast<size_t>(got));
  close(failure[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "wait status " << status;
  EXPECT_EQ(wrong, "");
  TraceContents contents = ReadTrace(path);
  unlink(path.c_str());
  rmdir(folder);
  return contents;
}

}  // namespace sources_test
