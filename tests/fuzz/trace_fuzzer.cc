// Everything that uvmtrace-report does with a file, on arbitrary bytes.
//
// The first byte chooses: even, the rest is the file; odd, the rest is the fields of one chunk that is framed with a
// right checksum here, because no mutation finds one by chance.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "analyzer/findings/bottom_half_time.h"
#include "analyzer/findings/report_builder.h"
#include "analyzer/present/json.h"
#include "analyzer/present/text.h"
#include "analyzer/read/crc32c.h"

namespace {

void AppendFixed(std::string* out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

std::string FrameOf(const std::string& fields) {
  std::string rest(1, '\x19');
  AppendFixed(&rest, 1, 8);
  rest.push_back('\x21');
  AppendFixed(&rest, 0, 8);
  rest += fields;
  std::string body("\x09UVMTRC\x01\x0a\x15", 10);
  AppendFixed(&body, uvmtrace::analyzer::Crc32c(rest.data(), rest.size()), 4);
  body += rest;
  std::string frame(1, '\x0a');
  for (int i = 0; i < 5; ++i)
    frame.push_back(static_cast<char>(((body.size() >> (7 * i)) & 0x7f) | (i < 4 ? 0x80 : 0)));
  return frame + body;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace uvmtrace::analyzer;
  if (size == 0) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] & 1) bytes = FrameOf(bytes);
  const int file = memfd_create("trace", MFD_CLOEXEC);
  if (file < 0 || write(file, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  Run run;
  run.push_back(std::make_unique<ProcessModel>());
  const Status status = run.back()->ReadTrace("/proc/self/fd/" + std::to_string(file));
  close(file);
  if (!status.ok()) {
    if (status.message().empty()) std::abort();
    return 0;
  }
  ReportOptions options;
  options.symbols.sysroot = "/nonexistent";
  const uvmtrace::Report report = BuildReport(run, options);
  TextOptions text;
  text.stacks = true;
  if (RenderText(report, text).empty()) std::abort();
  text.width = 40;
  text.color = true;
  RenderText(report, text);
  RenderJson(report);
  FoldedStacks(run);
  return 0;
}
