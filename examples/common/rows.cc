#include "examples/common/rows.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <stdexcept>

#include "examples/common/program.h"

namespace examples {
namespace {

std::string Format(const Value& value, const char* of_double) {
  char text[64];
  if (const auto* number = std::get_if<double>(&value)) {
    std::snprintf(text, sizeof(text), of_double, *number);
    return text;
  }
  if (const auto* number = std::get_if<uint64_t>(&value)) return std::to_string(*number);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  return std::get<std::string>(value);
}

std::string ToJson(const Row& row) {
  std::string json = "{";
  for (const auto& [name, value] : row.values()) {
    if (json.size() > 1) json += ", ";
    const auto* number = std::get_if<double>(&value);
    json += Quote(name) + ": ";
    if (number != nullptr && !std::isfinite(*number)) {
      json += "null";
    } else {
      json += std::holds_alternative<std::string>(value) ? Quote(std::get<std::string>(value)) : Format(value, "%.9g");
    }
  }
  return json + "}";
}

}  // namespace

Row& Row::Set(const std::string& name, Value value) {
  for (auto& [key, old] : values_) {
    if (key != name) continue;
    old = std::move(value);
    return *this;
  }
  values_.emplace_back(name, std::move(value));
  return *this;
}

const Value* Row::Find(const std::string& name) const {
  for (const auto& [key, value] : values_) {
    if (key == name) return &value;
  }
  return nullptr;
}

void PrintTable(FILE* out, const std::vector<Row>& rows, const std::vector<std::string>& columns) {
  std::string head = "|";
  std::string rule = "|";
  for (const std::string& column : columns) {
    head += " " + column + " |";
    const Value* first = rows.empty() ? nullptr : rows[0].Find(column);
    rule += first != nullptr && std::holds_alternative<std::string>(*first) ? "---|" : "---:|";
  }
  std::fprintf(out, "\n%s\n%s\n", head.c_str(), rule.c_str());
  for (const Row& row : rows) {
    std::string line = "|";
    for (const std::string& column : columns) {
      const Value* value = row.Find(column);
      line += " " + (value == nullptr ? "-" : Format(*value, "%.4g")) + " |";
    }
    std::fprintf(out, "%s\n", line.c_str());
  }
}

std::vector<Row> Summarise(const std::vector<Row>& rows, const std::vector<std::string>& keys) {
  std::vector<std::pair<std::string, std::vector<const Row*>>> groups;
  for (const Row& row : rows) {
    std::string key;
    for (const std::string& name : keys) {
      const Value* value = row.Find(name);
      key += (value == nullptr ? "" : Format(*value, "%.9g")) + '\n';
    }
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& each) { return each.first == key; });
    if (group == groups.end()) group = groups.insert(groups.end(), {key, {}});
    group->second.push_back(&row);
  }
  std::vector<Row> result;
  for (const auto& [key, members] : groups) {
    Row summary = *members[0];
    for (const auto& [name, value] : members[0]->values()) {
      if (!std::holds_alternative<double>(value) || members.size() == 1) continue;
      std::vector<double> numbers;
      for (const Row* member : members) {
        const Value* each = member->Find(name);
        if (each != nullptr && std::holds_alternative<double>(*each)) numbers.push_back(std::get<double>(*each));
      }
      const Spread spread = SpreadOf(numbers);
      summary.Set(name, spread.median).Set(name + "_low", spread.low).Set(name + "_high", spread.high);
    }
    result.push_back(summary);
  }
  return result;
}

Spread SpreadOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

double Percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
  return values[std::min(values.size(), std::max<size_t>(rank, 1)) - 1];
}

std::string FormatSpread(const Spread& spread) {
  char text[96];
  if (spread.low == spread.high) {
    std::snprintf(text, sizeof(text), "%.4g", spread.median);
  } else {
    std::snprintf(text, sizeof(text), "%.4g (%.4g..%.4g)", spread.median, spread.low, spread.high);
  }
  return text;
}

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) quoted += c;
  }
  return quoted + "\"";
}

void WriteJson(const std::string& path, const std::string& workload, const Machine& machine,
               const std::vector<Row>& rows) {
  if (path.empty()) return;
  Row setup;
  setup.Set("gpu", machine.gpu_name).Set("driver_version", machine.driver_version);
  setup.Set("cuda_version", static_cast<uint64_t>(machine.cuda_version));
  setup.Set("runtime_version", static_cast<uint64_t>(machine.runtime_version));
  setup.Set("free_bytes", machine.free_bytes).Set("total_bytes", machine.total_bytes);
  setup.Set("host_available_bytes", machine.host_available_bytes).Set("simulated", machine.simulated);
  std::string json = "{\n  \"workload\": " + Quote(workload) + ",\n  \"setup\": " + ToJson(setup) + ",\n  \"rows\": [";
  for (size_t i = 0; i < rows.size(); ++i) json += (i == 0 ? "\n    " : ",\n    ") + ToJson(rows[i]);
  json += "\n  ]\n}\n";

  FILE* const out = path == "-" ? stdout : std::fopen(path.c_str(), "w");
  if (out == nullptr) throw std::runtime_error("cannot write " + path);
  const bool written = std::fputs(json.c_str(), out) >= 0 && std::fflush(out) == 0;
  if (out != stdout) std::fclose(out);
  if (!written) throw std::runtime_error("writing " + path + " failed: is the disk full?");
}

}  // namespace examples
