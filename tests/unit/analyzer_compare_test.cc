// diff and the gates: what changed is told, noise is not, and a gate that cannot be told never passes in silence.
#include <gtest/gtest.h>

#include "analyzer/compare/diff_text.h"
#include "analyzer/compare/gate.h"
#include "analyzer/compare/report_diff.h"
#include "analyzer/compare/rows.h"

namespace uvmtrace::testing {
namespace {

using namespace uvmtrace::analyzer;

struct Site {
  std::string key;
  std::vector<std::string> stack;
  uint64_t waited_ns;
};

SiteRow* AddSite(Report* report, const Site& site) {
  SiteRow* const row = report->add_sites();
  row->set_key(site.key);
  row->set_kind("managed");
  for (const std::string& frame : site.stack) row->add_stack(frame);
  if (!site.stack.empty()) row->set_site(site.stack.front());
  row->set_gpu_waited_ns(site.waited_ns);
  return row;
}

Report RunThat(uint64_t waited_ns) {
  Report report;
  report.mutable_totals()->set_fault_service_ns(waited_ns);
  report.mutable_totals()->set_host_to_device_bytes(1 << 20);
  AddSite(&report, {"managed:fill@a.cc:1", {"fill() (a.cc:1)", "main (a.cc:9)"}, waited_ns});
  return report;
}

Version VersionOf(const std::vector<uint64_t>& waits) {
  Version version;
  for (const uint64_t wait : waits) {
    version.names.push_back("run");
    version.runs.push_back(RunThat(wait));
  }
  return version;
}

const DiffRow* Find(const Diff& diff, const std::string& section) {
  for (const DiffRow& row : diff.rows()) {
    if (row.section() == section) return &row;
  }
  return nullptr;
}

TEST(DiffTest, EqualRunsDifferInNothing) {
  const Diff diff = Compare(VersionOf({1000}), VersionOf({1000}), 0.02);
  EXPECT_EQ(diff.rows_size(), 0);
  EXPECT_EQ(diff.same_rows(), 2u);
  EXPECT_NE(RenderText(diff, {}).find("nothing changed"), std::string::npos);
}

TEST(DiffTest, AChangeIsToldWithItsSize) {
  const Diff diff = Compare(VersionOf({2'000'000}), VersionOf({500'000}), 0.02);
  const DiffRow* const site = Find(diff, "sites");
  ASSERT_NE(site, nullptr);
  EXPECT_EQ(site->status(), "shrank");
  EXPECT_EQ(site->values(0).field(), "gpu_waited_ns");
  EXPECT_DOUBLE_EQ(site->values(0).change(), -0.75);
  EXPECT_FALSE(site->values(0).has_chance()) << "one run on each side says nothing of chance";
  EXPECT_NE(RenderText(diff, {}).find("-75 %"), std::string::npos);
}

TEST(DiffTest, AChangeBelowTheThresholdIsNone) {
  EXPECT_EQ(Compare(VersionOf({1000}), VersionOf({1010}), 0.02).rows_size(), 0);
  EXPECT_NE(Compare(VersionOf({1000}), VersionOf({1010}), 0.001).rows_size(), 0);
}

TEST(DiffTest, RunsThatOverlapAreNoise) {
  EXPECT_EQ(Compare(VersionOf({1000, 1300, 1100}), VersionOf({1500, 1250, 1600}), 0.02).rows_size(), 0);
  const Diff apart = Compare(VersionOf({1000, 1300, 1100}), VersionOf({1500, 1400, 1600}), 0.02);
  ASSERT_NE(Find(apart, "totals"), nullptr);
  EXPECT_DOUBLE_EQ(Find(apart, "totals")->values(0).chance(), 0.1) << "two of twenty orders";
  EXPECT_EQ(Find(apart, "totals")->values(0).base(), 1100);
}

TEST(DiffTest, RowsComeAndGo) {
  Version base = VersionOf({1000});
  Version changed = VersionOf({1000});
  FindingRow* const went = base.runs[0].add_findings();
  went->set_id("ping_pong");
  went->set_subject("managed:fill@a.cc:1");
  went->set_cost_ns(5000);
  KernelRow* const came = changed.runs[0].add_kernels();
  came->set_name("Fill");
  came->set_total_ns(77);
  const Diff diff = Compare(base, changed, 0.02);
  ASSERT_NE(Find(diff, "findings"), nullptr);
  EXPECT_EQ(Find(diff, "findings")->status(), "went");
  EXPECT_EQ(Find(diff, "findings")->values(0).base(), 5000);
  EXPECT_FALSE(Find(diff, "findings")->values(0).has_changed());
  ASSERT_NE(Find(diff, "kernels"), nullptr);
  EXPECT_EQ(Find(diff, "kernels")->status(), "came");
}

TEST(DiffTest, ASiteWhoseStackChangedIsTheSameSite) {
  Version base;
  Version changed;
  base.names = changed.names = {"run"};
  base.runs.emplace_back();
  changed.runs.emplace_back();
  AddSite(&base.runs[0], {"managed:make@a.cc:aa", {"make() (a.cc:1)", "load() (a.cc:5)", "main (a.cc:9)"}, 1000});
  AddSite(&base.runs[0], {"managed:other@b.cc:bb", {"other() (b.cc:1)", "start (b.cc:9)"}, 10});
  // A helper was put between, and lines moved.
  AddSite(
      &changed.runs[0],
      {"managed:make@a.cc:cc", {"make() (a.cc:3)", "helper() (a.cc:6)", "load() (a.cc:8)", "main (a.cc:14)"}, 4000});
  const Diff diff = Compare(base, changed, 0.02);
  ASSERT_EQ(diff.rows_size(), 2);
  EXPECT_EQ(diff.rows(0).status(), "grew");
  EXPECT_EQ(diff.rows(0).former_key(), "managed:make@a.cc:aa");
  EXPECT_EQ(diff.rows(1).status(), "went");
  EXPECT_EQ(diff.rows(1).key(), "managed:other@b.cc:bb");
}

TEST(DiffTest, AnUnknownNumberIsNotZero) {
  Version base = VersionOf({1000});
  Version changed = VersionOf({1000});
  changed.runs[0].mutable_totals()->clear_host_to_device_bytes();
  const Diff diff = Compare(base, changed, 0.02);
  const DiffRow* const totals = Find(diff, "totals");
  ASSERT_NE(totals, nullptr);
  EXPECT_EQ(totals->values(0).field(), "host_to_device_bytes");
  EXPECT_FALSE(totals->values(0).has_changed());
  EXPECT_FALSE(totals->values(0).has_change());
}

TEST(DiffTest, MarkdownKeepsItsTable) {
  Version changed = VersionOf({1000});
  changed.runs[0].add_kernels()->set_name("a|b<int>");
  changed.runs[0].mutable_kernels(0)->set_total_ns(5);
  const std::string text = RenderMarkdown(Compare(VersionOf({1000}), changed, 0.02), {});
  EXPECT_NE(text.find("a\\|b&lt;int>"), std::string::npos) << text;
}

GateRow Judged(const std::string& text, const std::vector<Report>& base, const std::vector<Report>& changed) {
  std::string error;
  const auto gate = ParseGate(text, &error);
  EXPECT_TRUE(gate) << text << ": " << error;
  return gate ? Evaluate(*gate, base, changed) : GateRow();
}

TEST(GateTest, ComparesAFieldWithAValueInItsUnit) {
  const std::vector<Report> runs = {RunThat(2'000'000)};
  EXPECT_TRUE(Judged("totals.host_to_device_bytes >= 1MiB", {}, runs).failed());
  EXPECT_FALSE(Judged("totals.host_to_device_bytes > 1MiB", {}, runs).failed());
  EXPECT_TRUE(Judged("fault_stall > 1.5 ms", {}, runs).failed());
  EXPECT_FALSE(Judged("fault_stall>3ms", {}, runs).failed());
  EXPECT_TRUE(Judged("totals.fault_service_ns == 2000000", {}, runs).failed());
  EXPECT_TRUE(Judged("sites[managed:fill@a.cc:1].gpu_waited_ns > 1ms", {}, runs).failed());
  EXPECT_TRUE(Judged("sites.count != 2", {}, runs).failed());
}

TEST(GateTest, CountsFindingsByTheirName) {
  Report report = RunThat(1000);
  for (const char* subject : {"a", "b"}) {
    FindingRow* const row = report.add_findings();
    row->set_id("prefetch_late");
    row->set_subject(subject);
  }
  EXPECT_DOUBLE_EQ(Judged("findings[prefetch_late].count > 0", {}, {report}).value(), 2);
  EXPECT_DOUBLE_EQ(Judged("findings[prefetch_late|b].count > 0", {}, {report}).value(), 1);
  EXPECT_FALSE(Judged("findings[ping_pong].count > 0", {}, {report}).failed());
}

TEST(GateTest, AFieldNamedCountIsTheField) {
  Report report;
  report.add_calls()->set_name("cudaMalloc");
  report.mutable_calls(0)->set_count(17);
  EXPECT_DOUBLE_EQ(Judged("calls[cudaMalloc].count > 0", {}, {report}).value(), 17);
}

TEST(GateTest, AChangeIsAbsoluteOrInPercent) {
  const std::vector<Report> base = {RunThat(1'000'000)};
  const std::vector<Report> changed = {RunThat(1'100'000)};
  EXPECT_TRUE(Judged("diff.fault_stall > +5%", base, changed).failed());
  EXPECT_FALSE(Judged("diff.fault_stall > +15%", base, changed).failed());
  EXPECT_TRUE(Judged("diff.fault_stall > 50us", base, changed).failed());
  EXPECT_FALSE(Judged("diff.totals.host_to_device_bytes > +0%", base, changed).failed());
  EXPECT_TRUE(Judged("diff.findings.count >= 0", base, changed).failed());
}

TEST(GateTest, AChangeFromNothingIsBeyondEveryPercentage) {
  EXPECT_TRUE(Judged("diff.fault_stall > +1000%", {RunThat(0)}, {RunThat(5)}).failed());
  EXPECT_FALSE(Judged("diff.fault_stall > +1000%", {RunThat(0)}, {RunThat(0)}).failed());
}

TEST(GateTest, OverlappingRunsFailNothing) {
  const GateRow row = Judged("diff.fault_stall > +5%", {RunThat(100), RunThat(130)}, {RunThat(120), RunThat(150)});
  EXPECT_FALSE(row.failed());
  EXPECT_NE(row.note().find("overlap"), std::string::npos);
  EXPECT_TRUE(Judged("diff.fault_stall > +5%", {RunThat(100), RunThat(110)}, {RunThat(120), RunThat(150)}).failed());
}

TEST(GateTest, WhatIsNotKnownIsNeitherPassedNorFailed) {
  Report report;
  const GateRow row = Judged("totals.evicted_bytes > 0", {}, {report});
  EXPECT_FALSE(row.has_failed());
  EXPECT_FALSE(row.note().empty());
}

TEST(GateTest, RefusesWhatItDoesNotUnderstand) {
  for (const char* text :
       {"", "totals", "totals.host_to_device_bytes", "totals.host_to_device_bytes > ", "totals.no_such_field > 1",
        "totals.host_to_device_bytes > 5ms", "totals.fault_service_ns > 5GiB", "totals.fault_service_ns > 5 parsec",
        "headline > 1", "nothing[x].count > 1", "sites[x > 1", ".. > 1", "bandwidth[x].count > 1", "totals > 1",
        "totals.fault_service_ns > nan"}) {
    std::string error;
    EXPECT_FALSE(ParseGate(text, &error)) << text;
    EXPECT_FALSE(error.empty()) << text;
  }
}

TEST(RowTablesTest, EveryTableNamesFieldsThatExist) {
  Report report;
  for (const RowTable& table : RowTables()) {
    const auto* field = Report::descriptor()->FindFieldByName(table.section);
    ASSERT_NE(field, nullptr) << table.section;
    const auto* row = field->message_type();
    if (!field->is_repeated()) row = row->FindFieldByName("rows")->message_type();
    for (const char* key : table.key) EXPECT_NE(row->FindFieldByName(key), nullptr) << table.section << "." << key;
    EXPECT_NE(row->FindFieldByName(table.label), nullptr) << table.section;
    EXPECT_TRUE(RowsOf(table, report).empty());
  }
}

}  // namespace
}  // namespace uvmtrace::testing
