// What to tell the user when the driver's tools interface is not there, refuses, or is not what is known of it.
//
// Advice depends on the driver that is loaded. A user whose driver is among the known ones is never told to install
// one of them: there the fault is uvmtrace's.
#pragma once

#include <cstddef>

#include "driver/tools_interface.h"
#include "driver/tools_requests.h"

namespace uvmtrace {

// The tools device cannot be opened; `error` is errno.
void DescribeNoDevice(int error, char* text, size_t size);
void DescribeNoVaSpace(char* text, size_t size);
// The driver refused `what`.
void DescribeRefusal(const ToolsCalls& calls, const char* what, const ToolsAnswer& answer, char* text, size_t size);
// The driver's answers cannot be what they should be; `what` is a sentence that says how.
void DescribeUnknownInterface(const ToolsCalls& calls, const char* what, char* text, size_t size);
// The same of an event ring; `insane` is QueueReader's word on it.
void DescribeStrangeQueue(const ToolsCalls& calls, const char* insane, char* text, size_t size);

}  // namespace uvmtrace
