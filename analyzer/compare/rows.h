// Rows of a report by names that stay the same from run to run: what diff and the gates address them by.
//
// Everything here works on protobuf's descriptors, so that a new field of report.proto is compared without a line of
// code.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// A repeated field of Report, the fields of its rows that make the key, and the field that people know a row by.
struct RowTable {
  const char* section;
  std::vector<const char*> key;
  const char* label;
};

// In the order of the report.
const std::vector<RowTable>& RowTables();
// Null if no section of this name has keys.
const RowTable* FindRowTable(std::string_view section);

std::string KeyOf(const RowTable& table, const Message& row);
std::string LabelOf(const RowTable& table, const Message& row);
std::vector<const Message*> RowsOf(const RowTable& table, const Report& report);

// Numbers that can be compared between runs: no identifiers, addresses, moments or bounds of an interval.
std::vector<const FieldDescriptor*> ComparableFields(const google::protobuf::Descriptor& row);

// Absent if the number is not known. Booleans are 0 and 1.
std::optional<double> NumberOf(const Message& row, const FieldDescriptor& field);

// "31.2 ms", "1.50 GiB", "12,345", by the suffix of the field's name.
std::string FormatField(const std::string& field, double value);

}  // namespace uvmtrace::analyzer
