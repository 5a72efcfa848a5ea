/* SPDX-License-Identifier: Apache-2.0 */
/* pread() and pwrite() of configuration space and BARs. */
#include "vfio/vfio_client.h"

#define BAR region_offset(0)

static void access_at(const char *what, bool write, uint64_t offset, size_t count)
{
    static unsigned char buffer[8192];
    long result;

    memset(buffer, 0, sizeof(buffer));
    printf("%s %zu bytes of %s", write ? "pwrite" : "pread", count, what);
    result = write ? pwrite(device_fd, buffer, count, (off_t)offset)
                   : pread(device_fd, buffer, count, (off_t)offset);
    print_result(result);
    printf("\n");
}

/** Positions behind the header are printed relative to this capability. */
static unsigned capability_start;

/** Writes a register, and prints the bits `mask` of its new value. */
static void config_write(unsigned position, unsigned width, uint64_t value, uint64_t mask)
{
    long result = pwrite(device_fd, &value, width, CONFIG + position);

    printf("config ");
    if (position >= 0x40)
        printf("capability+");
    printf("%#x width %u = %#llx", position - (position < 0x40 ? 0 : capability_start), width,
           (unsigned long long)value);
    print_result(result);
    printf(" | %#llx\n", (unsigned long long)(config_word(position, width) & mask));
}

static void test_config_space(void)
{
    struct vfio_region_info bar = {.argsz = sizeof(bar), .index = 0};

    section("configuration space: where it ends");
    access_at("config", false, CONFIG, 256);
    access_at("config", false, CONFIG, 4096);
    access_at("config", false, CONFIG, 4097);
    access_at("config at its last byte", false, CONFIG + 4095, 1);
    access_at("config at its last byte", false, CONFIG + 4095, 2);
    access_at("config at its end", false, CONFIG + 4096, 1);
    access_at("config at its end", true, CONFIG + 4096, 1);
    access_at("config at its last byte", true, CONFIG + 4095, 2);
    access_at("config far away", false, CONFIG + 0x10000, 4);
    access_at("config at 1", false, CONFIG + 1, 7);
    access_at("config", false, CONFIG, 0);
    printf("pread into nothing");
    print_result(pread(device_fd, (void *)unmapped_address, 4, CONFIG));
    printf("\npwrite from nothing");
    print_result(pwrite(device_fd, (void *)unmapped_address, 4, CONFIG + 4));
    printf("\n");

    section("configuration space: the header");
    printf("command %#llx\n", (unsigned long long)(config_word(4, 2) & 0x406));
    printf("header type %#llx\n", (unsigned long long)(config_word(0xe, 1) & 0x7f));
    printf("pin %#llx\n", (unsigned long long)config_word(0x3d, 1));
    printf("capability list %#llx\n", (unsigned long long)(config_word(6, 2) & 0x10));
    config_write(0, 4, 0, 0);
    printf("vendor %s\n", config_word(0, 2) ? "unchanged" : "gone");
    config_write(8, 4, UINT32_MAX, 0);
    config_write(4, 2, 0x0, 0x406);
    config_write(4, 2, 0x4, 0x406);
    config_write(4, 2, 0x6, 0x406);
    config_write(4, 2, 0x406, 0x406);
    config_write(5, 1, 0x0, 0x4);
    config_write(4, 1, 0x2, 0x406);
    config_write(4, 4, 0xffff0006, 0x00100407);
    config_write(4, 2, 0x2, 0x406);
    config_write(6, 2, 0xffff, 0x0010);
    config_write(0xc, 1, 0x40, 0xff);
    config_write(0xc, 1, 0, 0xff);
    config_write(0x3c, 1, 0x5a, 0xff);
    config_write(0x3d, 1, 0, 0xff);
    config_write(0x34, 1, 0, 0);
    printf("capability list %s\n", config_word(0x34, 1) ? "unchanged" : "gone");
    config_write(0x40 - 4, 4, 0, 0xff);

    section("configuration space: base addresses");
    if (ioctl(device_fd, VFIO_DEVICE_GET_REGION_INFO, &bar))
        exit(2);
    printf("BAR 0 flags %#llx\n", (unsigned long long)(config_word(0x10, 1) & 0xf));
    config_write(0x10, 4, 0xffffffff, 0xf);
    config_write(0x14, 4, 0xffffffff, 0xffffffff);
    printf("BAR 0 size is %s\n",
           ~(config_word(0x10, 4) & ~0xfULL) + 1 == ((1ULL << 32) | bar.size) ||
                   (uint32_t)(~(config_word(0x10, 4) & ~0xfULL) + 1) == bar.size
               ? "the region's"
               : "another");
    config_write(0x10, 4, 0, 0xffffffff);
    config_write(0x14, 4, 0, 0xffffffff);
    config_write(0x20, 4, 0xffffffff, 0xffffffff);
    config_write(0x24, 4, 0xffffffff, 0xffffffff);
    config_write(0x30, 4, 0xffffffff, 0xffffffff);
    config_write(0x30, 4, 0xfffff800, 0xffffffff);
    config_write(0x10, 1, 0xff, 0xf);
    config_write(0x11, 2, 0xffff, 0);
    config_write(0x13, 1, 0xfe, 0xff);

    section("configuration space: capabilities");
    printf("PCI Express %u", find_capability(0x10, &capability_start));
    printf(" version %llu\n", (unsigned long long)(config_word(capability_start + 2, 2) & 0xf));
    config_write(capability_start, 2, 0, 0xff);
    config_write(capability_start + 8, 2, 0x8000, 0x8000);
    printf("MSI %u, ", find_capability(5, &capability_start));
    print_msi_control(5, 0xf1);
    config_write(capability_start + 4, 4, 0xfee00000, 0xffffffff);
    config_write(capability_start + 8, 4, 0x1, 0xffffffff);
    config_write(capability_start + 12, 2, 0x1234, 0xffff);
    config_write(capability_start, 2, 0, 0xff);
    printf("MSI-X %u, ", find_capability(0x11, &capability_start));
    print_msi_control(0x11, 0xf800);
    config_write(capability_start + 4, 4, 0xffffffff, 0);
    config_write(capability_start, 4, 0, 0xff);
}

static void test_bar0(void)
{
    struct vfio_region_info bar = {.argsz = sizeof(bar), .index = 0};
    unsigned position, table_bar;
    uint32_t table, ones[4] = {0, 0, 0, 0};
    uint16_t command = 0;

    if (ioctl(device_fd, VFIO_DEVICE_GET_REGION_INFO, &bar))
        exit(2);
    section("base address 0");
    access_at("BAR 0", false, BAR, 4);
    access_at("BAR 0", false, BAR, 8);
    access_at("BAR 0", false, BAR, 0);
    access_at("BAR 0 up to its end", false, BAR + bar.size - 4, 4);
    access_at("BAR 0 over its end", false, BAR + bar.size - 4, 64);
    access_at("BAR 0 at its end", false, BAR + bar.size, 4);
    access_at("BAR 0 at its end", true, BAR + bar.size, 4);
    access_at("BAR 0 behind its end", false, BAR + bar.size + 4096, 4);
    access_at("BAR 4", false, region_offset(4), 4);
    access_at("BAR 5", true, region_offset(5), 4);
    access_at("ROM", false, region_offset(6), 4);
    access_at("ROM", true, region_offset(6), 4);
    access_at("VGA", false, region_offset(8) + 0xa0000, 4);
    access_at("VGA", true, region_offset(8) + 0x3c0, 1);
    access_at("region 9", false, region_offset(9), 4);
    access_at("region 9", false, region_offset(9), 0);
    access_at("region 200", true, region_offset(200), 4);
    access_at("a negative offset", false, (uint64_t)-4, 4);
    printf("pread into nothing");
    print_result(pread(device_fd, (void *)unmapped_address, 4, (off_t)BAR));
    printf("\n");

    section("without memory space");
    printf("pwrite");
    print_result(pwrite(device_fd, &command, 2, CONFIG + 4));
    printf("\n");
    access_at("BAR 0", false, BAR, 4);
    access_at("BAR 0", true, BAR + 4, 4);
    access_at("BAR 0 at its end", false, BAR + bar.size, 4);
    access_at("BAR 4", false, region_offset(4), 4);
    command = 2;
    printf("pwrite");
    print_result(pwrite(device_fd, &command, 2, CONFIG + 4));
    printf("\n");
    access_at("BAR 0", false, BAR, 4);

    section("the MSI-X table");
    if (!find_capability(0x11, &position))
        exit(2);
    table = (uint32_t)config_word(position + 4, 4);
    table_bar = table & 7;
    printf("pwrite");
    print_result(pwrite(device_fd, ones, 16, (off_t)(region_offset(table_bar) + (table & ~7u))));
    printf(", pread");
    print_result(pread(device_fd, ones, 16, (off_t)(region_offset(table_bar) + (table & ~7u))));
    printf(" | %x %x %x %x\n", ones[0], ones[1], ones[2], ones[3]);
    io_event(32, 4, 0, 0, -1);
}

int main(void)
{
    begin_bound("registers");
    test_config_space();
    test_bar0();
    return 0;
}
