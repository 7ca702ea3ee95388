#include "analyzer/compare/gate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "analyzer/compare/rows.h"
#include "analyzer/compare/samples.h"

namespace uvmtrace::analyzer {
namespace {

constexpr std::string_view kCount = "count";

struct Unit {
  const char* name;
  double scale;
  const char* of;  // what a field's name must hold; empty: anything
};
constexpr Unit kUnits[] = {{"", 1, ""},
                           {"B", 1, "bytes"},
                           {"KiB", 1024, "bytes"},
                           {"MiB", 1048576, "bytes"},
                           {"GiB", 1073741824, "bytes"},
                           {"TiB", 1099511627776.0, "bytes"},
                           {"KB", 1e3, "bytes"},
                           {"MB", 1e6, "bytes"},
                           {"GB", 1e9, "bytes"},
                           {"ns", 1, "_ns"},
                           {"us", 1e3, "_ns"},
                           {"ms", 1e6, "_ns"},
                           {"s", 1e9, "_ns"},
                           {"GB/s", 1e9, "bytes_per_second"}};

std::string Trimmed(std::string text) {
  text.erase(0, text.find_first_not_of(" \t"));
  text.erase(text.find_last_not_of(" \t") + 1);
  return text;
}

// "findings[prefetch_late].count" -> {"findings", "count"} and the key. Names in brackets may hold anything but "]".
bool SplitPath(std::string path, Gate* gate) {
  if (const size_t open = path.find('['); open != std::string::npos) {
    const size_t close = path.rfind(']');
    if (close == std::string::npos || close < open) return false;
    gate->key = path.substr(open + 1, close - open - 1);
    path.erase(open, close - open + 1);
  }
  if (path == "fault_stall") path = "totals.fault_service_ns";
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    if (end == begin) return false;
    gate->path.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return !gate->path.empty();
}

// Whether report.proto has such a field. Says what there is where it has none.
bool CheckPath(const Gate& gate, std::string* error) {
  const google::protobuf::Descriptor* at = Report::descriptor();
  bool rows = false;
  for (size_t i = 0; i < gate.path.size(); ++i) {
    const std::string& name = gate.path[i];
    const bool last = i + 1 == gate.path.size();
    const FieldDescriptor* const field = at->FindFieldByName(name);
    if (last && rows && field == nullptr && name == kCount) return true;
    if (field == nullptr) {
      *error = fmt::format("{} has no field '{}'. The fields are in report.proto", at->name(), name);
      return false;
    }
    const bool message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (last && !message && !field->is_repeated() && field->cpp_type() != FieldDescriptor::CPPTYPE_STRING) return true;
    if (last || !message) {
      *error = fmt::format("'{}' is no number. Name a field of it, or 'count'", name);
      return false;
    }
    if (field->is_repeated() && (FindRowTable(name) == nullptr || i != 0)) {
      *error = fmt::format("rows of '{}' have no keys", name);
      return false;
    }
    // The rows of hazards are in a message of their own.
    const RowTable* const table = i == 0 ? FindRowTable(name) : nullptr;
    rows = rows || table != nullptr;
    at = field->message_type();
    if (table != nullptr && !field->is_repeated()) at = at->FindFieldByName("rows")->message_type();
  }
  return false;
}

bool ParseValue(const std::string& text, Gate* gate, std::string* error) {
  char* end = nullptr;
  gate->value = std::strtod(text.c_str(), &end);
  const std::string unit = Trimmed(end);
  const std::string& field = gate->path.back();
  if (end == text.c_str() || !std::isfinite(gate->value)) {
    *error = fmt::format("'{}' is no number", text);
    return false;
  }
  if (unit == "%") {
    gate->value /= 100;
    gate->relative = gate->of_change;
    return true;
  }
  for (const Unit& known : kUnits) {
    if (unit != known.name) continue;
    const std::string_view of = known.of;
    if (!of.empty() && field.find(of) == std::string::npos) {
      *error = fmt::format("'{}' is not in {}", field, unit);
      return false;
    }
    gate->value *= known.scale;
    return true;
  }
  *error = fmt::format("'{}' is no unit. Use KiB MiB GiB KB MB GB ns us ms s or %", unit);
  return false;
}

bool Holds(Gate::Comparison comparison, double left, double right) {
  switch (comparison) {
    case Gate::Comparison::kGreater:
      return left > right;
    case Gate::Comparison::kGreaterOrEqual:
      return left >= right;
    case Gate::Comparison::kLess:
      return left < right;
    case Gate::Comparison::kLessOrEqual:
      return left <= right;
    case Gate::Comparison::kEqual:
      return left == right;
    case Gate::Comparison::kNotEqual:
      return left != right;
  }
  return false;
}

bool Matches(const RowTable& table, const Message& row, const std::string& wanted) {
  const std::string key = KeyOf(table, row);
  return key == wanted || key.substr(0, key.find('|')) == wanted;
}

std::optional<double> OfRows(const RowTable& table, const Gate& gate, const Report& report) {
  std::optional<double> sum;
  size_t rows = 0;
  for (const Message* row : RowsOf(table, report)) {
    if (gate.key && !Matches(table, *row, *gate.key)) continue;
    ++rows;
    const FieldDescriptor* const field = row->GetDescriptor()->FindFieldByName(gate.path.back());
    if (field == nullptr) {
      sum = sum.value_or(0) + 1;  // "count" of rows that have no such field
    } else if (const auto number = NumberOf(*row, *field)) {
      sum = sum.value_or(0) + *number;
    }
  }
  return rows == 0 ? 0 : sum;
}

Samples Collect(const Gate& gate, const std::vector<Report>& runs) {
  Samples samples;
  for (const Report& report : runs) {
    if (const auto value = ValueOf(gate, report)) samples.Add(*value);
  }
  return samples;
}

}  // namespace

std::optional<Gate> ParseGate(const std::string& text, std::string* error) {
  static const std::pair<const char*, Gate::Comparison> kOperators[] = {
      {">=", Gate::Comparison::kGreaterOrEqual}, {"<=", Gate::Comparison::kLessOrEqual},
      {"==", Gate::Comparison::kEqual},          {"!=", Gate::Comparison::kNotEqual},
      {">", Gate::Comparison::kGreater},         {"<", Gate::Comparison::kLess}};
  Gate gate;
  gate.text = text;
  // Keys may hold "<" and ">", as C++ names do: the operator is behind the last bracket.
  const size_t behind = text.rfind(']') == std::string::npos ? 0 : text.rfind(']');
  size_t at = std::string::npos;
  size_t length = 0;
  for (const auto& [name, comparison] : kOperators) {
    const size_t found = text.find(name, behind);
    if (found == std::string::npos || found > at) continue;
    if (found == at && std::string_view(name).size() < length) continue;
    at = found;
    length = std::string_view(name).size();
    gate.comparison = comparison;
  }
  if (at == std::string::npos) {
    *error = "has no operator. Write PATH > VALUE, as in totals.host_to_device_bytes > 10GiB";
    return std::nullopt;
  }
  std::string path = Trimmed(text.substr(0, at));
  if (path.rfind("diff.", 0) == 0) {
    gate.of_change = true;
    path.erase(0, 5);
  }
  if (!SplitPath(path, &gate)) {
    *error = fmt::format("'{}' is no path of fields", path);
    return std::nullopt;
  }
  if (!CheckPath(gate, error) || !ParseValue(Trimmed(text.substr(at + length)), &gate, error)) return std::nullopt;
  return gate;
}

std::optional<double> ValueOf(const Gate& gate, const Report& report) {
  if (const RowTable* const table = FindRowTable(gate.path.front())) return OfRows(*table, gate, report);
  const Message* at = &report;
  for (size_t i = 0; i + 1 < gate.path.size(); ++i) {
    at = &at->GetReflection()->GetMessage(*at, at->GetDescriptor()->FindFieldByName(gate.path[i]));
  }
  return NumberOf(*at, *at->GetDescriptor()->FindFieldByName(gate.path.back()));
}

GateRow Evaluate(const Gate& gate, const std::vector<Report>& base, const std::vector<Report>& changed) {
  GateRow row;
  row.set_expression(gate.text);
  const Samples after = Collect(gate, changed);
  if (after.empty()) {
    row.set_note("the trace does not know this number");
    return row;
  }
  if (!gate.of_change) {
    row.set_value(after.Median());
    row.set_failed(Holds(gate.comparison, row.value(), gate.value));
    return row;
  }
  const Samples before = Collect(gate, base);
  if (before.empty()) {
    row.set_note(base.empty() ? "it needs a run to compare with: use it with diff"
                              : "the base does not know this number");
    return row;
  }
  double change = after.Median() - before.Median();
  if (gate.relative && change != 0) {
    change = before.Median() == 0 ? std::numeric_limits<double>::infinity() : change / before.Median();
  }
  row.set_value(change);
  row.set_failed(Holds(gate.comparison, change, gate.value));
  if (row.failed() && change != 0 && before.size() + after.size() > 2 && Overlap(before, after)) {
    row.set_failed(false);
    row.set_note("the runs overlap: this is within their spread");
  }
  return row;
}

}  // namespace uvmtrace::analyzer
