/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that call a driver, with two wrong arguments at a time: which error comes first.
 * Each command begins with a valid struct, and each line is that struct with one or two fields
 * changed. An object that is made nevertheless is destroyed, so that the next line finds the same
 * objects.
 */
#include "mock/mock.h"

/** A value for a field that is wrong, or unusual. */
struct wrong {
    size_t offset, width;
    uint64_t value;
};

#define WRONG(type, member, value) {offsetof(type, member), sizeof(((type *)0)->member), value}

/** How to take back what a command has made. */
struct undo {
    size_t id;           /* the offset of the ID */
    ssize_t fd;          /* the offset of a file descriptor, or -1 */
};

static struct mock_device device, clean;
static uint32_t ioas, parent, plain, nested, viommu, second, fault, vdevice;
static int fault_fd;
static struct iommu_hwpt_selftest table = {.iotlb = 7};
static struct iommu_viommu_selftest loop;
static struct iommu_hwpt_invalidate_selftest entry = {.iotlb_id = 1};
static uint64_t bitmap[8];

static void set(unsigned char *bytes, const struct wrong *wrong)
{
    memcpy(bytes + wrong->offset, &wrong->value, wrong->width < 8 ? wrong->width : 8);
}

static void call(const struct command *command, unsigned char *bytes, const struct undo *undo)
{
    uint32_t id;
    int fd;

    if (run(command, bytes) || !undo)
        return;
    memcpy(&id, bytes + undo->id, sizeof(id));
    if (undo->fd >= 0) {
        memcpy(&fd, bytes + undo->fd, sizeof(fd));
        close(fd);
    }
    destroy(id);
}

static void try_pairs(const char *what, const struct command *command, const void *valid,
                      const struct wrong *wrongs, size_t count, const struct undo *undo)
{
    unsigned char bytes[256];

    section("%s", what);
    memcpy(bytes, valid, command->size);
    call(command, bytes, undo);
    for (size_t first = 0; first != count; first++) {
        for (size_t other = first; other != count; other++) {
            if (other != first && wrongs[other].offset == wrongs[first].offset)
                continue;
            memcpy(bytes, valid, command->size);
            set(bytes, &wrongs[first]);
            set(bytes, &wrongs[other]);
            call(command, bytes, undo);
        }
    }
}

#define PAIRS(what, command, valid, undo, ...)                                                     \
    try_pairs(what, command, valid, (const struct wrong[]){__VA_ARGS__},                           \
              sizeof((struct wrong[]){__VA_ARGS__}) / sizeof(struct wrong), undo)

#define SIZED(type, ...) &(struct type){.size = sizeof(struct type), __VA_ARGS__}

static void make_objects(void)
{

    name_region("table", &table, sizeof(table));
    name_region("loop", &loop, sizeof(loop));
    name_region("entry", &entry, sizeof(entry));
    name_region("bitmap", bitmap, sizeof(bitmap));
    ioas = ioas_alloc();
    map(ioas, (uintptr_t)buffer, 16 * PAGE, FIXED | R | W, MOCK_START);
    mock_domain_flags(ioas, MOCK_FLAGS_DEVICE_PASID, &device);
    mock_domain_flags(ioas, MOCK_FLAGS_DEVICE_NO_DIRTY, &clean);
    parent = hwpt_alloc(device.idev, ioas, NEST | PASID);
    plain = hwpt_alloc(device.idev, ioas, TRACK);
    nested = nested_alloc(device.idev, parent, 0, 0);
    viommu = viommu_alloc(device.idev, parent, IOMMU_VIOMMU_TYPE_SELFTEST, NULL, 0);
    second = viommu_alloc(device.idev, parent, IOMMU_VIOMMU_TYPE_SELFTEST, NULL, 0);
    fault = fault_queue_alloc("faults", &fault_fd);
}

/** `target` is what the HWPT is made on. */
static void test_tables(const char *what, uint32_t target, bool with_data)
{
    static const struct undo undo = {offsetof(struct iommu_hwpt_alloc, out_hwpt_id), -1};
    struct iommu_hwpt_alloc valid = {.size = sizeof(valid), .dev_id = device.idev, .pt_id = target};

    valid.data_uptr = (uintptr_t)&table;
    if (with_data) {
        valid.data_type = IOMMU_HWPT_DATA_SELFTEST;
        valid.data_len = sizeof(table);
    }
#define HWPT(member, value) WRONG(struct iommu_hwpt_alloc, member, value)
    PAIRS(what, &HWPT_ALLOC, &valid, &undo, HWPT(flags, NEST), HWPT(flags, TRACK),
          HWPT(flags, PASID), HWPT(flags, FAULTS), HWPT(flags, NEST | FAULTS),
          HWPT(flags, TRACK | FAULTS), HWPT(flags, 1 << 4), HWPT(dev_id, 99), HWPT(dev_id, ioas),
          HWPT(dev_id, clean.idev), HWPT(pt_id, 99), HWPT(pt_id, device.idev),
          HWPT(pt_id, plain), HWPT(pt_id, device.hwpt), HWPT(pt_id, nested), HWPT(pt_id, ioas),
          HWPT(pt_id, parent), HWPT(pt_id, viommu), HWPT(pt_id, fault), HWPT(__reserved, 1),
          HWPT(data_type, 0), HWPT(data_type, 1), HWPT(data_type, IOMMU_HWPT_DATA_SELFTEST),
          HWPT(data_len, 0), HWPT(data_len, 3), HWPT(data_len, 9), HWPT(data_uptr, 0),
          HWPT(fault_id, fault), HWPT(fault_id, 99), HWPT(fault_id, ioas));
}

static void test_virtual_units(void)
{
    static const struct undo undo = {offsetof(struct iommu_viommu_alloc, out_viommu_id), -1};

#define VIOMMU(member, value) WRONG(struct iommu_viommu_alloc, member, value)
    PAIRS("VIOMMU_ALLOC", &VIOMMU_ALLOC,
          SIZED(iommu_viommu_alloc, .type = IOMMU_VIOMMU_TYPE_SELFTEST, .dev_id = device.idev,
                .hwpt_id = parent, .data_uptr = (uintptr_t)&loop),
          &undo, VIOMMU(flags, 1), VIOMMU(type, 0), VIOMMU(type, 1), VIOMMU(dev_id, 99),
          VIOMMU(dev_id, ioas), VIOMMU(dev_id, clean.idev), VIOMMU(hwpt_id, 99),
          VIOMMU(hwpt_id, ioas), VIOMMU(hwpt_id, plain), VIOMMU(hwpt_id, nested),
          VIOMMU(hwpt_id, device.hwpt), VIOMMU(data_len, 7), VIOMMU(data_len, 25),
          VIOMMU(__reserved, 1), VIOMMU(data_uptr, 0));
}

static void test_virtual_devices(void)
{
    static const struct undo undo = {offsetof(struct iommu_vdevice_alloc, out_vdevice_id), -1};

#define VDEVICE(member, value) WRONG(struct iommu_vdevice_alloc, member, value)
    vdevice = vdevice_alloc(viommu, clean.idev, 5);
    PAIRS("VDEVICE_ALLOC", &VDEVICE_ALLOC,
          SIZED(iommu_vdevice_alloc, .viommu_id = viommu, .dev_id = device.idev, .virt_id = 7),
          &undo, VDEVICE(viommu_id, 99), VDEVICE(viommu_id, parent), VDEVICE(viommu_id, second),
          VDEVICE(dev_id, 99), VDEVICE(dev_id, ioas), VDEVICE(dev_id, clean.idev),
          VDEVICE(virt_id, 5), VDEVICE(virt_id, UINT64_MAX));
    destroy(vdevice);
}

static void test_queues(void)
{
    static const struct undo events = {offsetof(struct iommu_veventq_alloc, out_veventq_id),
                                       offsetof(struct iommu_veventq_alloc, out_veventq_fd)};
    static const struct undo queue = {offsetof(struct iommu_hw_queue_alloc, out_hw_queue_id), -1};
    int fd;
    uint32_t other;

#define EVENTS(member, value) WRONG(struct iommu_veventq_alloc, member, value)
    other = veventq_alloc("events", second, IOMMU_VEVENTQ_TYPE_SELFTEST, 4, &fd);
    PAIRS("VEVENTQ_ALLOC", &VEVENTQ_ALLOC,
          SIZED(iommu_veventq_alloc, .viommu_id = viommu, .type = IOMMU_VEVENTQ_TYPE_SELFTEST,
                .veventq_depth = 2),
          &events, EVENTS(flags, 1), EVENTS(viommu_id, 99), EVENTS(viommu_id, ioas),
          EVENTS(viommu_id, second), EVENTS(type, 0), EVENTS(type, 1), EVENTS(veventq_depth, 0),
          EVENTS(veventq_depth, (1 << 19) + 1), EVENTS(__reserved, 1));
    close(fd);
    destroy(other);
#define QUEUE(member, value) WRONG(struct iommu_hw_queue_alloc, member, value)
    other = hw_queue_alloc(second, IOMMU_HW_QUEUE_TYPE_SELFTEST, 0, MOCK_START, 0x800);
    PAIRS("HW_QUEUE_ALLOC", &HW_QUEUE_ALLOC,
          SIZED(iommu_hw_queue_alloc, .viommu_id = viommu, .type = IOMMU_HW_QUEUE_TYPE_SELFTEST,
                .nesting_parent_iova = MOCK_START, .length = 0x800),
          &queue, QUEUE(flags, 1), QUEUE(viommu_id, 99), QUEUE(viommu_id, parent),
          QUEUE(viommu_id, second), QUEUE(type, 0), QUEUE(type, 1), QUEUE(index, 1),
          QUEUE(index, 2), QUEUE(nesting_parent_iova, 0), QUEUE(nesting_parent_iova, UINT64_MAX),
          QUEUE(nesting_parent_iova, MOCK_START + 1), QUEUE(length, 0), QUEUE(length, 1),
          QUEUE(length, UINT64_MAX), QUEUE(length, 1UL << 40));
    destroy(other);
}

static void test_invalidation(const char *what, uint32_t target, uint32_t type, uint32_t length)
{
#define INVALIDATE(member, value) WRONG(struct iommu_hwpt_invalidate, member, value)
    PAIRS(what, &HWPT_INVALIDATE,
          SIZED(iommu_hwpt_invalidate, .hwpt_id = target, .data_uptr = (uintptr_t)&entry,
                .data_type = type, .entry_len = length, .entry_num = 1),
          NULL, INVALIDATE(hwpt_id, 99), INVALIDATE(hwpt_id, parent), INVALIDATE(hwpt_id, ioas),
          INVALIDATE(hwpt_id, nested), INVALIDATE(hwpt_id, viommu), INVALIDATE(data_uptr, 0),
          INVALIDATE(data_type, 0), INVALIDATE(data_type, 5), INVALIDATE(entry_len, 0),
          INVALIDATE(entry_len, 3), INVALIDATE(entry_len, PAGE + 1), INVALIDATE(entry_num, 0),
          INVALIDATE(entry_num, (1 << 19) + 1), INVALIDATE(__reserved, 1));
}

static void test_dirty_tracking(void)
{
#define TRACKING(member, value) WRONG(struct iommu_hwpt_set_dirty_tracking, member, value)
    PAIRS("HWPT_SET_DIRTY_TRACKING", &HWPT_SET_DIRTY_TRACKING,
          SIZED(iommu_hwpt_set_dirty_tracking, .hwpt_id = plain, .flags = 1), NULL,
          TRACKING(flags, 0), TRACKING(flags, 2), TRACKING(hwpt_id, 99), TRACKING(hwpt_id, ioas),
          TRACKING(hwpt_id, parent), TRACKING(hwpt_id, nested), TRACKING(__reserved, 1));
#define BITMAP(member, value) WRONG(struct iommu_hwpt_get_dirty_bitmap, member, value)
    PAIRS("HWPT_GET_DIRTY_BITMAP", &HWPT_GET_DIRTY_BITMAP,
          SIZED(iommu_hwpt_get_dirty_bitmap, .hwpt_id = plain, .iova = MOCK_START,
                .length = 16 * PAGE, .page_size = PAGE, .data = (uintptr_t)bitmap),
          NULL, BITMAP(flags, 1), BITMAP(flags, 2), BITMAP(hwpt_id, 99), BITMAP(hwpt_id, ioas),
          BITMAP(hwpt_id, parent), BITMAP(hwpt_id, nested), BITMAP(__reserved, 1),
          BITMAP(iova, MOCK_START + 1), BITMAP(iova, UINT64_MAX), BITMAP(iova, 0),
          BITMAP(length, 0), BITMAP(length, 1), BITMAP(length, UINT64_MAX), BITMAP(page_size, 0),
          BITMAP(page_size, 3), BITMAP(page_size, 1), BITMAP(page_size, 1UL << 40),
          BITMAP(data, 0), BITMAP(data, (uintptr_t)bitmap + 1));
}

static void test_information(void)
{
    static uint32_t words[4];

    name_region("words", words, sizeof(words));
#define INFO(member, value) WRONG(struct iommu_hw_info, member, value)
    PAIRS("GET_HW_INFO", &GET_HW_INFO,
          SIZED(iommu_hw_info, .dev_id = device.idev, .data_len = sizeof(words),
                .data_uptr = (uintptr_t)words),
          NULL, INFO(flags, 1), INFO(flags, 2), INFO(dev_id, 99), INFO(dev_id, ioas),
          INFO(dev_id, clean.idev), INFO(data_len, 0), INFO(data_len, 3), INFO(data_uptr, 0),
          INFO(in_data_type, 1), INFO(in_data_type, IOMMU_HW_INFO_TYPE_SELFTEST),
          INFO(__reserved, 1));
}

/** Each HWPT with each PASID, and as a replacement. */
static void test_attaches(void)
{
    const uint32_t tables[] = {99, ioas, parent, plain, nested, viommu, fault, device.idev};
    static const uint32_t pasids[] = {0, 1, IOMMU_TEST_PASID_RESERVED, 1 << 20, UINT32_MAX};
    const uint32_t devices[] = {device.stdev, clean.stdev, 99, ioas};

    section("PASID_ATTACH, PASID_REPLACE");
    for (size_t at = 0; at != COUNT(devices); at++) {
        for (size_t pasid = 0; pasid != COUNT(pasids); pasid++) {
            for (size_t pt = 0; pt != COUNT(tables); pt++) {
                pasid_replace(devices[at], pasids[pasid], tables[pt]);
                if (!pasid_attach(devices[at], pasids[pasid], tables[pt])) {
                    pasid_attach(devices[at], pasids[pasid], parent);
                    pasid_detach(devices[at], pasids[pasid]);
                }
            }
        }
    }
    section("MOCK_REPLACE");
    for (size_t at = 0; at != COUNT(devices); at++) {
        for (size_t pt = 0; pt != COUNT(tables); pt++)
            if (!mock_replace(devices[at], tables[pt]))
                mock_replace(devices[at], ioas);
    }
}

int main(void)
{
    part = "mock";
    make_buffer(16);
    begin("two wrong arguments at a time");
    make_objects();
    test_tables("HWPT_ALLOC on an IOAS", ioas, false);
    test_tables("HWPT_ALLOC on an IOAS, with data", ioas, true);
    test_tables("HWPT_ALLOC on a parent", parent, true);
    test_tables("HWPT_ALLOC on a vIOMMU", viommu, true);
    test_virtual_units();
    test_virtual_devices();
    test_queues();
    test_invalidation("HWPT_INVALIDATE of a nested HWPT", nested,
                      IOMMU_HWPT_INVALIDATE_DATA_SELFTEST, sizeof(entry));
    test_invalidation("HWPT_INVALIDATE of a vIOMMU", viommu,
                      IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST, 12);
    test_dirty_tracking();
    test_information();
    test_attaches();
    return 0;
}
