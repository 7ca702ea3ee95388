#include "analyzer/compare/rows.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cmath>

#include "analyzer/short_name.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

// The same code gives other values of these in the next run.
constexpr std::string_view kNotComparable[] = {"pid",        "parent_pid",     "tid",       "id",         "parent",
                                               "address",    "memory_address", "location",  "ordinal",    "start_ns",
                                               "end_ns",     "time_ns",        "first_ns",  "result",     "low_bytes",
                                               "high_bytes", "device",         "numa_node", "generation", "width",
                                               "estimated",  "sampled",        "shared",    "visible",    "gain_share"};

std::string TextOf(const Message& row, const char* name) {
  const FieldDescriptor* const field = row.GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || field->is_repeated()) return "";
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) return row.GetReflection()->GetString(row, field);
  const auto number = NumberOf(row, *field);
  return number ? fmt::format("{}", *number) : "";
}

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

uint64_t Whole(double value) { return value < 0 ? 0 : static_cast<uint64_t>(std::llround(value)); }

}  // namespace

const std::vector<RowTable>& RowTables() {
  static const std::vector<RowTable> kTables = {
      {"findings", {"id", "subject"}, "title"},
      {"out_of_memory", {"function", "site"}, "site"},
      {"hazards", {"hazard", "function", "site", "memory_site"}, "hazard"},
      {"sites", {"key"}, "site"},
      {"phases", {"name"}, "name"},
      {"kernels", {"name"}, "name"},
      {"kernel_sites", {"kernel", "target"}, "kernel"},
      {"cpu_fault_targets", {"site", "target"}, "site"},
      {"call_sites", {"key"}, "site"},
      {"traffic", {"way", "direction"}, "way"},
      {"migrations", {"direction", "cause"}, "cause"},
      {"memory", {"kind"}, "kind"},
      {"capacity", {"device"}, "device"},
      {"bh_threads", {"name"}, "name"},
      {"calls", {"name"}, "name"},
  };
  return kTables;
}

const RowTable* FindRowTable(std::string_view section) {
  for (const RowTable& table : RowTables()) {
    if (table.section == section) return &table;
  }
  return nullptr;
}

std::string KeyOf(const RowTable& table, const Message& row) {
  std::string key;
  for (const char* field : table.key) {
    if (!key.empty()) key += '|';
    key += TextOf(row, field);
  }
  return key;
}

std::string LabelOf(const RowTable& table, const Message& row) {
  const std::string_view field = table.label;
  std::string label = TextOf(row, table.label);
  if (field == "kernel" || field == "name") label = ShortName(label);
  for (const char* more : {"place", "target_site", "direction"}) {
    const std::string text = TextOf(row, more);
    if (!text.empty()) label += (label.empty() ? "" : ", ") + text;
  }
  const std::string kind = TextOf(row, "kind");
  if (!kind.empty() && kind != label) label = kind + " " + label;
  return label;
}

std::vector<const Message*> RowsOf(const RowTable& table, const Report& report) {
  const Message* holder = &report;
  const FieldDescriptor* field = report.GetDescriptor()->FindFieldByName(table.section);
  if (field != nullptr && !field->is_repeated()) {  // hazards: the rows are in a message of their own
    holder = &report.GetReflection()->GetMessage(report, field);
    field = holder->GetDescriptor()->FindFieldByName("rows");
  }
  std::vector<const Message*> rows;
  if (field == nullptr) return rows;
  for (int i = 0; i < holder->GetReflection()->FieldSize(*holder, field); ++i) {
    rows.push_back(&holder->GetReflection()->GetRepeatedMessage(*holder, field, i));
  }
  return rows;
}

std::vector<const FieldDescriptor*> ComparableFields(const google::protobuf::Descriptor& row) {
  std::vector<const FieldDescriptor*> fields;
  for (int i = 0; i < row.field_count(); ++i) {
    const FieldDescriptor* const field = row.field(i);
    const bool number = field->cpp_type() != FieldDescriptor::CPPTYPE_STRING &&
                        field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated();
    const bool listed =
        std::find(std::begin(kNotComparable), std::end(kNotComparable), field->name()) != std::end(kNotComparable);
    if (number && !listed) fields.push_back(field);
  }
  return fields;
}

std::optional<double> NumberOf(const Message& row, const FieldDescriptor& field) {
  const auto& reflection = *row.GetReflection();
  if (field.is_repeated() || (field.has_presence() && !reflection.HasField(row, &field))) return std::nullopt;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT64:
      return static_cast<double>(reflection.GetUInt64(row, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return static_cast<double>(reflection.GetInt64(row, &field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetUInt32(row, &field);
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(row, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(row, &field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(row, &field) ? 1 : 0;
    default:
      return std::nullopt;
  }
}

std::string FormatField(const std::string& field, double value) {
  if (EndsWith(field, "_ns")) return FormatDuration(Whole(value));
  if (EndsWith(field, "bytes_per_second")) return FormatRate(value);
  if (EndsWith(field, "bytes")) return FormatBytes(Whole(value));
  if (EndsWith(field, "share") || EndsWith(field, "utilization") || EndsWith(field, "_in_faults"))
    return FormatPercent(value);
  if (EndsWith(field, "ratio") || value != std::floor(value)) return fmt::format("{:.3g}", value);
  return FormatCount(Whole(value));
}

}  // namespace uvmtrace::analyzer
