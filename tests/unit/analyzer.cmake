# The analyzer: traces are built with libprotobuf's classes of uvmtrace.proto, real checksums, and read back.
add_library(uvmtrace_trace_builder STATIC
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_trace_builder.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_hazard_samples.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_queue_samples.cc)
target_link_libraries(uvmtrace_trace_builder PUBLIC uvmtrace_trace_proto)

# What a report says, tested with rows written by hand.
add_executable(analyzer_report_test
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_findings_table_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_report_findings_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_report_truth_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_present_test.cc)
target_link_libraries(analyzer_report_test PRIVATE uvmtrace_explain GTest::gtest_main)
gtest_discover_tests(analyzer_report_test TEST_PREFIX analyzer. PROPERTIES TIMEOUT 60)

# What differs between reports.
add_executable(analyzer_compare_test ${CMAKE_CURRENT_LIST_DIR}/analyzer_compare_test.cc)
target_link_libraries(analyzer_compare_test PRIVATE uvmtrace_compare GTest::gtest_main)
gtest_discover_tests(analyzer_compare_test TEST_PREFIX analyzer. PROPERTIES TIMEOUT 60)

add_executable(analyzer_test
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_reader_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_model_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_accounts_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_report_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_completeness_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_queue_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_queue_model_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_reconstruct_room_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_coverage_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_virtual_memory_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_hazards_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_hazards_of_time_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_driver_symbols_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_symbol_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_traffic_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_system_memory_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/analyzer_command_test.cc)
target_compile_definitions(analyzer_test PRIVATE UVMTRACE_REPORT_BINARY="$<TARGET_FILE:uvmtrace_report>")
add_dependencies(analyzer_test uvmtrace_report)
target_link_libraries(analyzer_test PRIVATE uvmtrace_analyzer uvmtrace_trace_builder GTest::gtest_main)
gtest_discover_tests(analyzer_test TEST_PREFIX analyzer. PROPERTIES TIMEOUT 300)

add_subdirectory(${CMAKE_SOURCE_DIR}/tests/fuzz ${CMAKE_BINARY_DIR}/tests/fuzz)
