// The table of driver functions against stacks as they were seen, and against drivers that do not exist yet.
#include <gtest/gtest.h>

#include "analyzer/findings/driver_symbols.h"

namespace uvmtrace::analyzer {
namespace {

DriverWork Classify(std::vector<std::string_view> frames, bool in_the_loop = true) {
  if (in_the_loop) {
    for (const char* frame :
         {"service_fault_batch", "uvm_parent_gpu_service_replayable_faults", "replayable_faults_isr_bottom_half",
          "replayable_faults_isr_bottom_half_entry", "_main_loop", "kthread", "ret_from_fork"}) {
      frames.push_back(frame);
    }
  }
  return ClassifyStack(frames);
}

TEST(DriverSymbolsTest, AWaitBelongsToWhatWaits) {
  EXPECT_EQ(Classify({"uvm_spin_loop", "uvm_tracker_wait", "block_copy_resident_pages",
                      "uvm_va_block_make_resident_copy", "uvm_va_block_service_copy", "uvm_va_block_service_locked"}),
            DriverWork::kCopy);
  EXPECT_EQ(Classify({"uvm_spin_loop", "uvm_tracker_wait", "uvm_va_block_map", "uvm_va_block_service_finish"}),
            DriverWork::kGpuMapping);
  EXPECT_EQ(ClassifyStack({"cpu_relax", "uvm_spin_loop", "uvm_tracker_wait", "uvm_parent_gpu_service_replayable_faults",
                           "replayable_faults_isr_bottom_half", "kthread"}),
            DriverWork::kGpuWait);
  EXPECT_EQ(Classify({"uvm_spin_loop", "uvm_tracker_wait", "fault_buffer_flush_locked"}), DriverWork::kReplay);
  // A wait in a function that no rule tells much of is not the replay.
  EXPECT_EQ(Classify({"uvm_spin_loop", "uvm_tracker_wait", "uvm_va_block_something_new"}), DriverWork::kOther);
}

TEST(DriverSymbolsTest, TheInnermostSpecificFrameDecides) {
  EXPECT_EQ(Classify({"smp_call_function_many_cond", "on_each_cpu_cond_mask", "flush_tlb_mm_range", "tlb_finish_mmu",
                      "zap_page_range_single", "unmap_mapping_range", "block_unmap_cpu", "uvm_va_block_unmap",
                      "block_copy_begin_push", "block_copy_resident_pages", "uvm_va_block_make_resident_copy"}),
            DriverWork::kCpuUnmap);
  EXPECT_EQ(Classify({"dma_map_page_attrs", "uvm_parent_gpu_map_cpu_pages", "block_gpu_map_phys_all_cpu_pages",
                      "uvm_va_block_gpu_state_get_alloc", "uvm_va_block_service_locked"}),
            DriverWork::kPopulation);
  EXPECT_EQ(Classify({"clear_page_erms", "__alloc_pages", "uvm_cpu_chunk_alloc", "block_populate_pages_cpu",
                      "uvm_va_block_make_resident"}),
            DriverWork::kPopulation);
}

TEST(DriverSymbolsTest, AnEvictionIsOneWhateverItDoes) {
  EXPECT_EQ(Classify({"uvm_spin_loop", "block_copy_resident_pages", "uvm_va_block_make_resident_copy",
                      "uvm_va_block_evict_chunks", "evict_root_chunk", "uvm_pmm_gpu_alloc_user",
                      "block_alloc_gpu_chunk", "block_populate_pages_gpu", "uvm_va_block_make_resident"}),
            DriverWork::kEviction);
  EXPECT_EQ(Classify({"unmap_mapping_range", "uvm_va_block_evict_chunks"}), DriverWork::kEviction);
}

TEST(DriverSymbolsTest, OurOwnShareIsCalledThat) {
  EXPECT_EQ(Classify({"enqueue_event", "record_gpu_fault_instance", "uvm_tools_record_gpu_fault",
                      "uvm_perf_event_notify", "uvm_va_block_service_locked"}),
            DriverWork::kTools);
}

TEST(DriverSymbolsTest, EachStepOfTheServiceLoop) {
  EXPECT_EQ(Classify({"uvm_hal_turing_fault_buffer_read_get", "fetch_fault_buffer_entries"}), DriverWork::kFaultFetch);
  EXPECT_EQ(Classify({"cmp_sort_fault_entry_by_va_space_gpu_address_access_type", "sort", "preprocess_fault_batch"}),
            DriverWork::kPreprocess);
  EXPECT_EQ(Classify({"uvm_push_end", "push_replay_on_parent_gpu"}), DriverWork::kReplay);
  EXPECT_EQ(Classify({"uvm_perf_prefetch_get_hint_va_block"}), DriverWork::kPolicy);
  EXPECT_EQ(Classify({"uvm_hal_volta_tlb_invalidate_va", "uvm_tlb_batch_end"}), DriverWork::kGpuMapping);
  EXPECT_EQ(
      Classify({"migrate_vma_setup", "uvm_migrate_pageable", "uvm_ats_service_faults", "service_fault_batch_ats"}),
      DriverWork::kSystemMemory);
  EXPECT_EQ(Classify({}), DriverWork::kOther);
}

TEST(DriverSymbolsTest, SuffixesOfTheCompilerAndModuleNamesDoNotMatter) {
  EXPECT_EQ(ClassifyStack({"block_copy_resident_pages.isra.0 [nvidia_uvm]"}), DriverWork::kCopy);
  EXPECT_EQ(ClassifyStack({"unmap_mapping_range+0x31/0x140"}), DriverWork::kCpuUnmap);
}

TEST(DriverSymbolsTest, WhatNobodyKnowsIsUnknown) {
  EXPECT_EQ(ClassifyStack({}), DriverWork::kUnknown);
  EXPECT_EQ(ClassifyStack({"", ""}), DriverWork::kUnknown);
  EXPECT_EQ(ClassifyStack({"new_name_of_everything", "kthread"}), DriverWork::kUnknown);
  EXPECT_EQ(ClassifyStack({"uvm_spin_loop"}), DriverWork::kUnknown);
}

}  // namespace
}  // namespace uvmtrace::analyzer
