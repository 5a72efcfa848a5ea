/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM_DEV_VFIO_FILE_ADD and _DEL: the launcher answers for its own VFIO files and lets KVM answer
 * for others.
 */
#include "launcher_front.h"

#include <linux/kvm.h>

/* KVM_DEV_VFIO_FILE_ADD and _DEL, under the names that older headers have, too. */
enum { FILE_ADD = KVM_DEV_VFIO_GROUP_ADD, FILE_DELETE = KVM_DEV_VFIO_GROUP_DEL };

static int set_kvm_attribute(int kvm, uint32_t flags, uint64_t attribute, const int *fd)
{
    struct kvm_device_attr cmd = {.flags = flags,
                                  .group = KVM_DEV_VFIO_GROUP,
                                  .attr = attribute,
                                  .addr = (uintptr_t)fd};

    return ioctl(kvm, KVM_SET_DEVICE_ATTR, &cmd);
}

void test_kvm(void)
{
    struct kvm_create_device create = {.type = KVM_DEV_TYPE_VFIO};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int machine = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0L);

    if (machine < 0 || ioctl(machine, KVM_CREATE_DEVICE, &create)) {
        skipped = "this machine has no KVM";
        return;
    }
    int vfio = open(VFIO, O_RDWR | O_CLOEXEC), iommufd = open_node();
    int copy = dup(vfio), file = open("/etc/passwd", O_RDONLY), closed = dup(file);

    close(closed);
    CHECK(set_kvm_attribute((int)create.fd, 0, FILE_ADD, &vfio) == 0);
    CHECK(set_kvm_attribute((int)create.fd, 0, FILE_DELETE, &copy) == 0);
    CHECK_ERRNO(set_kvm_attribute((int)create.fd, 0, FILE_ADD, &iommufd), EINVAL);
    CHECK_ERRNO(set_kvm_attribute((int)create.fd, 0, FILE_ADD, &file), EINVAL);
    CHECK_ERRNO(set_kvm_attribute((int)create.fd, 0, FILE_ADD, &closed), EBADF);
    CHECK_ERRNO(set_kvm_attribute((int)create.fd, 0, FILE_ADD, (int *)8), EFAULT);
    CHECK_ERRNO(set_kvm_attribute((int)create.fd, 1, FILE_ADD, &vfio), EINVAL);
    CHECK_ERRNO(set_kvm_attribute((int)create.fd, 0, 3, &vfio), ENXIO);
    CHECK_ERRNO(set_kvm_attribute(file, 0, FILE_ADD, &vfio), ENOTTY);
    CHECK_ERRNO(set_kvm_attribute(vfio, 0, FILE_ADD, &vfio), ENOTTY);
    close(vfio), close(copy), close(iommufd), close(file);
    close((int)create.fd), close(machine), close(kvm);
}
