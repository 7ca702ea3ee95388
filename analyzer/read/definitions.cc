// Who recorded, and what the ids and addresses of a trace stand for. Field by field, as proto/uvmtrace.proto numbers
// them; what is not known is skipped.
#include "analyzer/read/definitions.h"

#include "analyzer/read/fields.h"

namespace uvmtrace::analyzer {

using protozero::pbf_reader;
using protozero::pbf_wire_type;

ProcessDefinition DecodeProcess(std::string_view message) {
  ProcessDefinition process;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        process.pid = Number32(reader);
        break;
      case 2:
        process.parent_pid = Number32(reader);
        break;
      case 3:
        process.host = Text(reader);
        break;
      case 4:
        process.command_line.push_back(Text(reader));
        break;
      case 5:
        process.executable = Text(reader);
        break;
      case 6:
        process.started_ns = Number(reader);
        break;
      case 7:
        process.started_realtime_ns = Number(reader);
        break;
      case 8:
        process.uvmtrace_version = Text(reader);
        break;
      case 9:
        process.detail = Text(reader);
        break;
      case 10:
        process.simulated = Boolean(reader);
        break;
      case 13:
        process.memory_total_bytes = Number(reader);
        break;
      case 15:
        process.cuda_driver_version = Number32(reader);
        break;
      case 17:
        process.cupti_version = Number32(reader);
        break;
      case 18:
        process.kernel_driver_version = Text(reader);
        break;
      case 19:
        process.rank = Text(reader);
        break;
      case 20:
        process.local_rank = Text(reader);
        break;
      default:
        reader.skip();
    }
  });
  return process;
}

StringDefinition DecodeString(std::string_view message) {
  StringDefinition definition;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        definition.id = Number32(reader);
        break;
      case 2:
        definition.value = Bytes(reader);
        break;
      default:
        reader.skip();
    }
  });
  return definition;
}

FunctionDefinition DecodeFunction(std::string_view message) {
  FunctionDefinition function;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        function.id = Number32(reader);
        break;
      case 2:
        function.name = Bytes(reader);
        break;
      case 3:
        function.layer = static_cast<Layer>(Number32(reader));
        break;
      case 4:
        function.operation = static_cast<Operation>(Number32(reader));
        break;
      default:
        reader.skip();
    }
  });
  return function;
}

MappingDefinition DecodeMapping(std::string_view message) {
  MappingDefinition mapping;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        mapping.id = Number32(reader);
        break;
      case 2:
        mapping.start = Number(reader);
        break;
      case 3:
        mapping.end = Number(reader);
        break;
      case 4:
        mapping.load_bias = Number(reader);
        break;
      case 5:
        mapping.path = Text(reader);
        break;
      case 6:
        mapping.build_id = Text(reader);
        break;
      default:
        reader.skip();
    }
  });
  return mapping;
}

StackDefinition DecodeStack(std::string_view message) {
  StackDefinition stack;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    if (field == 1) {
      stack.id = Number32(reader);
    } else if (field == 2 && reader.wire_type() == pbf_wire_type::length_delimited) {
      for (const uint64_t pc : reader.get_packed_uint64()) stack.pcs.push_back(pc);
    } else if (field == 2) {
      stack.pcs.push_back(Number(reader));
    } else if ((field == 3 || field == 4) && reader.wire_type() == pbf_wire_type::length_delimited) {
      std::vector<uint32_t>& column = field == 3 ? stack.codes : stack.lines;
      for (const uint32_t value : reader.get_packed_uint32()) column.push_back(value);
    } else if (field == 3 || field == 4) {
      (field == 3 ? stack.codes : stack.lines).push_back(Number32(reader));
    } else {
      reader.skip();
    }
  });
  stack.lines.resize(stack.codes.size());
  return stack;
}

ThreadDefinition DecodeThread(std::string_view message) {
  ThreadDefinition thread;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        thread.tid = Number32(reader);
        break;
      case 2:
        thread.name = Bytes(reader);
        break;
      default:
        reader.skip();
    }
  });
  return thread;
}

CodeDefinition DecodeCode(std::string_view message) {
  CodeDefinition code;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        code.id = Number32(reader);
        break;
      case 2:
        code.file = Number32(reader);
        break;
      case 3:
        code.function = Number32(reader);
        break;
      default:
        reader.skip();
    }
  });
  return code;
}

DeviceDefinition DecodeDevice(std::string_view message) {
  DeviceDefinition device;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        device.ordinal = Number32(reader);
        break;
      case 2:
        device.name = Text(reader);
        break;
      case 3:
        device.uuid = Text(reader);
        break;
      case 4:
        device.total_memory_bytes = Number(reader);
        break;
      case 9:
        device.host_numa_node = protozero::decode_zigzag32(Number32(reader));
        break;
      case 10:
        device.link_generation = Number32(reader);
        break;
      case 11:
        device.link_width = Number32(reader);
        break;
      case 12:
        device.link_generation_max = Number32(reader);
        break;
      case 13:
        device.link_width_max = Number32(reader);
        break;
      case 14:
        device.integrated = Boolean(reader);
        break;
      case 15:
        device.host_page_tables = Boolean(reader);
        break;
      default:
        reader.skip();
    }
  });
  return device;
}

KernelThreadDefinition DecodeKernelThread(std::string_view message) {
  KernelThreadDefinition thread;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        thread.id = Number32(reader);
        break;
      case 2:
        thread.tid = Number32(reader);
        break;
      case 3:
        thread.start_ticks = Number(reader);
        break;
      case 4:
        thread.name = Text(reader);
        break;
      case 5:
        thread.role = static_cast<ThreadRole>(Number32(reader));
        break;
      case 6:
        thread.device_uuid = Text(reader);
        break;
      default:
        reader.skip();
    }
  });
  return thread;
}

KernelStackDefinition DecodeKernelStack(std::string_view message) {
  KernelStackDefinition stack;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    if (field == 1) {
      stack.id = Number32(reader);
    } else if (field == 2 && reader.wire_type() == pbf_wire_type::length_delimited) {
      for (const uint32_t frame : reader.get_packed_uint32()) stack.frames.push_back(frame);
    } else if (field == 2) {
      stack.frames.push_back(Number32(reader));
    } else {
      reader.skip();
    }
  });
  return stack;
}

ManagedVariableDefinition DecodeManagedVariable(std::string_view message) {
  ManagedVariableDefinition variable;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        variable.address = Number(reader);
        break;
      case 2:
        variable.bytes = Number(reader);
        break;
      case 3:
        variable.name = Text(reader);
        break;
      default:
        reader.skip();
    }
  });
  return variable;
}

// Where its pages were, on a machine whose GPU memory is a NUMA node, nothing in the report needs yet.
MemoryAreaDefinition DecodeMemoryArea(std::string_view message) {
  MemoryAreaDefinition area;
  ForEachField(message, [&](uint32_t field, pbf_reader& reader) {
    switch (field) {
      case 1:
        area.start = Number(reader);
        break;
      case 2:
        area.end = Number(reader);
        break;
      case 3:
        area.kind = static_cast<MemoryAreaKind>(Number32(reader));
        break;
      case 4:
        area.name = Text(reader);
        break;
      case 5:
        area.seen_ns = Number(reader);
        break;
      default:
        reader.skip();
    }
  });
  return area;
}

}  // namespace uvmtrace::analyzer
