// Which field of a chunk is which definition, and which a column message.
#include "analyzer/read/chunk.h"

#include "analyzer/read/definitions.h"
#include "analyzer/read/fields.h"

namespace uvmtrace::analyzer {
namespace {

using protozero::pbf_reader;

void DecodeField(uint32_t field, pbf_reader& reader, Chunk* chunk) {
  switch (field) {
    case 5:
      chunk->written_ns = Number(reader);
      return;
    case 6:
      chunk->definitions_restart = Boolean(reader);
      return;
    case 7:
      chunk->end = DecodeEnd(Bytes(reader));
      return;
    case 8:
      chunk->process = DecodeProcess(Bytes(reader));
      return;
    case 9:
      chunk->strings.push_back(DecodeString(Bytes(reader)));
      return;
    case 10:
      chunk->functions.push_back(DecodeFunction(Bytes(reader)));
      return;
    case 11:
      chunk->mappings.push_back(DecodeMapping(Bytes(reader)));
      return;
    case 12:
      chunk->stacks.push_back(DecodeStack(Bytes(reader)));
      return;
    case 13:
      chunk->threads.push_back(DecodeThread(Bytes(reader)));
      return;
    case 14:
      chunk->devices.push_back(DecodeDevice(Bytes(reader)));
      return;
    case 15:
      chunk->kernel_threads.push_back(DecodeKernelThread(Bytes(reader)));
      return;
    case 16:
      chunk->parameters.push_back(DecodeParameter(Bytes(reader)));
      return;
    case 17:
      chunk->source_states.push_back(DecodeSourceState(Bytes(reader)));
      return;
    case 18:
      chunk->losses.push_back(DecodeLoss(Bytes(reader)));
      return;
    case 19:
      chunk->detail_changes.push_back(DecodeDetailChange(Bytes(reader)));
      return;
    case 20:
      chunk->kernel_stacks.push_back(DecodeKernelStack(Bytes(reader)));
      return;
    case 21:
      chunk->codes.push_back(DecodeCode(Bytes(reader)));
      return;
    case 22:
      chunk->audit_counts.push_back(DecodeAuditCount(Bytes(reader)));
      return;
    case 23:
      chunk->managed_variables.push_back(DecodeManagedVariable(Bytes(reader)));
      return;
    case 24:
      chunk->memory_areas.push_back(DecodeMemoryArea(Bytes(reader)));
      return;
    default:
      break;
  }
  const auto kind = KindOfField(field);
  if (!kind) return reader.skip();
  const std::string_view message = Bytes(reader);
  if (CheckColumns(*kind, message) > 0) chunk->columns[static_cast<size_t>(*kind)].push_back(message);
}

}  // namespace

void ForEachColumns(std::string_view fields, const std::function<void(EventKind, std::string_view)>& on_columns) {
  ForEachField(fields, [&](uint32_t field, pbf_reader& reader) {
    if (const auto kind = KindOfField(field)) return on_columns(*kind, Bytes(reader));
    reader.skip();
  });
}

void Chunk::Clear() {
  written_ns = 0;
  definitions_restart = false;
  end.reset();
  process.reset();
  strings.clear();
  functions.clear();
  mappings.clear();
  stacks.clear();
  threads.clear();
  codes.clear();
  devices.clear();
  kernel_threads.clear();
  parameters.clear();
  source_states.clear();
  losses.clear();
  detail_changes.clear();
  kernel_stacks.clear();
  audit_counts.clear();
  managed_variables.clear();
  memory_areas.clear();
  for (auto& views : columns) views.clear();
}

Status DecodeChunk(std::string_view fields, Chunk* chunk) {
  chunk->Clear();
  try {
    ForEachField(fields, [&](uint32_t field, pbf_reader& reader) { DecodeField(field, reader, chunk); });
  } catch (const ColumnError& error) {
    chunk->Clear();
    return Status::Error(error.what);
  } catch (const protozero::exception& error) {
    chunk->Clear();
    return Status::Error(error.what());
  }
  return Status::Ok();
}

}  // namespace uvmtrace::analyzer
