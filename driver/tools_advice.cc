// See tools_advice.h.
#include "driver/tools_advice.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "driver/proc_file.h"
#include "driver/tools_device.h"

namespace uvmtrace {
namespace {

// What to do about a driver that behaves otherwise than is known.
void DescribeDriver(const ToolsCalls& calls, char* text, size_t size) {
  char version[64] = "";
  if (calls.driver_version == nullptr || calls.driver_version(version, sizeof version) == 0) {
    snprintf(text, size, "uvmtrace knows the interface of drivers %d to %d, and this driver's version is not visible",
             kOldestKnownDriver, kNewestKnownDriver);
    return;
  }
  const int branch = atoi(version);
  if (branch < kOldestKnownDriver) {
    snprintf(text, size, "the driver is %s, and uvmtrace needs %d or later", version, kOldestKnownDriver);
  } else if (branch > kNewestKnownDriver) {
    snprintf(text, size, "the driver is %s, and this uvmtrace knows drivers up to %d: use a later uvmtrace", version,
             kNewestKnownDriver);
  } else {
    snprintf(text, size, "the driver is %s, which uvmtrace should know: please report this line as a fault of uvmtrace",
             version);
  }
}

}  // namespace

void DescribeNoDevice(int error, char* text, size_t size) {
  snprintf(text, size, "%s cannot be opened: %s; %s", kToolsDevice, ErrorText(error).text,
           error == ENOENT || error == ENXIO || error == ENODEV
               ? "create it with nvidia-modprobe -u -c=0, and give it to the container if there is one (--device)"
               : "give the user, or the container, read and write access to it");
}

void DescribeNoVaSpace(char* text, size_t size) {
  snprintf(text, size,
           "this process has no descriptor of %s: its CUDA library reaches the driver in another way (a remote or "
           "virtual GPU); record on the machine that has the GPU",
           kVaSpaceDevice);
}

void DescribeRefusal(const ToolsCalls& calls, const char* what, const ToolsAnswer& answer, char* text, size_t size) {
  char driver[200];
  DescribeDriver(calls, driver, sizeof driver);
  snprintf(text, size, "the driver refused %s (%s, status 0x%x); %s", what,
           answer.error != 0 ? ErrorText(answer.error).text : "no error", answer.status, driver);
}

void DescribeUnknownInterface(const ToolsCalls& calls, const char* what, char* text, size_t size) {
  char driver[200];
  DescribeDriver(calls, driver, sizeof driver);
  snprintf(text, size, "%s; %s", what, driver);
}

void DescribeStrangeQueue(const ToolsCalls& calls, const char* insane, char* text, size_t size) {
  char what[160];
  snprintf(what, sizeof what, "the queue's contents cannot be the driver's: %s", insane);
  DescribeUnknownInterface(calls, what, text, size);
}

}  // namespace uvmtrace
