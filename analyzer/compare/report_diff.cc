#include "analyzer/compare/report_diff.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "analyzer/compare/rows.h"
#include "analyzer/compare/samples.h"
#include "analyzer/compare/stack_alignment.h"

namespace uvmtrace::analyzer {
namespace {

struct Row {
  std::string label;
  std::string key;                                  // as it stands in the report
  std::vector<std::map<std::string, double>> runs;  // number by field, by run; empty where a run has no such row
};
// By key; of the changed side, with the keys of aligned sites replaced by those of the base.
using Rows = std::map<std::string, Row>;
using Renames = std::map<std::string, std::string>;

std::string Renamed(std::string key, const Renames& renames) {
  for (const auto& [from, to] : renames) {
    const size_t at = key.find(from);
    if (at != std::string::npos) return key.replace(at, from.size(), to);
  }
  return key;
}

void AddRow(const std::string& key, const std::string& label, const Message& row, size_t run, size_t runs, Rows* rows) {
  Row& known = rows->try_emplace(key).first->second;
  if (known.runs.empty()) {
    known.runs.resize(runs);
    known.label = label;
  }
  for (const FieldDescriptor* field : ComparableFields(*row.GetDescriptor())) {
    // Rows of one key, as of several devices, are added up.
    if (const auto number = NumberOf(row, *field)) known.runs[run][std::string(field->name())] += *number;
  }
}

Rows CollectRows(const RowTable& table, const Version& version, const Renames& renames) {
  Rows rows;
  for (size_t run = 0; run < version.runs.size(); ++run) {
    for (const Message* row : RowsOf(table, version.runs[run])) {
      const std::string key = KeyOf(table, *row);
      const std::string renamed = Renamed(key, renames);
      AddRow(renamed, LabelOf(table, *row), *row, run, version.runs.size(), &rows);
      rows[renamed].key = key;
    }
  }
  return rows;
}

Rows CollectTotals(const Version& version) {
  Rows rows;
  for (size_t run = 0; run < version.runs.size(); ++run) {
    AddRow("totals", "the run", version.runs[run].totals(), run, version.runs.size(), &rows);
    rows["totals"].key = "totals";
    const Capture& capture = version.runs[run].capture();
    if (capture.has_duration_ns()) {
      rows["totals"].runs[run]["duration_ns"] = static_cast<double>(capture.duration_ns());
    }
  }
  return rows;
}

bool IsThere(const Row* row) {
  return row != nullptr &&
         std::any_of(row->runs.begin(), row->runs.end(), [](const auto& run) { return !run.empty(); });
}

// What a run does not know is left out; a row that a run does not have counts as 0 where other runs have it.
Samples SamplesOf(const Row* row, const std::string& field) {
  Samples samples;
  if (!IsThere(row)) return samples;
  const bool known =
      std::any_of(row->runs.begin(), row->runs.end(), [&](const auto& run) { return run.count(field) != 0; });
  for (const auto& run : row->runs) {
    const auto number = run.find(field);
    if (number != run.end()) {
      samples.Add(number->second);
    } else if (known && run.empty()) {
      samples.Add(0);
    }
  }
  return samples;
}

// Nanoseconds that a change may be worth: what comes first. Bytes count as at 10 GB/s, a fault or call as 0.1 us.
double Weight(const std::string& field, double change) {
  const auto ends = [&](const char* end) {
    const std::string text = end;
    return field.size() >= text.size() && field.compare(field.size() - text.size(), text.size(), text) == 0;
  };
  const double size = std::fabs(change);
  if (ends("_ns")) return size;
  if (ends("share") || ends("ratio") || ends("per_second") || ends("utilization")) return 0;
  return ends("bytes") ? size / 10 : size * 100;
}

struct Changed {
  DiffValue value;
  double weight = 0;
};

// False if nothing changed.
bool CompareNumbers(const std::string& field, const Samples& before, const Samples& after, double threshold,
                    Changed* changed) {
  if (before.empty() && after.empty()) return false;
  DiffValue& value = changed->value;
  value.set_field(field);
  if (!before.empty()) {
    value.set_base(before.Median());
    value.set_base_low(before.Low());
    value.set_base_high(before.High());
  }
  if (!after.empty()) {
    value.set_changed(after.Median());
    value.set_changed_low(after.Low());
    value.set_changed_high(after.High());
  }
  const double change = value.changed() - value.base();
  changed->weight = Weight(field, change);
  if (change == 0) return false;
  if (before.empty() || after.empty()) return true;
  if (value.base() != 0) value.set_change(change / value.base());
  if (value.has_change() && std::fabs(value.change()) < threshold) return false;
  if (before.size() + after.size() > 2) {
    if (Overlap(before, after)) return false;
    value.set_chance(ChanceOfNoOverlap(before.size(), after.size()));
  }
  return true;
}

void CompareRow(const std::string& section, const Row* before, const Row* after, double threshold,
                std::vector<std::pair<double, DiffRow>>* found, uint64_t* same) {
  std::vector<Changed> values;
  std::map<std::string, bool> fields;
  for (const Row* row : {before, after}) {
    if (row == nullptr) continue;
    for (const auto& run : row->runs) {
      for (const auto& [field, number] : run) fields[field] = true;
    }
  }
  for (const auto& [field, unused] : fields) {
    Changed changed;
    if (CompareNumbers(field, SamplesOf(before, field), SamplesOf(after, field), threshold, &changed)) {
      values.push_back(std::move(changed));
    }
  }
  const bool came = before == nullptr;
  const bool went = after == nullptr;
  if (values.empty() && !came && !went) {
    ++*same;
    return;
  }
  std::stable_sort(values.begin(), values.end(),
                   [](const Changed& a, const Changed& b) { return a.weight > b.weight; });
  DiffRow row;
  row.set_section(section);
  row.set_key(went ? before->key : after->key);
  if (!came && !went && before->key != after->key) row.set_former_key(before->key);
  row.set_label(went ? before->label : after->label);
  const bool grew = !values.empty() && values.front().value.changed() > values.front().value.base();
  row.set_status(came ? "came" : went ? "went" : grew ? "grew" : "shrank");
  for (Changed& changed : values) *row.add_values() = std::move(changed.value);
  found->emplace_back(values.empty() ? 0 : values.front().weight, std::move(row));
}

void CompareSection(const std::string& section, const Rows& before, const Rows& after, double threshold, Diff* diff) {
  std::vector<std::pair<double, DiffRow>> found;
  uint64_t same = diff->same_rows();
  const auto find = [](const Rows& rows, const std::string& key) {
    const auto row = rows.find(key);
    return row == rows.end() ? nullptr : &row->second;
  };
  for (const auto& [key, row] : before) CompareRow(section, &row, find(after, key), threshold, &found, &same);
  for (const auto& [key, row] : after) {
    if (find(before, key) == nullptr) CompareRow(section, nullptr, &row, threshold, &found, &same);
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  for (auto& [weight, row] : found) *diff->add_rows() = std::move(row);
  diff->set_same_rows(same);
}

// Sites that one side alone has, each once.
std::vector<SiteRow> OnlyIn(const Version& version, const Version& other) {
  std::map<std::string, const SiteRow*> rows;
  for (const Report& report : version.runs) {
    for (const SiteRow& site : report.sites()) rows[site.key()] = &site;
  }
  for (const Report& report : other.runs) {
    for (const SiteRow& site : report.sites()) rows.erase(site.key());
  }
  std::vector<SiteRow> only;
  for (const auto& [key, site] : rows) only.push_back(*site);
  return only;
}

}  // namespace

Diff Compare(const Version& base, const Version& changed, double threshold) {
  Diff diff;
  diff.set_schema_version(1);
  diff.set_threshold(threshold);
  for (const std::string& name : base.names) diff.add_base(name);
  for (const std::string& name : changed.names) diff.add_changed(name);
  const Renames renames = AlignSites(OnlyIn(base, changed), OnlyIn(changed, base));
  CompareSection("totals", CollectTotals(base), CollectTotals(changed), threshold, &diff);
  for (const RowTable& table : RowTables()) {
    CompareSection(table.section, CollectRows(table, base, {}), CollectRows(table, changed, renames), threshold, &diff);
  }
  return diff;
}

}  // namespace uvmtrace::analyzer
