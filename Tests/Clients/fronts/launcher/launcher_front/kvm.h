/* SPDX-License-Identifier: Apache-2.0 */
/* KVM is told of VFIO files: what it says of ours, and that it is asked about all others. */
#ifndef LAUNCHER_KVM_H
#define LAUNCHER_KVM_H

#include "front.h"

#include <linux/kvm.h>

/* KVM_DEV_VFIO_FILE_ADD, _DEL: older headers call them by their first name. */
enum { FILE_ADD = KVM_DEV_VFIO_GROUP_ADD, FILE_DELETE = KVM_DEV_VFIO_GROUP_DEL };

static int tell_kvm(int kvm, uint32_t flags, uint64_t attribute, const int *fd)
{
    struct kvm_device_attr cmd = {.flags = flags,
                                  .group = KVM_DEV_VFIO_GROUP,
                                  .attr = attribute,
                                  .addr = (uintptr_t)fd};

    return ioctl(kvm, KVM_SET_DEVICE_ATTR, &cmd);
}

static void test_kvm(void)
{
    struct kvm_create_device create = {.type = KVM_DEV_TYPE_VFIO};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int machine = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0L);

    if (machine < 0 || ioctl(machine, KVM_CREATE_DEVICE, &create)) {
        skipped = "this machine has no KVM";
        return;
    }
    int vfio = open(VFIO, O_RDWR | O_CLOEXEC), iommufd = device();
    int copy = dup(vfio), file = open("/etc/passwd", O_RDONLY), closed = dup(file);

    close(closed);
    CHECK(tell_kvm((int)create.fd, 0, FILE_ADD, &vfio) == 0);
    CHECK(tell_kvm((int)create.fd, 0, FILE_DELETE, &copy) == 0);
    CHECK_ERRNO(tell_kvm((int)create.fd, 0, FILE_ADD, &iommufd), EINVAL);
    CHECK_ERRNO(tell_kvm((int)create.fd, 0, FILE_ADD, &file), EINVAL);
    CHECK_ERRNO(tell_kvm((int)create.fd, 0, FILE_ADD, &closed), EBADF);
    CHECK_ERRNO(tell_kvm((int)create.fd, 0, FILE_ADD, (int *)8), EFAULT);
    CHECK_ERRNO(tell_kvm((int)create.fd, 1, FILE_ADD, &vfio), EINVAL);
    CHECK_ERRNO(tell_kvm((int)create.fd, 0, 3, &vfio), ENXIO);
    CHECK_ERRNO(tell_kvm(file, 0, FILE_ADD, &vfio), ENOTTY);
    CHECK_ERRNO(tell_kvm(vfio, 0, FILE_ADD, &vfio), ENOTTY);
    close(vfio), close(copy), close(iommufd), close(file);
    close((int)create.fd), close(machine), close(kvm);
}

#endif /* LAUNCHER_KVM_H */
