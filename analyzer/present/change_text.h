// One finding as the report prints it.
#pragma once

#include <cstddef>

#include "analyzer/present/text_writer.h"

namespace uvmtrace::analyzer {

// kHead: title, place and gain. kShort: also the first sentence of its evidence, and of the change.
enum class FindingText { kHead, kShort, kWhole };

void WriteFinding(TextWriter* writer, size_t number, const FindingRow& row, FindingText text = FindingText::kWhole);

}  // namespace uvmtrace::analyzer
