# PROGRAM ARGUMENTS must end with exit code CODE and say something that matches EXPRESSION.
execute_process(COMMAND ${PROGRAM} ${ARGUMENTS} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE error)
if(NOT code STREQUAL CODE)
  message(FATAL_ERROR "exit code '${code}', not ${CODE}\n${output}${error}")
endif()
if(NOT "${output}${error}" MATCHES "${EXPRESSION}")
  message(FATAL_ERROR "no '${EXPRESSION}' in:\n${output}${error}")
endif()
