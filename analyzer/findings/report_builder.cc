#include "analyzer/findings/report_builder.h"

#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {

Report BuildReport(const Run& run, const ReportOptions& options) {
  Report report;
  report.set_schema_version(1);
  Symbolizer symbolizer(options.symbols);
  const Knowledge known = WhatIsKnown(run);
  AddCapture(run, &report);
  AddDevices(run, &report);
  AddProcesses(run, &report);
  AddMemory(run, &report);
  AddCalls(run, &report);
  AddMovement(run, known, &report);
  AddBottomHalf(run, known, &report);
  AddAllocations(run, known, options, &symbolizer, &report);
  AddKernels(run, known, options, &report);
  AddNotSeen(run, symbolizer, &report);
  AddVerdict(&report);
  return report;
}

}  // namespace uvmtrace::analyzer
