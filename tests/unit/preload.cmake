# The recorder's parts that need no process of their own: configuration, the list of calls, the table of managed memory.
add_executable(uvmtrace_preload_test
  preload_call_cost_test.cc
  preload_config_test.cc
  preload_functions_test.cc
  preload_launcher_test.cc
  preload_managed_memory_test.cc
  ${PROJECT_SOURCE_DIR}/preload/launcher/elf_program.cc)
target_link_libraries(uvmtrace_preload_test PRIVATE
  uvmtrace_preload_parts uvmtrace_record uvmtrace_cuda_headers GTest::gtest_main)
target_compile_definitions(uvmtrace_preload_test PRIVATE
  UVMTRACE_LIBCUDA_STUB="${CUDAToolkit_LIBRARY_DIR}/stubs/libcuda.so")
gtest_discover_tests(uvmtrace_preload_test)
