// What the recording says of itself: how it ended, what it lost, which sources it had and what changed on the way.
// Field by field, as proto/uvmtrace.proto numbers them; what is not known is skipped.
#include "analyzer/read/definitions.h"
#include "analyzer/read/fields.h"

namespace uvmtrace::analyzer {

using protozero::pbf_reader;

EndDefinition DecodeEnd(std::string_view message) {
  EndDefinition end;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        end.clean = Boolean(reader);
        break;
      case 2:
        end.chunks = Number(reader);
        break;
      case 3:
        end.api_calls = Number(reader);
        break;
      case 4:
        end.gpu_faults = Number(reader);
        break;
      case 5:
        end.cpu_faults = Number(reader);
        break;
      case 6:
        end.migrations = Number(reader);
        break;
      case 7:
        end.region_events = Number(reader);
        break;
      case 8:
        end.kernels = Number(reader);
        break;
      case 10:
        end.replays = Number(reader);
        break;
      default:
        reader.skip();
    }
  });
  return end;
}

DetailChangeDefinition DecodeDetailChange(std::string_view message) {
  DetailChangeDefinition change;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        change.time_ns = Number(reader);
        break;
      case 2:
        change.detail = Text(reader);
        break;
      case 3:
        change.reason = Text(reader);
        break;
      default:
        reader.skip();
    }
  });
  return change;
}

ParameterDefinition DecodeParameter(std::string_view message) {
  ParameterDefinition parameter;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        parameter.name = Text(reader);
        break;
      case 2:
        parameter.value = Text(reader);
        break;
      default:
        reader.skip();
    }
  });
  return parameter;
}

SourceStateDefinition DecodeSourceState(std::string_view message) {
  SourceStateDefinition state;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        state.name = Text(reader);
        break;
      case 2:
        state.state = static_cast<State>(Number32(reader));
        break;
      case 3:
        state.reason = Text(reader);
        break;
      default:
        reader.skip();
    }
  });
  return state;
}

LossDefinition DecodeLoss(std::string_view message) {
  LossDefinition loss;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        loss.source = Text(reader);
        break;
      case 2:
        loss.reason = Text(reader);
        break;
      case 3:
        loss.count = Number(reader);
        break;
      default:
        reader.skip();
    }
  });
  return loss;
}

AuditCountDefinition DecodeAuditCount(std::string_view message) {
  AuditCountDefinition count;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        count.function = Text(reader);
        break;
      case 2:
        count.happened = Number(reader);
        break;
      case 3:
        count.seen = Number(reader);
        break;
      default:
        reader.skip();
    }
  });
  return count;
}

}  // namespace uvmtrace::analyzer
