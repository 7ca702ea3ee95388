"""Which machine a row was measured on, with the names that the C++ examples write into their JSON."""

import ctypes
import re


def read_driver_version():
    """The driver's version, which the CUDA runtime does not tell; "unknown" where no file has it."""
    for path in ("/sys/module/nvidia/version", "/proc/driver/nvidia/version"):
        try:
            with open(path, encoding="ascii") as file:
                version = re.search(r"\b\d+\.\d+(\.\d+)?\b", file.read())
        except OSError:
            continue
        if version:
            return version.group()
    return "unknown"


def setup(free_bytes):
    """The machine as a dictionary. Call it once CUDA is in use: it asks the same libcuda."""
    driver = ctypes.CDLL("libcuda.so.1")
    name = ctypes.create_string_buffer(256)
    version = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetName(name, len(name), 0) != 0:
        raise RuntimeError("the CUDA driver does not tell the name of device 0")
    driver.cuDriverGetVersion(ctypes.byref(version))
    try:
        ctypes.c_int.in_dll(driver, "uvmsim_host")
        simulated = True
    except ValueError:
        simulated = False
    return {"gpu": name.value.decode(), "simulated": simulated, "cuda_version": version.value, "free_bytes": free_bytes,
            "driver_version": "simulated" if simulated else read_driver_version()}
