"""A client of the test device that is an interpreter."""

import fcntl
import os
import stat
import struct

IDENTIFY, EXCHANGE = 0x3BF0, 0x3BF2
REGION_0 = 1 << 40

assert os.path.exists("/dev/iommu") and os.access("/dev/iommu", os.R_OK | os.W_OK)
assert stat.S_ISCHR(os.stat("/dev/vfio/devices/vfio0").st_mode)
assert os.path.isdir("/dev/vfio/devices") and not os.path.exists("/dev/vfio/devices/vfio99")
with open("/dev/iommu", "r+b", buffering=0) as device:
    assert fcntl.ioctl(device, IDENTIFY) > 0
    exchange = bytearray(struct.pack("8Q", 40, 0, 0, 0, 0, 2, 0, 0))
    assert fcntl.ioctl(device, EXCHANGE, exchange) == 0
    assert struct.unpack("8Q", exchange)[6] == 42
vfio = os.open("/dev/vfio/devices/vfio0", os.O_RDWR)
assert os.fstat(vfio).st_rdev == os.makedev(511, 1)
assert struct.unpack("Q", os.pread(vfio, 8, REGION_0 + 16)) == (REGION_0 + 16,)
print("ok python")
