/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/vfio_client.h"

int device_fd = -1;
uint64_t first_region;
volatile uintptr_t unmapped_address = 1;
uint32_t vector_count;
int eventfds[3];

const struct command BIND = {
    "BIND_IOMMUFD", VFIO_DEVICE_BIND_IOMMUFD, sizeof(struct vfio_device_bind_iommufd), 16, NULL,
    {FIELD(struct vfio_device_bind_iommufd, flags, HEX),
     FIELD(struct vfio_device_bind_iommufd, iommufd, FILE_IN),
     FIELD(struct vfio_device_bind_iommufd, out_devid, DEC),
     FIELD(struct vfio_device_bind_iommufd, token_uuid_ptr, POINTER)}};

const struct command ATTACH = {
    "ATTACH_IOMMUFD_PT", VFIO_DEVICE_ATTACH_IOMMUFD_PT,
    sizeof(struct vfio_device_attach_iommufd_pt), 12, NULL,
    {FIELD(struct vfio_device_attach_iommufd_pt, flags, HEX),
     FIELD(struct vfio_device_attach_iommufd_pt, pt_id, DEC),
     FIELD(struct vfio_device_attach_iommufd_pt, pasid, DEC)}};

const struct command DETACH = {
    "DETACH_IOMMUFD_PT", VFIO_DEVICE_DETACH_IOMMUFD_PT,
    sizeof(struct vfio_device_detach_iommufd_pt), 8, NULL,
    {FIELD(struct vfio_device_detach_iommufd_pt, flags, HEX),
     FIELD(struct vfio_device_detach_iommufd_pt, pasid, DEC)}};

const struct command DEVICE_INFO = {
    "GET_INFO", VFIO_DEVICE_GET_INFO, sizeof(struct vfio_device_info), 16, NULL,
    {FIELD(struct vfio_device_info, flags, HEX), FIELD(struct vfio_device_info, num_regions, DEC),
     FIELD(struct vfio_device_info, num_irqs, DEC), FIELD(struct vfio_device_info, cap_offset, HEX),
     FIELD(struct vfio_device_info, pad, HEX)}};

const struct command REGION_INFO = {
    "GET_REGION_INFO", VFIO_DEVICE_GET_REGION_INFO, sizeof(struct vfio_region_info), 32, NULL,
    {FIELD(struct vfio_region_info, index, DEC), FIELD(struct vfio_region_info, flags, HEX),
     FIELD(struct vfio_region_info, cap_offset, HEX), FIELD(struct vfio_region_info, size, HEX),
     FIELD(struct vfio_region_info, offset, HEX)}};

const struct command IRQ_INFO = {
    "GET_IRQ_INFO", VFIO_DEVICE_GET_IRQ_INFO, sizeof(struct vfio_irq_info), 16, NULL,
    {FIELD(struct vfio_irq_info, index, DEC), FIELD(struct vfio_irq_info, flags, HEX),
     FIELD(struct vfio_irq_info, count, DEC)}};

const struct command FEATURE = {
    "FEATURE", VFIO_DEVICE_FEATURE, sizeof(struct feature), 8, NULL,
    {FIELD(struct feature, header.flags, HEX), FIELD(struct feature, data, RESERVED)}};

const struct command IOEVENTFD = {
    "IOEVENTFD", VFIO_DEVICE_IOEVENTFD, sizeof(struct vfio_device_ioeventfd), 28, NULL, {{0}}};

static const struct command HOT_RESET = {
    "PCI_HOT_RESET", VFIO_DEVICE_PCI_HOT_RESET, sizeof(struct vfio_pci_hot_reset), 12, NULL,
    {FIELD(struct vfio_pci_hot_reset, flags, HEX), FIELD(struct vfio_pci_hot_reset, count, DEC)}};

long bind_with(int fd, uint32_t argsz, uint32_t flags, int iommufd_number)
{
    struct {
        struct vfio_device_bind_iommufd cmd;
        uint8_t tail[8]; /* zeros, which an `argsz` beyond the struct covers */
    } longer = {
        .cmd = {.argsz = argsz, .flags = flags, .iommufd = iommufd_number, .out_devid = 77}};

    return run_on(fd, &BIND, &longer.cmd);
}

uint64_t region_offset(unsigned index)
{
    return first_region + ((uint64_t)index << 40);
}

void find_regions(void)
{
    struct vfio_region_info info = {.argsz = sizeof(info), .index = 0};

    if (ioctl(device_fd, VFIO_DEVICE_GET_REGION_INFO, &info))
        exit(2);
    first_region = info.offset;
}

long attach_pt(uint32_t argsz, uint32_t flags, uint32_t pt_id, uint32_t pasid)
{
    struct vfio_device_attach_iommufd_pt cmd = {
        .argsz = argsz, .flags = flags, .pt_id = pt_id, .pasid = pasid};

    return run_on(device_fd, &ATTACH, &cmd);
}

long detach_pt(uint32_t argsz, uint32_t flags, uint32_t pasid)
{
    struct vfio_device_detach_iommufd_pt cmd = {.argsz = argsz, .flags = flags, .pasid = pasid};

    return run_on(device_fd, &DETACH, &cmd);
}

void run_protected(const struct command *command, const void *argument, int protection)
{
    unsigned char *page =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long result;

    memcpy(page, argument, command->size);
    mprotect(page, PAGE, protection);
    printf("%s, %s struct", command->name, protection ? "read-only" : "inaccessible");
    fflush(stdout);
    result = ioctl(device_fd, command->request, page);
    print_result(result);
    printf("\n");
    munmap(page, PAGE);
}

void run_cut(const struct command *command, const void *argument, size_t accessible)
{
    unsigned char *pages =
        mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long result;

    mprotect(pages + PAGE, PAGE, PROT_NONE);
    memcpy(pages + PAGE - accessible, argument, accessible);
    printf("%s, %zu accessible bytes", command->name, accessible);
    fflush(stdout);
    result = ioctl(device_fd, command->request, pages + PAGE - accessible);
    print_result(result);
    printf("\n");
    munmap(pages, 2 * PAGE);
}

void device_info(uint32_t argsz)
{
    struct vfio_device_info cmd = {
        .argsz = argsz, .flags = 0x55, .num_regions = 1, .num_irqs = 2, .cap_offset = 3, .pad = 4};

    run_on(device_fd, &DEVICE_INFO, &cmd);
}

void io_event(uint32_t argsz, uint32_t flags, uint64_t offset, uint64_t data, int fd)
{
    struct vfio_device_ioeventfd cmd = {
        .argsz = argsz, .flags = flags, .offset = first_region + offset, .data = data, .fd = fd};
    long result;

    printf("IOEVENTFD argsz=%u flags=%#x offset=%#llx data=%#llx fd=", argsz, flags,
           (unsigned long long)offset, (unsigned long long)data);
    print_fd(fd);
    fflush(stdout);
    result = ioctl(device_fd, VFIO_DEVICE_IOEVENTFD, &cmd);
    print_result(result);
    printf("\n");
}

unsigned find_capability(uint8_t id, unsigned *position)
{
    uint8_t at = 0, header[2];

    if (pread(device_fd, &at, 1, CONFIG + 0x34) != 1)
        exit(2);
    while (at) {
        if (pread(device_fd, header, 2, CONFIG + at) != 2)
            exit(2);
        if (header[0] == id) {
            *position = at;
            return 1;
        }
        at = header[1];
    }
    return 0;
}

uint64_t config_word(unsigned position, unsigned width)
{
    uint64_t value = 0;

    if (pread(device_fd, &value, width, CONFIG + position) != (ssize_t)width)
        exit(2);
    return value;
}

void print_msi_control(uint8_t id, uint16_t mask)
{
    unsigned position;
    uint16_t control;

    if (!find_capability(id, &position) ||
        pread(device_fd, &control, 2, CONFIG + position + 2) != 2)
        exit(2);
    printf("control register | %#x\n", control & mask);
}

static void print_vector(uint32_t value)
{
    if (vector_count > 4 && value + 1 >= vector_count && value <= vector_count + 1)
        printf("N%+d", (int)(value - vector_count));
    else
        printf("%u", value);
}

void print_eventfd_counts(void)
{
    for (size_t i = 0; i != COUNT(eventfds); i++) {
        uint64_t count = 0;

        if (read(eventfds[i], &count, sizeof(count)) == sizeof(count))
            printf(" event%zu:%llu", i, (unsigned long long)count);
    }
}

long set_irqs(uint32_t argsz, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
              int elements, ...)
{
    struct {
        struct vfio_irq_set set;
        unsigned char data[64];
    } cmd = {.set = {.flags = flags, .index = index, .start = start, .count = count}};
    unsigned width = flags & EVENT ? 4 : 1;
    va_list list;
    long result;

    cmd.set.argsz = argsz ? argsz : sizeof(cmd.set) + elements * width;
    printf("SET_IRQS");
    if (argsz)
        printf(" argsz=%u", argsz);
    printf(" flags=%#x index=%u start=", flags, index);
    print_vector(start);
    printf(" count=");
    print_vector(count);
    va_start(list, elements);
    for (int i = 0; i != elements; i++) {
        int value = va_arg(list, int);

        printf(" ");
        if (flags & EVENT)
            print_fd(value);
        else
            printf("%d", value);
        memcpy(cmd.data + i * width, &value, width);
    }
    va_end(list);
    fflush(stdout);
    result = ioctl(device_fd, VFIO_DEVICE_SET_IRQS, &cmd);
    print_result(result);
    print_eventfd_counts();
    printf("\n");
    return result;
}

uint32_t irq_info(uint32_t argsz, uint32_t index, bool quiet)
{
    struct vfio_irq_info cmd = {.argsz = argsz, .flags = 0x55, .index = index, .count = 77};
    long result = ioctl(device_fd, VFIO_DEVICE_GET_IRQ_INFO, &cmd);

    if (quiet)
        return result ? 0 : cmd.count;
    printf("GET_IRQ_INFO argsz=%u index=%u", argsz, index);
    print_result(result);
    printf(" | argsz:%u flags:%#x count:", cmd.argsz, cmd.flags);
    if (index == VFIO_PCI_MSI_IRQ_INDEX || index == VFIO_PCI_MSIX_IRQ_INDEX)
        printf(cmd.count ? "some\n" : "0\n");
    else
        printf("%u\n", cmd.count);
    return cmd.count;
}

void open_eventfds(void)
{
    static const char *const names[] = {"event0", "event1", "event2"};

    for (size_t i = 0; i != COUNT(eventfds); i++)
        eventfds[i] = name_fd(names[i], eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void hot_reset_info(uint32_t argsz)
{
    struct {
        struct vfio_pci_hot_reset_info info;
        struct vfio_pci_dependent_device devices[4];
    } cmd = {.info = {.argsz = argsz, .flags = 0x55, .count = 66}};
    long result;

    for (size_t i = 0; i != COUNT(cmd.devices); i++)
        cmd.devices[i].devid = 55;
    printf("GET_PCI_HOT_RESET_INFO argsz=%u", argsz);
    result = ioctl(device_fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &cmd);
    print_result(result);
    printf(" | argsz:%u flags:%#x count:%u ids:", cmd.info.argsz, cmd.info.flags, cmd.info.count);
    for (size_t i = 0; i != COUNT(cmd.devices); i++)
        printf(" %d", (int)cmd.devices[i].devid);
    printf(" functions: %u %u\n", cmd.devices[0].devfn & 7, cmd.devices[1].devfn & 7);
}

void hot_reset(uint32_t argsz, uint32_t flags, uint32_t count)
{
    struct {
        struct vfio_pci_hot_reset reset;
        int32_t fds[4];
    } cmd = {.reset = {.argsz = argsz, .flags = flags, .count = count}, .fds = {-1, -1, -1, -1}};

    run_on(device_fd, &HOT_RESET, &cmd);
}

void begin_bound(const char *title)
{
    begin(title);
    device_fd = must_open_vfio_device(0);
    bind_with(device_fd, 24, 0, iommufd);
    find_regions();
    open_eventfds();
}
