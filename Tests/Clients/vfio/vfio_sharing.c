/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several devices: of one IOMMU group, of two, and what a client leaves behind when it closes.
 */
#include "vfio/vfio_client.h"

static void groups(void)
{
    int first, second, other;
    uint32_t ioas;

    first = device = open_device(2);
    second = open_device(3);
    other = name_fd("other iommufd", open_iommufd());
    bind_with(first, 24, 0, iommufd);
    hot_reset_info(44);
    hot_reset(12, 0, 0);
    bind_with(second, 24, 0, other);
    bind_with(second, 24, 0, iommufd);
    hot_reset_info(44);
    hot_reset(12, 0, 0);
    ioas = ioas_alloc();
    attach(16, 0, ioas, 0);
    device = second;
    printf("the group has a table: ");
    attach(16, 0, ioas_alloc(), 0);
    attach(16, 0, ioas, 0);
    printf("both move: ");
    attach(16, 0, 5, 0);
    detach(12, 0, 0);
    device = first;
    attach(16, 0, ioas, 0);
    detach(12, 0, 0);
    printf("the first closes, ");
    close(first);
    device = second;
    hot_reset_info(44);
    hot_reset(12, 0, 0);
    destroy(1);
    destroy(2);
    close(second);
    printf("the second closes, ");
    destroy(2);
    device = open_device(3);
    bind_with(device, 24, 0, other);
    close(device);
    close(other);
}

static void sharing(void)
{
    int first, second;
    uint32_t ioas;

    reopen("two groups, one IOAS");
    device = first = open_device(0);
    second = open_device(1);
    bind_with(device, 24, 0, iommufd);
    bind_with(second, 24, 0, iommufd);
    ioas = ioas_alloc();
    attach(16, 0, ioas, 0);
    hot_reset_info(44);
    device = second;
    attach(16, 0, ioas, 0);
    close(second);
    show_ranges(ioas);
    close(first);
}

static void iommufd_first(void)
{
    struct vfio_device_attach_iommufd_pt cmd = {.argsz = sizeof(cmd)};

    reopen("the iommufd is closed first");
    device = open_device(0);
    bind_with(device, 24, 0, iommufd);
    cmd.pt_id = ioas_alloc();
    run_on(device, &ATTACH, &cmd);
    close(iommufd);
    run_on(device, &DETACH, &(struct vfio_device_detach_iommufd_pt){.argsz = 12});
    cmd.pt_id = 2;
    run_on(device, &ATTACH, &cmd);
    info(24);
    close(device);
    named_fd_count = 0;
    iommufd = name_fd("iommufd", open_iommufd());
}

static void state_at_open(void)
{
    uint16_t command = 0x406;
    uint32_t bar = 0xffffffff;

    reopen("a client leaves things behind");
    open_events();
    device = open_device(0);
    bind_with(device, 24, 0, iommufd);
    find_regions();
    set_irqs(0, EVENT | TRIGGER, 2, 0, 1, 1, events[0]);
    if (pwrite(device, &command, 2, CONFIG + 4) != 2 || pwrite(device, &bar, 4, CONFIG + 0x10) != 4)
        exit(2);
    close(device);
    device = open_device(0);
    bind_with(device, 24, 0, iommufd);
    printf("command %#llx\n", (unsigned long long)(config_word(4, 2) & 0x406));
    printf("BAR 0 %s\n", (config_word(0x10, 4) & ~0xfULL) == 0xffffc000 ? "as left" : "as it was");
    msi_control(0x11, 0xc000);
    set_irqs(0, NONE | TRIGGER, 2, 0, 1, 0);
    close(device);
    for (int i = 0; i != 3; i++) {
        device = open_device(0);
        bind_with(device, 24, 0, iommufd);
        close(device);
    }
}

int main(void)
{
    begin("two functions of one group");
    groups();
    sharing();
    iommufd_first();
    state_at_open();
    return 0;
}
