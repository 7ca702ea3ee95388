# The doors and the memory surface: see doors_cases.py.
foreach(major 11 12 13)
  add_library(test_uses_runtime_${major} SHARED libraries/uses_runtime.cc)
  target_compile_definitions(test_uses_runtime_${major} PRIVATE USES_MAJOR=${major})
  target_link_libraries(test_uses_runtime_${major} PRIVATE fake_cudart_${major})
  set_target_properties(test_uses_runtime_${major} PROPERTIES
    OUTPUT_NAME uses_runtime_${major} LIBRARY_OUTPUT_DIRECTORY ${library_dir} SKIP_BUILD_RPATH ON)
  list(APPEND door_targets test_uses_runtime_${major})
endforeach()
add_library(test_past_us SHARED libraries/past_us.cc)
set_target_properties(test_past_us PROPERTIES OUTPUT_NAME past_us LIBRARY_OUTPUT_DIRECTORY ${library_dir})
add_library(test_runtime_partner SHARED libraries/runtime_partner.cc)
set_target_properties(test_runtime_partner PROPERTIES
  OUTPUT_NAME runtime_partner LIBRARY_OUTPUT_DIRECTORY ${library_dir})
# Found by CUDA_HOME, so that the other programs do without it.
add_library(fake_audit_cupti SHARED fake/fake_cupti.cc)
target_link_libraries(fake_audit_cupti PRIVATE uvmtrace_cuda_headers)
set_target_properties(fake_audit_cupti PROPERTIES
  OUTPUT_NAME cupti SOVERSION 13 LIBRARY_OUTPUT_DIRECTORY ${fake_dir}/cuda_home/lib64)
add_library(test_weak_self_lookup SHARED libraries/weak_self_lookup.cc)
set_target_properties(test_weak_self_lookup PROPERTIES
  OUTPUT_NAME weak_self_lookup LIBRARY_OUTPUT_DIRECTORY ${library_dir})

uvmtrace_leave_as_it_is(${door_targets} test_past_us test_runtime_partner test_weak_self_lookup fake_audit_cupti)

uvmtrace_test_program(doors_host doors_host.cc)
uvmtrace_test_program(surface_host surface_host.cc)
uvmtrace_test_program(every_call every_call.cc)
uvmtrace_test_program(managed_variable_host managed_variable_host.cc)
target_link_libraries(managed_variable_host PRIVATE fake_cudart_13)
add_dependencies(uvmtrace_test_programs
  ${door_targets} fake_cudart_11 fake_audit_cupti test_past_us test_runtime_partner test_weak_self_lookup doors_host surface_host every_call managed_variable_host
  uvmtrace_report)

uvmtrace_program_tests(doors doors_cases.py 60)
# 64 million calls: 4 s on two idle cores.
set_tests_properties(doors.thread_stress PROPERTIES TIMEOUT 180)
