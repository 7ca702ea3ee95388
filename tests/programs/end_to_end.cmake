# The bundled workloads on the simulator, under the library, read by uvmtrace-report. Under a sanitizer the library would need
# the sanitizer's runtime in the host.
if(NOT UVMTRACE_SANITIZE)
  foreach(case known_bytes oversubscribed prefetched reconstructed zero_copy managed_variable calls_only text_report protoc_reads_it old_traces installed)
    add_test(NAME end_to_end.${case}
      COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/end_to_end.py
        --build ${CMAKE_BINARY_DIR} --source ${CMAKE_SOURCE_DIR} ${case})
    set_tests_properties(end_to_end.${case} PROPERTIES TIMEOUT 180)
  endforeach()
  foreach(case whole lacks no_libcuda low_memlock wrong_usage demo demo_installed)
    add_test(NAME launcher.${case}
      COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/launcher_check.py --build ${CMAKE_BINARY_DIR} ${case})
    set_tests_properties(launcher.${case} PROPERTIES TIMEOUT 180)
  endforeach()
endif()
