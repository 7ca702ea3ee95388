# The sources: cupti/ and driver/, against a scripted libcupti and a scripted /proc.

# Found and opened as the real one is, so it has its name; "other" and pip's folders hold further copies.
set(fake_cupti_folder ${CMAKE_CURRENT_BINARY_DIR}/fake_cupti)
function(uvmtrace_add_fake_cupti target folder version)
  add_library(${target} SHARED fake_cupti.cc)
  target_link_libraries(${target} PRIVATE uvmtrace_cuda_headers)
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME cupti SUFFIX .so.${version} NO_SONAME ON LIBRARY_OUTPUT_DIRECTORY ${fake_cupti_folder}${folder})
endfunction()
uvmtrace_add_fake_cupti(uvmtrace_fake_cupti "" 13)
uvmtrace_add_fake_cupti(uvmtrace_fake_cupti_other "/other" 12)
uvmtrace_add_fake_cupti(uvmtrace_fake_cupti_simulator "/simulator" 13)
uvmtrace_add_fake_cupti(uvmtrace_fake_cupti_pip "/nvidia/cuda_cupti/lib" 12)
file(MAKE_DIRECTORY ${fake_cupti_folder}/nvidia/cuda_runtime/lib)

add_executable(uvmtrace_sources_test
  cupti_library_search_test.cc
  cupti_clients_test.cc
  cupti_life_test.cc
  cupti_source_test.cc
  driver_bh_profiler_test.cc
  driver_bh_ring_test.cc
  driver_bh_symbols_test.cc
  driver_kernel_threads_test.cc
  driver_link_pace_test.cc
  driver_exact_counters_test.cc
  driver_memory_areas_test.cc
  driver_queue_detail_test.cc
  driver_queue_parts_test.cc
  driver_queue_reader_test.cc
  driver_queue_source_test.cc
  driver_sampler_test.cc
  sources_child.cc
  sources_trace.cc)
target_compile_definitions(uvmtrace_sources_test PRIVATE
  UVMTRACE_FAKE_CUPTI_FOLDER="${fake_cupti_folder}"
  UVMTRACE_REAL_CUPTI="${CUDAToolkit_LIBRARY_DIR}/libcupti.so")
target_link_libraries(uvmtrace_sources_test PRIVATE
  uvmtrace_cupti uvmtrace_driver uvmtrace_record uvmtrace_trace_proto uvmtrace_cuda_headers
  GTest::gtest_main ${CMAKE_DL_LIBS})
add_dependencies(uvmtrace_sources_test uvmtrace_fake_cupti uvmtrace_fake_cupti_other uvmtrace_fake_cupti_pip
                 uvmtrace_fake_cupti_simulator)
# die_after_fork: forked children start sources of their own.
gtest_discover_tests(uvmtrace_sources_test PROPERTIES
  ENVIRONMENT "LD_LIBRARY_PATH=${fake_cupti_folder}/simulator"
  ENVIRONMENT_MODIFICATION TSAN_OPTIONS=set:die_after_fork=0)

# As record_needs_only_libc: see record.cmake.
if(UVMTRACE_SANITIZE STREQUAL "")
  add_library(uvmtrace_sources_link_test SHARED record_link_test.cc)
  target_link_libraries(uvmtrace_sources_link_test PRIVATE uvmtrace_recorder_flags
    -Wl,--whole-archive uvmtrace_cupti uvmtrace_driver uvmtrace_record -Wl,--no-whole-archive -Wl,-z,defs)
  set_target_properties(uvmtrace_sources_link_test PROPERTIES LINKER_LANGUAGE C)
  add_test(NAME sources_need_only_libc
    COMMAND ${CMAKE_COMMAND} -DLIBRARY=$<TARGET_FILE:uvmtrace_sources_link_test> -DREADELF=${CMAKE_READELF}
            -P ${CMAKE_CURRENT_SOURCE_DIR}/record_link_test.cmake)
endif()

# The comparison with the driver's headers must see what differs.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_test(NAME driver.check_driver_abi
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/check_driver_abi_test.py
    ${PROJECT_SOURCE_DIR}/scripts/check_driver_abi)
set_tests_properties(driver.check_driver_abi PROPERTIES TIMEOUT 600)
