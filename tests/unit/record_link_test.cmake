# Fails unless LIBRARY needs libc and nothing else, holds no symbol of the C++ runtime and at most 16 bytes of
# thread-local storage.
execute_process(COMMAND ${READELF} --wide --dynamic ${LIBRARY} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "\\(NEEDED\\)[^\n]*\\[[^]]*\\]" needed "${dynamic}")
if(NOT needed)
  message(FATAL_ERROR "no NEEDED entry was found at all:\n${dynamic}")
endif()
foreach(entry IN LISTS needed)
  if(NOT entry MATCHES "\\[(libc\\.so\\.6|ld-linux[^]]*)\\]")
    message(FATAL_ERROR "the recorder needs more than libc: ${entry}")
  endif()
endforeach()

execute_process(COMMAND ${READELF} --wide --symbols ${LIBRARY} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
# operator new and delete, std::, exceptions, guards, pure virtual functions.
string(REGEX MATCHALL "UND +(_Zn[wa]|_Zd[la]|_ZNK?St|_ZSt|__cxa_[a-eg-z]|__gxx)[^\n]*" runtime "${symbols}")
if(runtime)
  message(FATAL_ERROR "the recorder needs the C++ runtime: ${runtime}")
endif()

execute_process(COMMAND ${READELF} --wide --program-headers ${LIBRARY} OUTPUT_VARIABLE segments COMMAND_ERROR_IS_FATAL ANY)
if(NOT segments MATCHES "\n +TLS +0x[0-9a-f]+ +0x[0-9a-f]+ +0x[0-9a-f]+ +0x[0-9a-f]+ +0x([0-9a-f]+)")
  message(FATAL_ERROR "no TLS segment was found:\n${segments}")
endif()
math(EXPR tls_bytes "0x${CMAKE_MATCH_1}")
if(tls_bytes GREATER 16)
  message(FATAL_ERROR "the recorder has ${tls_bytes} bytes of thread-local storage; 16 are its share")
endif()
