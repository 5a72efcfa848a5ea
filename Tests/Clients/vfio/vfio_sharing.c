/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two devices of one IOMMU group and of two, and the state of a device after it is closed and
 * opened again.
 */
#include "vfio/vfio_client.h"

static void test_groups(void)
{
    int first, second, other;
    uint32_t ioas;

    first = device_fd = must_open_vfio_device(2);
    second = must_open_vfio_device(3);
    other = name_fd("other iommufd", open_iommufd());
    bind_with(first, 24, 0, iommufd);
    hot_reset_info(44);
    hot_reset(12, 0, 0);
    bind_with(second, 24, 0, other);
    bind_with(second, 24, 0, iommufd);
    hot_reset_info(44);
    hot_reset(12, 0, 0);
    ioas = ioas_alloc();
    attach_pt(16, 0, ioas, 0);
    device_fd = second;
    printf("the group has a table: ");
    attach_pt(16, 0, ioas_alloc(), 0);
    attach_pt(16, 0, ioas, 0);
    printf("both move: ");
    attach_pt(16, 0, 5, 0);
    detach_pt(12, 0, 0);
    device_fd = first;
    attach_pt(16, 0, ioas, 0);
    detach_pt(12, 0, 0);
    printf("the first closes, ");
    close(first);
    device_fd = second;
    hot_reset_info(44);
    hot_reset(12, 0, 0);
    destroy(1);
    destroy(2);
    close(second);
    printf("the second closes, ");
    destroy(2);
    device_fd = must_open_vfio_device(3);
    bind_with(device_fd, 24, 0, other);
    close(device_fd);
    close(other);
}

static void test_sharing(void)
{
    int first, second;
    uint32_t ioas;

    reopen("two groups, one IOAS");
    device_fd = first = must_open_vfio_device(0);
    second = must_open_vfio_device(1);
    bind_with(device_fd, 24, 0, iommufd);
    bind_with(second, 24, 0, iommufd);
    ioas = ioas_alloc();
    attach_pt(16, 0, ioas, 0);
    hot_reset_info(44);
    device_fd = second;
    attach_pt(16, 0, ioas, 0);
    close(second);
    print_iova_ranges(ioas);
    close(first);
}

static void test_closed_iommufd(void)
{
    struct vfio_device_attach_iommufd_pt cmd = {.argsz = sizeof(cmd)};

    reopen("the iommufd is closed first");
    device_fd = must_open_vfio_device(0);
    bind_with(device_fd, 24, 0, iommufd);
    cmd.pt_id = ioas_alloc();
    run_on(device_fd, &ATTACH, &cmd);
    close(iommufd);
    run_on(device_fd, &DETACH, &(struct vfio_device_detach_iommufd_pt){.argsz = 12});
    cmd.pt_id = 2;
    run_on(device_fd, &ATTACH, &cmd);
    device_info(24);
    close(device_fd);
    remove_all_fd_names();
    iommufd = name_fd("iommufd", open_iommufd());
}

static void test_state_at_open(void)
{
    uint16_t command = 0x406;
    uint32_t bar = 0xffffffff;

    reopen("a client leaves things behind");
    open_eventfds();
    device_fd = must_open_vfio_device(0);
    bind_with(device_fd, 24, 0, iommufd);
    find_regions();
    set_irqs(0, EVENT | TRIGGER, 2, 0, 1, 1, eventfds[0]);
    if (pwrite(device_fd, &command, 2, CONFIG + 4) != 2 ||
        pwrite(device_fd, &bar, 4, CONFIG + 0x10) != 4)
        exit(2);
    close(device_fd);
    device_fd = must_open_vfio_device(0);
    bind_with(device_fd, 24, 0, iommufd);
    printf("command %#llx\n", (unsigned long long)(config_word(4, 2) & 0x406));
    printf("BAR 0 %s\n", (config_word(0x10, 4) & ~0xfULL) == 0xffffc000 ? "as left" : "as it was");
    print_msi_control(0x11, 0xc000);
    set_irqs(0, NONE | TRIGGER, 2, 0, 1, 0);
    close(device_fd);
    for (int i = 0; i != 3; i++) {
        device_fd = must_open_vfio_device(0);
        bind_with(device_fd, 24, 0, iommufd);
        close(device_fd);
    }
}

int main(void)
{
    begin("two functions of one group");
    test_groups();
    test_sharing();
    test_closed_iommufd();
    test_state_at_open();
    return 0;
}
