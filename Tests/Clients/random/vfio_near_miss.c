/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random calls on VFIO devices that miss a valid one by little (near_miss.h): structs that are too
 * short, too long or cut by the end of memory, unknown flags, file descriptors of the wrong kind.
 * Answers about the device itself differ from device to device. vfio_device and vfio_registers test
 * them.
 *
 *   vfio_near_miss SEED COUNT
 */
#include "mock/near_miss.h"
#include "random.h"
#include "vfio/vfio_client.h"

static uint32_t ioases[2];
static int second = -1; /* device 1, open and unbound */

struct irqs {
    struct vfio_irq_set set;
    int32_t data[4];
};

struct reset {
    struct vfio_pci_hot_reset reset;
    int32_t fds[4];
};

static const struct command IRQS = {
    "SET_IRQS", VFIO_DEVICE_SET_IRQS, sizeof(struct irqs), sizeof(struct vfio_irq_set), NULL,
    {FIELD(struct irqs, set.flags, HEX), FIELD(struct irqs, set.index, DEC),
     FIELD(struct irqs, set.start, DEC), FIELD(struct irqs, set.count, DEC),
     FIELD(struct irqs, data[0], FILE_IN), FIELD(struct irqs, data[1], FILE_IN),
     FIELD(struct irqs, data[2], FILE_IN), FIELD(struct irqs, data[3], FILE_IN)}};

static const struct command RESETS = {
    "PCI_HOT_RESET", VFIO_DEVICE_PCI_HOT_RESET, sizeof(struct reset),
    sizeof(struct vfio_pci_hot_reset), NULL,
    {FIELD(struct reset, reset.flags, HEX), FIELD(struct reset, reset.count, DEC),
     FIELD(struct reset, fds[0], FILE_IN), FIELD(struct reset, fds[1], FILE_IN)}};

static uint32_t some_id(void)
{
    return (uint32_t)below(10);
}

static int some_fd(void)
{
    return named_fd(below(named_fd_count()));
}

static void snapshot_nothing(void) {}

static void print_eventfds(const char **bar)
{
    (void)bar;
    print_eventfd_counts();
}

static bool print_no_result(const struct command *command, long result)
{
    (void)command;
    (void)result;
    return false;
}

static bool is_repeatable(const struct command *command, const unsigned char *bytes)
{
    if (command == &FEATURE) { /* the feature with an eventfd depends on power management */
        const struct feature *cmd = (const void *)bytes;

        return (cmd->header.flags & VFIO_DEVICE_FEATURE_MASK) != 4;
    }
    if (command == &IRQ_INFO) { /* the number of vectors differs from device to device */
        uint32_t index = ((const struct vfio_irq_info *)bytes)->index;

        return index != VFIO_PCI_MSI_IRQ_INDEX && index != VFIO_PCI_MSIX_IRQ_INDEX;
    }
    if (command == &IRQS) {
        const struct irqs *cmd = (const void *)bytes;

        /*
         * An eventfd that unmasks is read at some later time. A device may have only one MSI
         * vector.
         */
        if (cmd->set.flags & EVENT && cmd->set.flags & UNMASK)
            return false;
        if (cmd->set.index == VFIO_PCI_MSI_IRQ_INDEX)
            return cmd->set.count <= 1 || cmd->set.count > 1000;
        /* The number of MSI-X vectors differs from device to device. */
        return cmd->set.index != VFIO_PCI_MSIX_IRQ_INDEX ||
               (uint64_t)cmd->set.start + cmd->set.count <= 5 || cmd->set.start >= 2048 ||
               cmd->set.count > 2048;
    }
    return true;
}

static const struct near_miss_client client = {
    .some_id = some_id,
    .some_fd = some_fd,
    .is_repeatable = is_repeatable,
    .snapshot = snapshot_nothing,
    .print_changes = print_eventfds,
    .print_result = print_no_result,
};

static void try_info(void)
{
    struct vfio_device_info cmd = {.argsz = 16 + 4 * below(4), .flags = 0x55, .cap_offset = 3};

    call_on(device_fd, &DEVICE_INFO, &cmd);
}

static void try_irq_info(void)
{
    static const uint32_t indices[] = {0, 3, 4, 5, 6};
    struct vfio_irq_info cmd = {.argsz = sizeof(cmd), .index = indices[below(COUNT(indices))]};

    call_on(device_fd, &IRQ_INFO, &cmd);
}

static void try_irqs(void)
{
    static const uint32_t kinds[] = {NONE, BOOL, EVENT, EVENT};
    struct irqs cmd = {.set = {.argsz = sizeof(cmd)}};

    cmd.set.flags = kinds[below(COUNT(kinds))] | TRIGGER;
    cmd.set.index = 2 * below(2);
    cmd.set.count = 1 + below(2);
    if (chance(15))
        cmd.set.flags = (cmd.set.flags & 7) | (below(2) ? MASK : UNMASK);
    if (cmd.set.index == VFIO_PCI_MSIX_IRQ_INDEX)
        cmd.set.start = below(3);
    else
        cmd.set.count = 1;
    for (unsigned i = 0; i != 4; i++)
        cmd.data[i] = cmd.set.flags & EVENT ? (below(4) ? eventfds[below(3)] : -1) : (int)below(2);
    if (cmd.set.flags & EVENT && chance(50))
        cmd.set.argsz = sizeof(cmd.set) + 4 * cmd.set.count;
    if (!is_repeatable(&IRQS, (const void *)&cmd))
        return;
    call_on(device_fd, &IRQS, &cmd);
}

static void try_bind(void)
{
    struct vfio_device_bind_iommufd cmd = {.argsz = sizeof(cmd), .iommufd = iommufd,
                                           .out_devid = 0x55};

    if (chance(20)) {
        call_on(device_fd, &BIND, &cmd);
        return;
    }
    call_on(second, &BIND, &cmd);
    if (chance(50))
        return;
    printf("close -> %d\n", close(second));
    second = must_open_vfio_device(1);
    rename_fd("second", second);
}

static void try_attach(void)
{
    struct vfio_device_attach_iommufd_pt cmd = {.argsz = 12 + 4 * below(2)};

    cmd.pt_id = ioases[below(2)];
    if (chance(20)) {
        cmd.flags = VFIO_DEVICE_ATTACH_PASID;
        cmd.pasid = 1 + below(2);
    }
    call_on(below(6) ? device_fd : second, &ATTACH, &cmd);
}

static void try_detach(void)
{
    struct vfio_device_detach_iommufd_pt cmd = {.argsz = 8 + 4 * below(2)};

    if (chance(20)) {
        cmd.flags = VFIO_DEVICE_DETACH_PASID;
        cmd.pasid = 1 + below(2);
    }
    call_on(below(6) ? device_fd : second, &DETACH, &cmd);
}

static void try_feature(void)
{
    struct feature cmd = {.header = {.argsz = 8 + 8 * below(3)}};

    cmd.header.flags = below(16);
    cmd.header.flags |= (uint32_t)(1 + below(7)) << 16;
    if (!is_repeatable(&FEATURE, (const void *)&cmd))
        return;
    call_on(device_fd, &FEATURE, &cmd);
}

static void try_hot_reset(void)
{
    struct reset cmd = {.reset = {.argsz = 12 + 4 * below(3)}, .fds = {device_fd, -1, -1, -1}};

    cmd.reset.count = below(3) == 0;
    call_on(device_fd, &RESETS, &cmd);
}

/** Prints how many bytes are read, but not the bytes, which differ from device to device. */
static void try_read(void)
{
    static const unsigned indices[] = {0, 4, 5, 6, 7, 7, 7, 8, 9};
    unsigned index = indices[below(COUNT(indices))];
    uint64_t position = chance(20) ? PAGE - below(40) : below(0x50);
    size_t count = 1 + below(70);
    uintptr_t at = some_address(&data_memory, count, 20);

    if (!index)
        position %= 0x20;
    fill_guarded(&data_memory, 0x5a);
    printf("pread region %u at %#llx, %zu bytes to ", index, (unsigned long long)position, count);
    print_pointer(at);
    fflush(stdout);
    print_result(pread(device_fd, (void *)at, count, (off_t)(region_offset(index) + position)));
    printf("\n");
}

/** Writes to registers of the header that are writable on every device. */
static void try_write(void)
{
    static const unsigned positions[] = {0x0c, 0x0d, 0x3c, 0x10, 0x30, 0xff0};
    unsigned position = positions[below(COUNT(positions))];
    uint64_t value = random_next();
    size_t count = 1 + below(4);
    uintptr_t at = some_address(&data_memory, count, 30);

    fill_guarded(&data_memory, 0);
    write_guarded(&data_memory, at, &value, count);
    printf("pwrite config at %#x, %zu bytes from ", position, count);
    print_pointer(at);
    fflush(stdout);
    print_result(pwrite(device_fd, (void *)at, count, (off_t)(CONFIG + position)));
    printf("\n");
}

/** Issues a request that does not exist, or one with a wrong type, direction or size. */
static void try_request(void)
{
    unsigned long request = _IO(VFIO_TYPE, VFIO_BASE + below(28));

    if (chance(80))
        request ^= 1UL << (8 + below(24));
    else if (request == VFIO_DEVICE_RESET)
        return;
    if (request >> 8 == VFIO_TYPE && (request & 0xff) < VFIO_BASE + 25)
        return;
    fill_guarded(&argument_memory, 0);
    printf("request %#lx", request);
    fflush(stdout);
    print_result(ioctl(device_fd, request, some_address(&argument_memory, 16, 20)));
    printf("\n");
}

int main(int argc, char **argv)
{
    static void (*const tries[])(void) = {
        try_info, try_irq_info, try_irqs,    try_irqs,   try_irqs, try_bind, try_bind, try_attach,
        try_attach, try_detach, try_feature, try_feature, try_read, try_read, try_write,
        try_hot_reset, try_request,
    };
    unsigned count = 1000;

    read_seed_and_count(argc, argv, &count);
    part = "cut";
    begin_bound("near misses");
    name_fd("device", device_fd);
    second = name_fd("second", must_open_vfio_device(1));
    begin_near_misses(&client);
    ioases[0] = ioas_alloc();
    ioases[1] = ioas_alloc();
    while (count--)
        tries[below(COUNT(tries))]();
    return 0;
}
