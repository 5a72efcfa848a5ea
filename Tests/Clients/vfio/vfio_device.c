/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ioctls of a VFIO device: all of them before BIND_IOMMUFD, then BIND, ATTACH and DETACH, the
 * INFO commands, features, ioeventfds and resets, with their size rules, flags and errnos.
 */
#include "vfio/vfio_client.h"

static void test_every_request(const char *when)
{
    uint64_t zero[64] = {0};

    section("every request number with a zeroed struct, %s", when);
    for (unsigned number = VFIO_BASE; number != VFIO_BASE + 32; number++) {
        if (number == VFIO_BASE + 11) /* RESET has no struct */
            continue;
        memset(zero, 0, sizeof(zero));
        printf("request %u", number - VFIO_BASE);
        fflush(stdout);
        print_result(ioctl(device_fd, _IO(VFIO_TYPE, number), zero));
        printf("\n");
    }
    printf("request with a size");
    print_result(ioctl(device_fd, _IOWR(VFIO_TYPE, VFIO_BASE + 7, uint64_t), zero));
    printf("\n");
}

static void test_unbound(void)
{
    uint32_t word = 0;

    printf("pread");
    print_result(pread(device_fd, &word, 4, CONFIG));
    printf("\npwrite");
    print_result(pwrite(device_fd, &word, 4, CONFIG + 4));
    printf("\npread of nothing");
    print_result(pread(device_fd, &word, 0, CONFIG));
    printf("\nRESET");
    print_result(ioctl(device_fd, VFIO_DEVICE_RESET));
    printf("\n");
}

static void test_bind_errors(void)
{
    static const uint32_t sizes[] = {0, 8, 15, 16, 20, 23, 24, 28, 32};
    struct {
        struct vfio_device_bind_iommufd cmd;
        uint8_t tail[8];
    } longer = {.cmd = {.argsz = 32, .iommufd = -1}};
    struct vfio_device_bind_iommufd cmd = {.argsz = sizeof(cmd), .iommufd = iommufd};
    uint64_t token[2] = {1, 2};
    int pipes[2], event = name_fd("eventfd", eventfd(0, EFD_CLOEXEC));

    for (size_t i = 0; i != COUNT(sizes); i++)
        bind_with(device_fd, sizes[i], 0, -1);
    longer.tail[7] = 1;
    printf("BIND_IOMMUFD with a tail");
    print_result(ioctl(device_fd, VFIO_DEVICE_BIND_IOMMUFD, &longer));
    printf("\n");
    for (uint32_t flag = 1; flag; flag <<= 1)
        if (flag != VFIO_DEVICE_BIND_FLAG_TOKEN)
            bind_with(device_fd, 24, flag, iommufd);
    bind_with(device_fd, 24, 0, -1);
    bind_with(device_fd, 24, 0, INT32_MIN);
    bind_with(device_fd, 24, 0, 1000);
    bind_with(device_fd, 24, 0, event);
    if (pipe(pipes))
        exit(2);
    bind_with(device_fd, 24, 0, name_fd("pipe", pipes[0]));
    bind_with(device_fd, 24, 0, name_fd("device", device_fd));
    cmd.flags = VFIO_DEVICE_BIND_FLAG_TOKEN;
    run_on(device_fd, &BIND, &cmd);
    cmd.token_uuid_ptr = 1;
    run_on(device_fd, &BIND, &cmd);
    name_region("token", token, sizeof(token));
    cmd.token_uuid_ptr = (uintptr_t)token;
    run_on(device_fd, &BIND, &cmd);
    cmd.iommufd = event;
    run_on(device_fd, &BIND, &cmd);
    cmd = (struct vfio_device_bind_iommufd){.argsz = sizeof(cmd), .iommufd = iommufd};
    run_cut(&BIND, &cmd, 0);
    run_cut(&BIND, &cmd, 4);
    run_cut(&BIND, &cmd, 12);
    run_protected(&BIND, &cmd, PROT_NONE);
    run_protected(&BIND, &cmd, PROT_READ);
    printf("what the failed bind has left: ");
    destroy(1);
    close(pipes[0]);
    close(pipes[1]);
    close(event);
}

static void test_bind_twice(void)
{
    int other = must_open_vfio_device(0);

    bind_with(device_fd, 24, 0, iommufd);
    find_regions();
    bind_with(device_fd, 24, 0, iommufd);
    bind_with(device_fd, 24, 0, -1);
    bind_with(other, 24, 0, iommufd);
    bind_with(other, 24, 0, 1000);
    printf("DESTROY of the device: ");
    destroy(1);
    close(other);
}

static void test_attach_errors(void)
{
    static const uint32_t sizes[] = {0, 4, 8, 11, 12, 15, 16, 20, 100};
    uint32_t ioas = ioas_alloc();
    struct vfio_device_attach_iommufd_pt cmd = {.argsz = sizeof(cmd), .pt_id = ioas};
    struct vfio_device_detach_iommufd_pt back = {.argsz = sizeof(back)};

    for (size_t i = 0; i != COUNT(sizes); i++)
        attach_pt(sizes[i], 0, 1000, 0);
    for (size_t i = 0; i != COUNT(sizes); i++)
        attach_pt(sizes[i], VFIO_DEVICE_ATTACH_PASID, 1000, 1);
    for (uint32_t flag = 2; flag; flag <<= 1)
        attach_pt(16, flag, ioas, 0);
    attach_pt(16, 0, 0, 0);
    attach_pt(16, 0, UINT32_MAX, 0);
    printf("the device itself: ");
    attach_pt(16, 0, 1, 0);
    for (size_t i = 0; i != COUNT(sizes); i++)
        detach_pt(sizes[i], 0, 0);
    for (size_t i = 0; i != COUNT(sizes); i++)
        detach_pt(sizes[i], VFIO_DEVICE_DETACH_PASID, 1);
    for (uint32_t flag = 2; flag; flag <<= 1)
        detach_pt(12, flag, 0);

    section("attach, replace, detach");
    attach_pt(16, 0, ioas, 0);
    destroy(ioas);
    attach_pt(16, 0, ioas, 0);
    attach_pt(12, 0, 3, 0);
    attach_pt(16, 0, UINT32_MAX, 0);
    printf("another IOAS: ");
    attach_pt(16, 0, ioas_alloc(), 0);
    destroy(3);
    destroy(ioas);
    detach_pt(12, 0, 0);
    detach_pt(12, 0, 0);
    for (uint32_t id = 2; id != 7; id++)
        destroy(id);

    section("a device without PASID");
    cmd.pt_id = ioas_alloc();
    attach_pt(16, VFIO_DEVICE_ATTACH_PASID, cmd.pt_id, 1);
    attach_pt(16, VFIO_DEVICE_ATTACH_PASID, cmd.pt_id, UINT32_MAX);
    attach_pt(16, VFIO_DEVICE_ATTACH_PASID, cmd.pt_id, 0x80000000);
    detach_pt(12, VFIO_DEVICE_DETACH_PASID, 1);
    detach_pt(12, VFIO_DEVICE_DETACH_PASID, UINT32_MAX);

    section("answers that cannot be stored");
    run_protected(&ATTACH, &cmd, PROT_NONE);
    run_protected(&ATTACH, &cmd, PROT_READ);
    run_cut(&ATTACH, &cmd, 8);
    run_cut(&DETACH, &back, 4);
    back.flags = VFIO_DEVICE_DETACH_PASID;
    run_cut(&DETACH, &back, 8);
    cmd.flags = VFIO_DEVICE_ATTACH_PASID;
    run_cut(&ATTACH, &cmd, 12);
    printf("what the failed attach has left: ");
    destroy(cmd.pt_id);
}

/** Prints the answer to GET_REGION_INFO without the values that differ from device to device. */
static void region(uint32_t argsz, uint32_t index)
{
    struct vfio_region_info cmd = {
        .argsz = argsz, .index = index, .cap_offset = 0x33, .size = 5, .offset = 6};
    long result;

    printf("GET_REGION_INFO argsz=%u index=%#x", argsz, index);
    result = ioctl(device_fd, VFIO_DEVICE_GET_REGION_INFO, &cmd);
    print_result(result);
    if (!result) {
        printf(" | flags:%#x size:", cmd.flags & 3);
        if (index == VFIO_PCI_CONFIG_REGION_INDEX || !cmd.size)
            printf("%#llx", (unsigned long long)cmd.size);
        else
            printf("some");
        printf(" offset:%#llx", (unsigned long long)(cmd.offset - first_region));
        if (index)
            printf(" argsz:%u cap_offset:%#x", cmd.argsz, cmd.cap_offset);
    } else {
        printf(" | size:%llu", (unsigned long long)cmd.size);
    }
    printf("\n");
}

static void test_infos(void)
{
    static const uint32_t sizes[] = {0, 15, 16, 20, 23, 24, 28, 32, 4096, UINT32_MAX};
    struct vfio_device_info cmd = {.argsz = sizeof(cmd)};
    struct vfio_region_info one = {.argsz = sizeof(one)};
    struct vfio_irq_info other = {.argsz = sizeof(other)};

    for (size_t i = 0; i != COUNT(sizes); i++)
        device_info(sizes[i]);
    for (size_t i = 0; i != COUNT(sizes); i++)
        region(sizes[i], 5);
    for (uint32_t index = 0; index != 11; index++)
        if (index != 2 && index != 3)
            region(32, index);
    region(32, 0x80000000);
    region(32, UINT32_MAX);
    for (size_t i = 0; i != COUNT(sizes); i++)
        irq_info(sizes[i], 0, false);
    for (uint32_t index = 0; index != 7; index++)
        irq_info(16, index, false);
    irq_info(16, UINT32_MAX, false);
    run_protected(&DEVICE_INFO, &cmd, PROT_NONE);
    run_protected(&DEVICE_INFO, &cmd, PROT_READ);
    run_cut(&DEVICE_INFO, &cmd, 12);
    run_cut(&DEVICE_INFO, &cmd, 16);
    run_protected(&REGION_INFO, &one, PROT_NONE);
    run_protected(&REGION_INFO, &one, PROT_READ);
    run_cut(&REGION_INFO, &one, 24);
    run_protected(&IRQ_INFO, &other, PROT_NONE);
    run_protected(&IRQ_INFO, &other, PROT_READ);
    run_cut(&IRQ_INFO, &other, 12);
}

static void feature(uint32_t argsz, uint32_t flags)
{
    struct feature cmd = {.header = {.argsz = argsz, .flags = flags}};

    run_on(device_fd, &FEATURE, &cmd);
}

static void test_features(void)
{
    static const uint32_t sizes[] = {0, 7, 8, 15, 16, 24};
    static const uint32_t operations[] = {
        0,
        VFIO_DEVICE_FEATURE_GET,
        VFIO_DEVICE_FEATURE_SET,
        VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET,
        VFIO_DEVICE_FEATURE_PROBE,
        VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET,
        VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET,
        VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET,
    };
    struct feature cmd = {.header = {.argsz = 16}};
    int event = name_fd("wakeup", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));

    for (size_t i = 0; i != COUNT(sizes); i++)
        feature(sizes[i], VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
    for (uint32_t flag = 1 << 19; flag; flag <<= 1)
        feature(16, flag | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
    for (uint32_t number = 0; number != 18; number++)
        for (size_t i = 0; i != COUNT(operations); i++)
            if (number != VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY ||
                operations[i] != VFIO_DEVICE_FEATURE_SET)
                feature(24, operations[i] | number);
    feature(16, VFIO_DEVICE_FEATURE_GET | 0xffff);
    section("low power");
    feature(8, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY);
    feature(8, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY);
    feature(8, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
    feature(8, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
    cmd.header.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
    for (uint32_t argsz = 8; argsz != 24; argsz += 4) {
        cmd.header.argsz = argsz;
        cmd.data[0] = UINT32_MAX;
        run_on(device_fd, &FEATURE, &cmd);
    }
    cmd.data[0] = 1000;
    run_on(device_fd, &FEATURE, &cmd);
    run_protected(&FEATURE, &cmd, PROT_NONE);
    run_cut(&FEATURE, &cmd, 4);
    run_cut(&FEATURE, &cmd, 8);
    feature(8, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
    close(event);
}

static void test_io_events(void)
{
    static const uint32_t sizes[] = {0, 27, 28, 32, 40};
    struct vfio_device_ioeventfd cmd = {
        .argsz = 32, .flags = 4, .offset = first_region, .fd = -1};

    for (size_t i = 0; i != COUNT(sizes); i++)
        io_event(sizes[i], 4, 0, 0, -1);
    for (uint32_t flags = 0; flags != 17; flags++)
        io_event(32, flags, 0, 0, -1);
    io_event(32, 4, 0, 0, -2);
    io_event(32, 4, 0, 0, 1000);
    io_event(32, 4, 0, 0, iommufd);
    for (uint64_t index = 0; index != 10; index++)
        if (index != 1 && index != 2 && index != 3)
            io_event(32, 4, index << 40, 0, -1);
    io_event(32, 4, (uint64_t)1 << 39, 0, -1);
    io_event(32, 4, 4, 1, eventfds[0]);
    io_event(32, 4, 4, 1, eventfds[0]);
    io_event(32, 4, 4, 1, eventfds[1]);
    io_event(32, 4, 4, 2, eventfds[0]);
    io_event(32, 2, 4, 1, eventfds[0]);
    io_event(32, 2, 4, 1, -1);
    io_event(32, 4, 4, 2, -1);
    io_event(32, 4, 4, 2, -1);
    io_event(32, 4, 4, 1, -1);
    run_protected(&IOEVENTFD, &cmd, PROT_NONE);
    run_cut(&IOEVENTFD, &cmd, 24);
    run_cut(&IOEVENTFD, &cmd, 28);
}

static void test_resets(void)
{
    static const uint32_t sizes[] = {0, 11, 12, 16, 19, 20, 28, 44};
    uint16_t command = 6;

    printf("RESET");
    print_result(ioctl(device_fd, VFIO_DEVICE_RESET));
    printf("\nRESET with an argument");
    print_result(ioctl(device_fd, VFIO_DEVICE_RESET, 1));
    printf("\ncommand before");
    print_result(pwrite(device_fd, &command, 2, CONFIG + 4));
    printf(" and after RESET");
    print_result(ioctl(device_fd, VFIO_DEVICE_RESET));
    if (pread(device_fd, &command, 2, CONFIG + 4) != 2)
        exit(2);
    printf(" | %#x\n", command & 7);
    for (size_t i = 0; i != COUNT(sizes); i++)
        hot_reset_info(sizes[i]);
    for (size_t i = 0; i != COUNT(sizes); i++)
        hot_reset(sizes[i], 1, 0);
    hot_reset(12, 0, 1);
    hot_reset(16, 0, 1);
    hot_reset(12, 0, UINT32_MAX);
    hot_reset(12, 0x80000000, 0);
    hot_reset(12, 0, 0);
}

int main(void)
{
    begin("before bind");
    device_fd = must_open_vfio_device(0);
    test_unbound();
    test_every_request("before bind");
    section("BIND_IOMMUFD");
    test_bind_errors();
    test_bind_twice();
    test_unbound();
    test_every_request("bound");
    section("sizes of ATTACH and DETACH");
    test_attach_errors();
    section("GET_INFO, GET_REGION_INFO, GET_IRQ_INFO");
    test_infos();
    open_eventfds();
    section("FEATURE");
    test_features();
    section("IOEVENTFD");
    test_io_events();
    section("resets");
    test_resets();
    return 0;
}
