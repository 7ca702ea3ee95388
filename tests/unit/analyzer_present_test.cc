// What a person reads: names cut to what tells them apart, rows folded that say the same.
#include <gtest/gtest.h>

#include "analyzer/present/allocation_table.h"
#include "analyzer/short_name.h"

namespace uvmtrace::analyzer {
namespace {

TEST(ShortName, ParametersAndReturnTypesOfTemplatesAreLeftOut) {
  EXPECT_EQ(ShortName("void f<int>(int, char const*) (file.cc:3)"), "f<int>() (file.cc:3)");
  EXPECT_EQ(ShortName("ns::(anonymous namespace)::Class::Call(std::vector<int>) const (a.cc:12)"),
            "ns::(anonymous namespace)::Class::Call() const (a.cc:12)");
  EXPECT_EQ(ShortName("void (anonymous namespace)::Kernel<3>(int)"), "(anonymous namespace)::Kernel<3>()");
}

TEST(ShortName, LongTemplateArgumentsAreCut) {
  const std::string name = ShortName("void k<" + std::string(200, 'x') + ">(int)");
  EXPECT_LT(name.size(), 60u);
  EXPECT_EQ(name.substr(0, 4), "k<xx");
  EXPECT_EQ(name.substr(name.size() - 6), "...>()");
}

TEST(ShortName, WhatIsNoCppNameStaysAsItIs) {
  for (const char* name : {"", "main", "libfoo.so.1+0x12ab", "cudaMalloc (libcudart.so.13)", "(other kernels)",
                           "nvjet_sm90_tst_64x8", "f<", "operator<(", "a->b", "((((", ">>>"}) {
    EXPECT_EQ(ShortName(name), name);
  }
}

TEST(Table, ANarrowTerminalCutsTheLastColumnOnly) {
  Table table({{"bytes"}, {"kernel", Table::Align::kLeft}});
  table.AddRow({"123,456,789", std::string(100, 'k')});
  EXPECT_EQ(table.Render(40, false), "        bytes  kernel\n  123,456,789  " + std::string(22, 'k') + "...\n");
  EXPECT_NE(table.Render(0, false).find(std::string(100, 'k')), std::string::npos);
}

AllocationRow Row(uint64_t id, const std::string& site, uint64_t moved, uint64_t faults) {
  AllocationRow row;
  row.set_id(id);
  row.set_kind("managed");
  row.set_site(site);
  row.set_bytes(1 << 20);
  row.set_host_to_device_bytes(moved);
  row.set_gpu_fault_groups(faults);
  return row;
}

std::string Rendered(const Report& report, const TextOptions& options, AllocationOrder order) {
  const auto table = AllocationTable(report, options, order);
  return table ? table->Render(0, false) : "no table";
}

TEST(AllocationTable, RowsOfOneCallSiteAreOneRowUnlessStacksAreAskedFor) {
  Report report;
  for (uint64_t id = 1; id <= 3; ++id) *report.add_allocations() = Row(id, "Make() (a.cc:1)", 4096, 2);
  *report.add_allocations() = Row(4, "Other() (a.cc:9)", 1024, 9);
  TextOptions options;
  const std::string folded = Rendered(report, options, AllocationOrder::kByBytesMoved);
  EXPECT_EQ(std::count(folded.begin(), folded.end(), '\n'), 3) << folded;
  EXPECT_NE(folded.find("12.0 KiB"), std::string::npos) << folded;  // the sum of three
  EXPECT_NE(folded.find("3.00 MiB"), std::string::npos) << folded;
  options.stacks = true;
  const std::string each = Rendered(report, options, AllocationOrder::kByBytesMoved);
  EXPECT_EQ(std::count(each.begin(), each.end(), '\n'), 5) << each;
}

TEST(AllocationTable, ByFaultsIsLeftOutWhereItWouldRepeatTheOtherOrder) {
  Report report;
  *report.add_allocations() = Row(1, "A() (a.cc:1)", 4096, 9);
  *report.add_allocations() = Row(2, "B() (a.cc:2)", 1024, 2);
  EXPECT_EQ(Rendered(report, {}, AllocationOrder::kByFaults), "no table");
  report.mutable_allocations(1)->set_gpu_fault_groups(90);
  EXPECT_NE(Rendered(report, {}, AllocationOrder::kByFaults), "no table");
  for (AllocationRow& row : *report.mutable_allocations()) row.set_gpu_fault_groups(0);
  EXPECT_EQ(Rendered(report, {}, AllocationOrder::kByFaults), "no table");
}

TEST(AllocationTable, FoldedRowsThatDifferOnlyInsideAreNotRepeated) {
  Report report;
  *report.add_allocations() = Row(1, "A() (a.cc:1)", 4096, 2);
  *report.add_allocations() = Row(2, "A() (a.cc:1)", 1024, 9);
  EXPECT_EQ(Rendered(report, {}, AllocationOrder::kByFaults), "no table");
}

TEST(RenderText, PartsOfASourceStandBehindIt) {
  Report report;
  for (const char* name : {"calls", "cupti", "cupti.clock", "cupti.kernels", "devices"}) {
    SourceRow* source = report.mutable_capture()->add_sources();
    source->set_name(name);
    source->set_state("active");
  }
  EXPECT_NE(RenderText(report, {}).find("calls, cupti (clock, kernels), devices\n"), std::string::npos)
      << RenderText(report, {});
}

TEST(RenderText, PartsWithoutTheirSourceKeepTheirWholeName) {
  Report report;
  for (const char* name : {"cupti.clock", "cupti.kernels"}) {
    SourceRow* source = report.mutable_capture()->add_sources();
    source->set_name(name);
    source->set_state("active");
  }
  EXPECT_NE(RenderText(report, {}).find("cupti.clock, cupti.kernels\n"), std::string::npos) << RenderText(report, {});
}

TEST(AllocationTable, TheRowsOfSumsAreNeverCut) {
  Report report;
  for (uint64_t id = 1; id <= 5; ++id) {
    *report.add_allocations() = Row(id, "F" + std::to_string(id) + "() (a.cc:1)", 100 - id, 1);
  }
  *report.add_allocations() = Row(0, "(no known allocation)", 7, 1);
  TextOptions options;
  options.top = 2;
  const std::string text = Rendered(report, options, AllocationOrder::kByBytesMoved);
  EXPECT_NE(text.find("(no known allocation)"), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4) << text;
}

}  // namespace
}  // namespace uvmtrace::analyzer
