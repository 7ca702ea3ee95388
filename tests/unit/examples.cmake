# What the examples decide before they touch a GPU. The runtime is linked because the modes call it; no test does.
add_executable(examples_test
  examples_test.cc
  examples_experiments_test.cc
  ${PROJECT_SOURCE_DIR}/examples/kv_remap/schedule.cc
  ${PROJECT_SOURCE_DIR}/examples/paged_attention/reference.cc
  ${PROJECT_SOURCE_DIR}/examples/oversub/managed_modes.cc
  ${PROJECT_SOURCE_DIR}/examples/oversub/manual_modes.cc
  ${PROJECT_SOURCE_DIR}/examples/oversub/modes.cc
  ${PROJECT_SOURCE_DIR}/examples/oversub/plan.cc
  $<TARGET_OBJECTS:uvmtrace_examples_common>)
target_include_directories(examples_test SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(examples_test PRIVATE CUDA::cudart GTest::gtest_main)
gtest_discover_tests(examples_test)
