"""scripts/check_driver_abi must see a driver that differs: on headers written here, which have what it compares.

  check_driver_abi_test.py path/to/check_driver_abi
"""

import pathlib
import subprocess
import sys
import tempfile

TYPES = """
typedef unsigned char NvU8; typedef unsigned short NvU16; typedef unsigned int NvU32; typedef unsigned long long NvU64;
typedef NvU32 NV_STATUS; typedef struct { NvU8 uuid[16]; } NvProcessorUuid;
"""
EVENTS = """
enum { UvmCounterNameBytesXferHtD, UvmCounterNameBytesXferDtH, UvmCounterNameCpuPageFaultCount,
       UvmCounterNameGpuPageFaultCount = 9, UVM_TOTAL_COUNTERS };
#define UVM_COUNTER_NAME_FLAG_BYTES_XFER_HTD 0x1
#define UVM_COUNTER_NAME_FLAG_BYTES_XFER_DTH 0x2
#define UVM_COUNTER_NAME_FLAG_CPU_PAGE_FAULT_COUNT 0x4
#define UVM_COUNTER_NAME_FLAG_PREFETCH_BYTES_XFER_HTD 0x80
#define UVM_COUNTER_NAME_FLAG_PREFETCH_BYTES_XFER_DTH 0x100
#define UVM_COUNTER_NAME_FLAG_GPU_PAGE_FAULT_COUNT 0x200
enum { UvmEventTypeCpuFault = 1, UvmEventTypeMigration, UvmEventTypeGpuFault, UvmEventTypeGpuFaultReplay,
       UvmEventTypeFaultBufferOverflow, UvmEventTypeFatalFault, UvmEventTypeReadDuplicate,
       UvmEventTypeReadDuplicateInvalidate, UvmEventTypePageSizeChange, UvmEventTypeThrashingDetected,
       UvmEventTypeThrottlingStart, UvmEventTypeThrottlingEnd, UvmEventTypeMapRemote, UvmEventTypeEviction,
       UvmEventNumTypes };
typedef struct { NvU8 eventType, accessType; NvU16 p; NvU32 q; NvU64 address, timeStamp; NvU32 pid, threadId; NvU64 pc; }
  UvmEventCpuFaultInfo;
typedef struct { NvU8 eventType, migrationCause, srcIndex, dstIndex; NvU32 p; NvU64 address, migratedBytes,
  beginTimeStamp, endTimeStamp, rangeGroupId, beginTimeStampGpu, endTimeStampGpu; } UvmEventMigrationInfo;
typedef struct { NvU8 eventType, faultType, accessType, gpuIndex; NvU16 gpcId, clientId; NvU64 address, timeStamp,
  timeStampGpu; NvU32 batchId; NvU8 clientType, p[3]; } UvmEventGpuFaultInfo;
typedef struct { NvU8 eventType, gpuIndex, clientType, p; NvU32 batchId; NvU64 timeStamp, timeStampGpu; }
  UvmEventGpuFaultReplayInfo;
typedef struct { NvU8 eventType, faultType, accessType, processorIndex, reason, p[3]; NvU64 address, timeStamp; }
  UvmEventFatalFaultInfo;
typedef struct { NvU8 eventType, p[7]; NvU64 processors, address, size, timeStamp; } UvmEventReadDuplicateInfo;
typedef UvmEventReadDuplicateInfo UvmEventThrashingDetectedInfo;
typedef struct { NvU8 eventType, residentIndex, p[6]; NvU64 address, size, timeStamp; }
  UvmEventReadDuplicateInvalidateInfo;
typedef struct { NvU8 eventType, processorIndex, p[6]; NvU64 address, timeStamp; } UvmEventThrottlingStartInfo;
typedef UvmEventThrottlingStartInfo UvmEventThrottlingEndInfo;
typedef struct { NvU8 eventType, srcIndex, dstIndex, mapRemoteCause, p[4]; NvU64 address, size, timeStamp, timeStampGpu; }
  UvmEventMapRemoteInfo;
typedef struct { NvU64 words[8]; } UvmEventEntry;
typedef struct { NvU32 get_ahead, get_behind, put_ahead, put_behind; NvU64 dropped[64]; } UvmToolsEventControlData;
"""
ARGUMENTS = """
#include "uvm_types.h"
#define UVM_TOOLS_INIT_EVENT_TRACKER 56
typedef struct { NvU64 queueBuffer, queueBufferSize, controlBuffer; NvProcessorUuid processor;
  NvU32 allProcessors, uvmFd; %(tracker)s } UVM_TOOLS_INIT_EVENT_TRACKER_PARAMS;
#define UVM_TOOLS_SET_NOTIFICATION_THRESHOLD 57
typedef struct { NvU32 notificationThreshold; NV_STATUS rmStatus; } UVM_TOOLS_SET_NOTIFICATION_THRESHOLD_PARAMS;
#define UVM_TOOLS_EVENT_QUEUE_ENABLE_EVENTS 58
typedef struct { NvU64 eventTypeFlags; NV_STATUS rmStatus; } UVM_TOOLS_EVENT_QUEUE_ENABLE_EVENTS_PARAMS;
#define UVM_TOOLS_EVENT_QUEUE_DISABLE_EVENTS 59
typedef UVM_TOOLS_EVENT_QUEUE_ENABLE_EVENTS_PARAMS UVM_TOOLS_EVENT_QUEUE_DISABLE_EVENTS_PARAMS;
#define UVM_TOOLS_ENABLE_COUNTERS 60
typedef struct { NvU64 counterTypeFlags; NV_STATUS rmStatus; } UVM_TOOLS_ENABLE_COUNTERS_PARAMS;
#define UVM_TOOLS_GET_PROCESSOR_UUID_TABLE 64
typedef struct { NvU64 tablePtr; %(table)s } UVM_TOOLS_GET_PROCESSOR_UUID_TABLE_PARAMS;
#define UVM_TOOLS_FLUSH_EVENTS 67
typedef struct { NV_STATUS rmStatus; } UVM_TOOLS_FLUSH_EVENTS_PARAMS;
#define UVM_MIGRATE 51
typedef struct { NvU64 base, length; NvProcessorUuid destinationUuid; NvU32 flags; } UVM_MIGRATE_PARAMS;
"""
NEWEST = {"tracker": "NV_STATUS rmStatus;", "table": "NV_STATUS rmStatus;"}
OF_560 = {"tracker": "NvU32 version; NV_STATUS rmStatus;", "table": "NvU32 version; NV_STATUS rmStatus;"}

# name: (branch, text of the headers, its replacement, what the script must print; None: it must be content)
CASES = {
    "a driver of 565": (NEWEST, "", "", None),
    "a driver of 560": (OF_560, "", "", None),
    "another number": (NEWEST, "FLUSH_EVENTS 67", "FLUSH_EVENTS 68", "UVM_TOOLS_FLUSH_EVENTS: uvmtrace has 67, the driver 68"),
    "a member that moved": (NEWEST, "timeStampGpu; NvU32 batchId;", "timeStampGpu; NvU64 batchId;",
                            "UvmEventGpuFaultInfo.batchId sizeof"),
    "members that changed places": (NEWEST, "srcIndex, dstIndex; NvU32 p;", "dstIndex, srcIndex; NvU32 p;",
                                    "UvmEventMigrationInfo.srcIndex offset"),
    "a request of libcuda's that changed": (NEWEST, "NvU64 base, length;", "NvU64 length, base;",
                                            "UVM_MIGRATE_PARAMS.base offset"),
    "an entry of another size": (NEWEST, "words[8]", "words[9]", "entry size: uvmtrace has 64, the driver 72"),
    "a member that is gone": (NEWEST, "migratedBytes", "movedBytes", "migratedBytes"),
    "a struct that is gone": (NEWEST, "UvmEventMapRemoteInfo", "UvmEventMappedInfo", "UvmEventMapRemoteInfo"),
    "a tracker that nobody knows": ({**NEWEST, "tracker": "NvU32 kind; NV_STATUS rmStatus;"}, "", "",
                                    "UVM_TOOLS_INIT_EVENT_TRACKER_PARAMS is none of the known forms"),
    "a table that nobody knows": ({**NEWEST, "table": "NvU64 count; NV_STATUS rmStatus;"}, "", "",
                                  "UVM_TOOLS_GET_PROCESSOR_UUID_TABLE_PARAMS is none of the known forms"),
}


def run(script, folder):
    done = subprocess.run([sys.executable, script, folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def main():
    failed = 0
    for name, (branch, old, new, expected) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            uvm = pathlib.Path(folder) / "kernel-open/nvidia-uvm"
            common = pathlib.Path(folder) / "kernel-open/common/inc"
            uvm.mkdir(parents=True)
            common.mkdir(parents=True)
            (common / "nvtypes.h").write_text("#pragma once\n" + TYPES)
            for file, text in (("uvm_types.h", '#pragma once\n#include "nvtypes.h"\n' + EVENTS),
                               ("uvm_ioctl.h", "#pragma once\n" + ARGUMENTS % branch),
                               ("uvm_linux_ioctl.h", '#pragma once\n#include "uvm_ioctl.h"\n')):
                (uvm / file).write_text(text.replace(old, new) if old else text)
            status, output = run(sys.argv[1], folder)
        good = status == 0 if expected is None else status == 1 and expected in output
        print(("ok      " if good else "FAILED  ") + name + ("" if good else f": status {status}\n{output}"))
        failed += not good
    with tempfile.TemporaryDirectory() as folder:
        status, output = run(sys.argv[1], folder)
        good = status == 1 and "no checkout" in output
        print(("ok      " if good else "FAILED  ") + "a folder of something else" + ("" if good else f": {output}"))
        failed += not good
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
