/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random calls on a VFIO device, most of them valid or nearly valid: interrupts, configuration
 * space, attachments, features. A seed makes the same calls on every device.
 *
 *   vfio_random SEED COUNT
 */
#include "random.h"
#include "vfio/vfio_client.h"

static int watched_event;

static uint32_t pick(const uint32_t *values, size_t count)
{
    return values[below(count)];
}

#define PICK(...) pick((const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)

/* ---- interrupts ------------------------------------------------------------------------- */

/**
 * Returns an eventfd or an invalid file descriptor. An eventfd that the kernel watches
 * (`is_watched`) is never one that the kernel signals: the kernel reads a watched eventfd at once,
 * a server some time later.
 */
static int random_fd(bool is_watched)
{
    switch (below(12)) {
    case 0:
        return -1;
    case 1:
        return 1000;
    case 2:
        return iommufd;
    case 3:
        return -2;
    default:
        return is_watched ? watched_event : eventfds[below(COUNT(eventfds))];
    }
}

static void random_irqs(void)
{
    uint32_t index = chance(5) ? PICK(5, 6, UINT32_MAX) : PICK(0, 0, 1, 1, 2, 2, 2, 3, 4);
    uint32_t data = chance(5) ? PICK(0, 3, 5, 7) : PICK(NONE, NONE, BOOL, EVENT, EVENT);
    uint32_t action = chance(20) ? PICK(0, MASK, UNMASK, MASK | TRIGGER) : (uint32_t)TRIGGER;
    uint32_t start = 0, count = PICK(0, 1, 1, 1, 1);
    uint32_t argsz = chance(5) ? PICK(16, 19, 20, 21, 24) : 0;
    int values[3];

    /* MSI with one vector only: a kernel without interrupt remapping has no more. */
    if (index == VFIO_PCI_INTX_IRQ_INDEX && chance(50))
        action = PICK(MASK, UNMASK, TRIGGER);
    if (index == VFIO_PCI_MSIX_IRQ_INDEX) {
        start = PICK(0, 0, 1, 2, 5);
        count = PICK(0, 1, 1, 2, 3);
    }
    if (chance(4))
        start = PICK(100, UINT32_MAX, UINT32_MAX - 1);
    if (chance(4))
        count = PICK(100, UINT32_MAX, UINT32_MAX - 1);
    for (int i = 2; i >= 0; i--)
        values[i] = data & EVENT ? random_fd(i == 0 && action & UNMASK) : (int)below(2);
    set_irqs(argsz, data | action, index, start, count, 3, values[0], values[1], values[2]);
}

/* ---- configuration space ---------------------------------------------------------------- */

/** Returns the bits of a byte of the header that are the same for every device. */
static uint8_t header_mask(unsigned position)
{
    switch (position) {
    case 4:
        return 0x06;
    case 5:
        return 0x04;
    case 6:
        return 0x10;
    case 0x10:
        return 0x0f;
    case 0x11:
        return 0xc0;
    case 0x0c:
    case 0x0d:
    case 0x0f:
    case 0x3c:
    case 0x3d:
        return 0xff;
    default:
        return (position >= 0x12 && position < 0x18) || (position >= 0x20 && position < 0x28) ||
                       (position >= 0x30 && position < 0x34)
                   ? 0xff
                   : 0;
    }
}

static void print_bytes(unsigned base, unsigned position, unsigned count, uint8_t mask)
{
    uint8_t bytes[8];

    if (pread(device_fd, bytes, count, CONFIG + base + position) != (ssize_t)count)
        exit(2);
    printf(" |");
    for (unsigned i = 0; i != count; i++)
        printf(" %02x", bytes[i] & (base ? mask : header_mask(position + i)));
}

static void random_header(void)
{
    unsigned position = PICK(4, 4, 4, 5, 6, 0xc, 0xf, 0x10, 0x12, 0x14, 0x17, 0x20, 0x30, 0x3c);
    unsigned count = PICK(1, 2, 2, 3, 4, 4, 7);
    uint64_t value = random_next();

    if (position <= 5 && chance(80))
        value = position == 4 ? PICK(0, 2, 4, 6, 0x402, 0x406) : PICK(0, 4);
    /* The bytes between the header and the first capability differ from device to device. */
    if (position + count > 0x40)
        count = 1;
    printf("header %#x+%u = %llx", position, count,
           (unsigned long long)(value & (~0ULL >> (64 - 8 * count))));
    print_result(pwrite(device_fd, &value, count, CONFIG + position));
    print_bytes(0, position, count, 0xff);
    print_eventfd_counts();
    printf("\n");
}

static void random_capability(void)
{
    static const struct {
        uint8_t id;
        uint8_t position;
        uint8_t count;
        uint8_t mask;
    } registers[] = {
        {5, 0, 1, 0xff},    {5, 2, 1, 0x71},    {5, 2, 2, 0x71},    {5, 4, 4, 0xff},
        {5, 8, 4, 0xff},    {5, 12, 2, 0xff},   {5, 6, 2, 0xff},    {0x11, 0, 1, 0xff},
        {0x11, 3, 1, 0xc0}, {0x10, 0, 1, 0xff}, {0x10, 9, 1, 0x80},
    };
    size_t which = below(COUNT(registers));
    uint64_t value = random_next();
    unsigned start;

    if (registers[which].id == 5 && registers[which].position == 2)
        value = PICK(0, 1, 0x11, 0x70, 0x81, 0xffff);
    if (!find_capability(registers[which].id, &start))
        exit(2);
    printf("capability %#x+%u = %llx", registers[which].id, registers[which].position,
           (unsigned long long)(value & (~0ULL >> (64 - 8 * registers[which].count))));
    print_result(pwrite(device_fd, &value, registers[which].count,
                        CONFIG + start + registers[which].position));
    print_bytes(start, registers[which].position, registers[which].count, registers[which].mask);
    print_eventfd_counts();
    printf("\n");
}

static void random_read(void)
{
    static unsigned char buffer[64];
    uint32_t index = PICK(0, 0, 0, 4, 5, 6, 7, 8, 9, 11);
    uint32_t position = PICK(0, 1, 2, 4, 6, 8, 12);
    uint32_t count = PICK(0, 1, 2, 3, 4, 5, 8, 16, 33);

    printf("pread %u bytes at %u of region %u", count, position, index);
    print_result(pread(device_fd, buffer, count, (off_t)(region_offset(index) + position)));
    printf("\n");
}

/* ---- attachments and other calls -------------------------------------------------------- */

static uint32_t ioases[2];

static void random_table(void)
{
    uint32_t flags = chance(15) ? PICK(1, 1, 2, 0x80000000) : 0;
    uint32_t target = chance(15) ? PICK(0, 1, 99, 3, 4, 5, 6) : ioases[below(COUNT(ioases))];
    bool leaves = chance(30);
    uint32_t pasid = PICK(1, 2);

    if (leaves)
        detach_pt(PICK(0, 4, 8, 12, 12, 12), flags, pasid);
    else
        attach_pt(PICK(8, 12, 16, 16, 16, 16), flags, target, pasid);
}

static void random_feature(void)
{
    struct feature cmd = {.header = {.argsz = PICK(4, 8, 12, 16, 24)}};

    /* Not feature 4, with an eventfd: it depends on whether power management is built in. */
    cmd.header.flags = PICK(0, 1, 2, 3, 3, 5, 5, 6, 9, 10, 11, 12, 13, 14, 0xffff);
    cmd.header.flags |= (uint32_t)below(8) << 16;
    if (chance(5))
        cmd.header.flags |= 1U << 20;
    run_on(device_fd, &FEATURE, &cmd);
}

static void random_io_event(void)
{
    int fd = random_fd(true);
    uint64_t data = PICK(1, 2), offset = (uint64_t)PICK(0, 0, 0, 0, 4, 5, 7) << 40;
    uint32_t flags;

    offset |= PICK(0, 4, 8, 12);
    flags = PICK(1, 2, 4, 4, 8, 3, 0, 16);
    io_event(PICK(24, 28, 32, 32, 32), flags, offset, data, fd);
}

static void random_info(void)
{
    uint32_t index;

    if (chance(50)) {
        device_info(PICK(0, 12, 16, 20, 24, 64));
    } else {
        index = PICK(0, 1, 2, 3, 4, 5, UINT32_MAX);
        irq_info(PICK(8, 15, 16, 16, 20), index, false);
    }
}

static void random_reset(void)
{
    printf("RESET");
    print_result(ioctl(device_fd, VFIO_DEVICE_RESET));
    print_bytes(0, 4, 2, 0xff);
    printf("\n");
}

int main(int argc, char **argv)
{
    unsigned count = 1000;

    read_seed_and_count(argc, argv, &count);
    begin_bound("random calls");
    vector_count = 0;
    watched_event = name_fd("watched", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    ioases[0] = ioas_alloc();
    ioases[1] = ioas_alloc();
    while (count--) {
        uint64_t which = below(1000);

        if (which < 400)
            random_irqs();
        else if (which < 580)
            random_header();
        else if (which < 720)
            random_capability();
        else if (which < 790)
            random_read();
        else if (which < 870)
            random_table();
        else if (which < 920)
            random_feature();
        else if (which < 970)
            random_io_event();
        else if (which < 995)
            random_info();
        else
            random_reset();
    }
    return 0;
}
