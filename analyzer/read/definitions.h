// The definitions of a chunk, one decoder each. They throw protozero::exception on bytes that are no protobuf; views
// point into the bytes.
#pragma once

#include <string_view>

#include "analyzer/read/chunk.h"

namespace uvmtrace::analyzer {

EndDefinition DecodeEnd(std::string_view message);
ProcessDefinition DecodeProcess(std::string_view message);
StringDefinition DecodeString(std::string_view message);
FunctionDefinition DecodeFunction(std::string_view message);
MappingDefinition DecodeMapping(std::string_view message);
StackDefinition DecodeStack(std::string_view message);
ThreadDefinition DecodeThread(std::string_view message);
CodeDefinition DecodeCode(std::string_view message);
DeviceDefinition DecodeDevice(std::string_view message);
KernelThreadDefinition DecodeKernelThread(std::string_view message);
KernelStackDefinition DecodeKernelStack(std::string_view message);
DetailChangeDefinition DecodeDetailChange(std::string_view message);
ParameterDefinition DecodeParameter(std::string_view message);
SourceStateDefinition DecodeSourceState(std::string_view message);
LossDefinition DecodeLoss(std::string_view message);
AuditCountDefinition DecodeAuditCount(std::string_view message);
ManagedVariableDefinition DecodeManagedVariable(std::string_view message);
MemoryAreaDefinition DecodeMemoryArea(std::string_view message);

}  // namespace uvmtrace::analyzer
