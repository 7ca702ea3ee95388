// One finding as the report prints it.
#pragma once

#include <cstddef>

#include "analyzer/present/text_writer.h"

namespace uvmtrace::analyzer {

// `brief`: title, place and saving alone, because a finding of the same kind above has the words.
void WriteFinding(TextWriter* writer, size_t number, const FindingRow& row, bool brief = false);

}  // namespace uvmtrace::analyzer
