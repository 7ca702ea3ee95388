#include "analyzer/findings/report_builder.h"

#include <algorithm>
#include <vector>

#include "analyzer/explain/explain.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

// Command lines, paths and names are bytes; a protobuf string, and JSON, is UTF-8.
std::string ToUtf8(const std::string& text) {
  std::string valid;
  size_t position = 0;
  while (position < text.size()) {
    const auto lead = static_cast<unsigned char>(text[position]);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xc2 && lead < 0xe0 ? 2
                          : (lead & 0xf0) == 0xe0       ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 0;
    const std::string piece = text.substr(position, std::max<size_t>(length, 1));
    if (length > 0 && piece.size() == length && google::protobuf::internal::IsStructurallyValidUTF8(piece)) {
      valid += piece;
      position += length;
    } else {
      valid += '?';
      ++position;
    }
  }
  return valid;
}

void MakeStringsUtf8(google::protobuf::Message* message) {
  using google::protobuf::FieldDescriptor;
  const auto* reflection = message->GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(*message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (!field->is_repeated()) {
        MakeStringsUtf8(reflection->MutableMessage(message, field));
        continue;
      }
      for (int i = 0; i < reflection->FieldSize(*message, field); ++i) {
        MakeStringsUtf8(reflection->MutableRepeatedMessage(message, field, i));
      }
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      if (!field->is_repeated()) {
        reflection->SetString(message, field, ToUtf8(reflection->GetString(*message, field)));
        continue;
      }
      for (int i = 0; i < reflection->FieldSize(*message, field); ++i) {
        reflection->SetRepeatedString(message, field, i, ToUtf8(reflection->GetRepeatedString(*message, field, i)));
      }
    }
  }
}

}  // namespace

Report BuildReport(const Run& run, const ReportOptions& options) {
  Report report;
  report.set_schema_version(1);
  Symbolizer symbolizer(options.symbols);
  const Knowledge known = WhatIsKnown(run);
  AddCapture(run, &report);
  AddCoverage(run, &report);
  AddDevices(run, &report);
  AddProcesses(run, &report);
  AddMemory(run, &report);
  AddCalls(run, &report);
  AddMovement(run, known, &report);
  AddCompleteness(run, &report);
  AddAccounts(run, &report);
  AddBandwidth(run, &report);
  AddFaultDefinitions(run, known, &report);
  AddCpuFaultSites(run, known, options, &symbolizer, &report);
  AddFatalFaults(run, &symbolizer, &report);
  AddBottomHalf(run, known, &report);
  AddBottomHalfTime(run, &report);
  AddToolCost(run, &report);
  AddAllocations(run, known, options, &symbolizer, &report);
  AddKernels(run, known, options, &report);
  AddSites(run, known, options, &symbolizer, &report);
  AddPhases(run, known, &report);
  AddTraffic(run, known, &report);
  AddOutOfMemory(run, &symbolizer, &report);
  AddCapacity(run, known, &report);
  AddHazards(run, options, &symbolizer, &report);
  AddNotSeen(run, symbolizer, &report);
  Explain(&report);
  MakeStringsUtf8(&report);
  return report;
}

}  // namespace uvmtrace::analyzer
