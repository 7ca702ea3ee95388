// What an example found, as rows of named values: the one form from which the Markdown table for people and the JSON
// for examples/run-tables are made.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "examples/common/machine.h"

namespace examples {

using Value = std::variant<std::string, uint64_t, double, bool>;

// In the order in which they were set, which is the order of the columns.
class Row {
 public:
  Row& Set(const std::string& name, Value value);
  const Value* Find(const std::string& name) const;
  const std::vector<std::pair<std::string, Value>>& values() const { return values_; }

 private:
  std::vector<std::pair<std::string, Value>> values_;
};

// A Markdown table of these columns; a value that a row lacks is "-".
void PrintTable(FILE* out, const std::vector<Row>& rows, const std::vector<std::string>& columns);

// One row for each distinct combination of `keys`: the median of each double column, and "NAME_low" and "NAME_high".
// Other values are those of the first row. What --repeat is for.
std::vector<Row> Summarise(const std::vector<Row>& rows, const std::vector<std::string>& keys);

struct Spread {
  double median = 0, low = 0, high = 0;
};
Spread SpreadOf(std::vector<double> values);
double Percentile(std::vector<double> values, double percent);  // nearest rank; 0 of nothing

// "1.234 (1.200..1.300)", or one number where there is no spread.
std::string FormatSpread(const Spread& spread);

// {"workload": ..., "setup": {...}, "rows": [...]} to the file, or to stdout for "-". Nothing for an empty path.
void WriteJson(const std::string& path, const std::string& workload, const Machine& machine,
               const std::vector<Row>& rows);

std::string Quote(const std::string& text);  // a JSON string

}  // namespace examples
