# UVMTRACE_SANITIZE instruments everything: "address" means ASan and UBSan.
if(UVMTRACE_SANITIZE STREQUAL "address")
  add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=address,undefined>
                      $<$<COMPILE_LANGUAGE:C,CXX>:-fno-omit-frame-pointer>)
  add_link_options($<$<LINK_LANGUAGE:C,CXX>:-fsanitize=address,undefined>)
elseif(UVMTRACE_SANITIZE STREQUAL "thread")
  add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=thread>)
  add_link_options($<$<LINK_LANGUAGE:C,CXX>:-fsanitize=thread>)
elseif(NOT UVMTRACE_SANITIZE STREQUAL "")
  message(FATAL_ERROR "UVMTRACE_SANITIZE is '${UVMTRACE_SANITIZE}'; it can be 'address', 'thread' or empty")
endif()
