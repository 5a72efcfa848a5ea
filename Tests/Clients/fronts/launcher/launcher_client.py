# SPDX-License-Identifier: Apache-2.0
"""A client of the test device that is an interpreter."""

import fcntl
import os
import stat
import struct

OPEN_ID, EXCHANGE = 0x3BD1, 0x3BE0
REGION_0 = 1 << 40


def device_bytes(offset, count):
    """The bytes of the offsets node: test_byte() of test_requests.h."""
    return bytes(at * 0x9E3779B97F4A7C15 % (1 << 64) >> 56 for at in range(offset, offset + count))


assert os.path.exists("/dev/iommu") and os.access("/dev/iommu", os.R_OK | os.W_OK)
assert stat.S_ISCHR(os.stat("/dev/vfio/devices/vfio0").st_mode)
assert os.path.isdir("/dev/vfio/devices") and not os.path.exists("/dev/vfio/devices/vfio99")
with open("/dev/iommu", "r+b", buffering=0) as device:
    argument = bytearray(struct.pack("IIQQ", 24, 0, 0, 0))
    assert fcntl.ioctl(device, OPEN_ID, argument) == 0
    assert struct.unpack("IIQQ", argument)[1] > 0
    exchange = bytearray(struct.pack("8Q", 40, 0, 0, 0, 0, 2, 0, 0))
    assert fcntl.ioctl(device, EXCHANGE, exchange) == 0
    assert struct.unpack("8Q", exchange)[6] == 42
vfio = os.open("/dev/vfio/devices/vfio0", os.O_RDWR)
assert os.fstat(vfio).st_rdev == os.makedev(511, 1)
assert os.pread(vfio, 8, REGION_0 + 16) == device_bytes(REGION_0 + 16, 8)
print("ok python")
