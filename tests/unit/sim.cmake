add_executable(sim_test
  sim_model_advice_test.cc sim_model_eviction_test.cc sim_model_test.cc sim_prefetch_test.cc sim_timeline_test.cc)
target_link_libraries(sim_test PRIVATE uvm_model GTest::gtest_main)
gtest_discover_tests(sim_test)

if(UVMTRACE_CUDA_PROGRAMS)
# An nvcc binary with the shared runtime, as users build them; it finds the simulated libraries by LD_LIBRARY_PATH.
add_executable(sim_program
  sim_program.cu sim_program_clock.cu sim_program_cupti.cu sim_program_gpus.cu sim_program_memory.cu sim_program_process.cu sim_program_work.cu)
set_target_properties(sim_program PROPERTIES CUDA_RUNTIME_LIBRARY Shared RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
target_include_directories(sim_program SYSTEM PRIVATE ${UVMTRACE_CUPTI_INCLUDE_DIR})
find_library(UVMTRACE_CUPTI_LIBRARY NAMES libcupti.so.13
             HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_DIR}/../extras/CUPTI/lib64)
target_link_libraries(sim_program PRIVATE ${UVMTRACE_CUPTI_LIBRARY} ${CMAKE_DL_LIBS})

# The same, reading the driver's tools interface.
add_executable(sim_tools_program sim_tools_program.cu sim_tools_program_readers.cu)
set_target_properties(sim_tools_program PROPERTIES
  CUDA_RUNTIME_LIBRARY Shared RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
target_link_libraries(sim_tools_program PRIVATE ${CMAKE_DL_LIBS})

add_executable(sim_libraries_test sim_libraries_test.cc)
target_link_libraries(sim_libraries_test PRIVATE GTest::gtest_main)
target_compile_definitions(sim_libraries_test PRIVATE
  UVMSIM_LIBRARIES="${CMAKE_LIBRARY_OUTPUT_DIRECTORY}/uvmtrace/sim" UVMSIM_PROGRAM="$<TARGET_FILE:sim_program>"
  UVMSIM_TOOLS_PROGRAM="$<TARGET_FILE:sim_tools_program>")
add_dependencies(sim_libraries_test sim_program sim_tools_program uvmsim_cuda uvmsim_cudart uvmsim_cupti)
gtest_discover_tests(sim_libraries_test PROPERTIES TIMEOUT 300)
endif()

# The published tables: exit status 1 if the model has moved away from them, or its bytes from the closed forms. A
# sanitizer finds nothing here that it does not find in sim_test, ten times as slowly.
if(UVMTRACE_SANITIZE STREQUAL "")
  add_test(NAME sim.predicts_the_published_tables COMMAND uvmsim_tool table a100-80g)
  set_tests_properties(sim.predicts_the_published_tables PROPERTIES TIMEOUT 300)
endif()
