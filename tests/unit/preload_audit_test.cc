#include <gtest/gtest.h>

#include "cupti/audit.h"

namespace uvmtrace {
namespace {

// The names on the left are those of libcupti 13.0's callback ids.
TEST(PreloadAudit, RuntimeNamesWithoutTheirVersions) {
  EXPECT_TRUE(SameRuntimeFunction("cudaMalloc_v3020", "cudaMalloc"));
  EXPECT_TRUE(SameRuntimeFunction("cudaMemcpyAsync_ptsz_v7000", "cudaMemcpyAsync_ptsz"));
  EXPECT_TRUE(SameRuntimeFunction("cudaMemAdvise_v12020", "cudaMemAdvise_v2"));
  EXPECT_TRUE(SameRuntimeFunction("cudaMemAdvise_v8000", "cudaMemAdvise"));
  EXPECT_TRUE(SameRuntimeFunction("cudaMemPrefetchAsync_ptsz_v12020", "cudaMemPrefetchAsync_v2_ptsz"));
  EXPECT_TRUE(SameRuntimeFunction("cudaMallocArray_v3020", "cudaMallocArray"));
}

TEST(PreloadAudit, DifferentFunctionsStayApart) {
  EXPECT_FALSE(SameRuntimeFunction("cudaMemcpyAsync_ptsz_v7000", "cudaMemcpyAsync"));
  EXPECT_FALSE(SameRuntimeFunction("cudaMemcpy_v3020", "cudaMemcpy_ptds"));
  EXPECT_FALSE(SameRuntimeFunction("cudaMallocArray_v3020", "cudaMalloc"));
  EXPECT_FALSE(SameRuntimeFunction("cudaMemcpyToSymbol_v3020", "cudaMemcpy"));
  EXPECT_FALSE(SameRuntimeFunction("", "cudaMalloc"));
  EXPECT_FALSE(SameRuntimeFunction("_v", "cudaMalloc"));
}

TEST(PreloadAudit, OnlyApiRecordsCount) {
  CUpti_ActivityAPI record{};
  record.kind = CUPTI_ACTIVITY_KIND_DRIVER;
  record.cbid = 0xFFFFFF;  // of a CUPTI of the future
  const auto* const bytes = reinterpret_cast<const uint8_t*>(&record);
  EXPECT_TRUE(CountAuditRecord(bytes, sizeof(record)));
  EXPECT_FALSE(CountAuditRecord(bytes, sizeof(record) - 1));
  record.kind = CUPTI_ACTIVITY_KIND_MEMCPY;
  EXPECT_FALSE(CountAuditRecord(bytes, sizeof(record)));
}

}  // namespace
}  // namespace uvmtrace
