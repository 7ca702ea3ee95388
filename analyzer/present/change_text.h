// One finding as the report prints it.
#pragma once

#include <cstddef>

#include "analyzer/present/text_writer.h"

namespace uvmtrace::analyzer {

void WriteFinding(TextWriter* writer, size_t number, const FindingRow& row);

}  // namespace uvmtrace::analyzer
