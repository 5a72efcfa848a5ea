/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vIOMMUs and the objects of a vIOMMU: nested HWPTs, vDEVICEs, vEVENTQs and hardware queues;
 * invalidation by a nested HWPT and by a vIOMMU; and the objects that can be destroyed.
 */
#include "mock/mock.h"

enum { VIOMMU = IOMMU_VIOMMU_TYPE_SELFTEST, EVENTS = IOMMU_VEVENTQ_TYPE_SELFTEST,
       QUEUE = IOMMU_HW_QUEUE_TYPE_SELFTEST, INVALIDATE = IOMMU_HWPT_INVALIDATE_DATA_SELFTEST };

static struct mock_device device;
static uint32_t ioas, parent;

static void reopen_with_device(const char *what)
{
    reopen(what);
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    parent = hwpt_alloc(device.idev, ioas, NEST);
}

static void test_nested_tables(void)
{
    static struct iommu_hwpt_selftest data = {.iotlb = 7, .pagetable_type = 2};
    uint32_t plain = hwpt_alloc(device.idev, ioas, 0), nested;

    name_region("data", &data, sizeof(data));
    section("what HWPT_ALLOC refuses first");
    hwpt_alloc(99, 99, 1 << 4);
    hwpt_alloc(device.idev, 99, 1 << 4);
    hwpt_alloc(device.idev, device.idev, 0);
    hwpt_alloc(device.idev, ioas, 1 << 4);
    hwpt_alloc_with(device.idev, ioas, 0, 0, &data, 8, 0);
    hwpt_alloc_with(device.idev, ioas, 0, 0xdead, &data, 0, 0);
    hwpt_alloc_with(device.idev, ioas, 0, 1, &data, 8, 0);
    hwpt_alloc_with(device.idev, ioas, 0, 0xdead, &data, 8, 0);
    data.pagetable_type = 0;
    hwpt_alloc_with(device.idev, ioas, 0, 0xdead, &data, 3, 0);
    hwpt_alloc_with(device.idev, ioas, 0, 0xdead, &data, 9, 0);
    hwpt_alloc_with(device.idev, ioas, 0, 0xdead, NULL, 8, 0);
    destroy(hwpt_alloc_with(device.idev, ioas, 0, 0xdead, &data, 4, 0));
    section("nested ones");
    hwpt_alloc(device.idev, parent, 0);
    nested_alloc(device.idev, parent, NEST, 0);
    nested_alloc(device.idev, parent, TRACK, 0);
    nested_alloc(device.idev, plain, 0, 0);
    nested_alloc(device.idev, device.hwpt, 0, 0);
    hwpt_alloc_with(device.idev, parent, 0, 1, &data, 8, 0);
    nested = nested_alloc(device.idev, parent, 0, 99);
    nested_alloc(device.idev, nested, 0, 0);
    destroy(parent);
    mock_replace(device.stdev, nested);
    destroy(nested);
    destroy(ioas);
    section("a huge one");
    data.pagetable_type = 1;
    plain = ioas_alloc();
    hwpt_alloc_with(device.idev, plain, 0, 0xdead, &data, 8, 0);
    print_iova_ranges(plain);
    map(plain, (uintptr_t)buffer, 0x800, FIXED | R, 0x10000);
}

static void test_iotlb(void)
{
    static struct iommu_hwpt_invalidate_selftest entries[4] = {{0, 1}, {0, 4}, {1, 0}, {2, 0}};
    uint32_t nested = nested_alloc(device.idev, parent, 0, 0);
    unsigned char *edge = buffer + 16 * PAGE - 8;

    name_region("entries", entries, sizeof(entries));
    for (uint32_t entry = 0; entry != 5; entry++)
        check_iotlb(nested, entry, 7);
    check_iotlb(parent, 0, 7);
    section("what INVALIDATE refuses first");
    invalidate(99, INVALIDATE, entries, 8, 1);
    invalidate(parent, INVALIDATE, entries, 8, 1);
    invalidate(nested, 5, entries, 8, 0);
    invalidate(nested, INVALIDATE, NULL, 0, 0);
    invalidate(nested, INVALIDATE, NULL, 8, 1);
    invalidate(nested, INVALIDATE, entries, 0, 1);
    invalidate(nested, INVALIDATE, entries, PAGE + 1, 1);
    invalidate(nested, INVALIDATE, entries, 8, (1 << 19) + 1);
    invalidate(nested, INVALIDATE, entries, 7, 1);
    invalidate(nested, INVALIDATE, entries, 9, 1);
    invalidate(nested, INVALIDATE, (void *)8, 8, 1);
    section("as far as it gets");
    invalidate(nested, INVALIDATE, entries, 8, 4);
    for (uint32_t entry = 0; entry != 4; entry++)
        check_iotlb(nested, entry, 0);
    memset(edge, 0, 8);
    invalidate(nested, INVALIDATE, edge, 8, 2);
    invalidate(nested, INVALIDATE, entries + 2, 8, 2);
    check_iotlb(nested, 3, 0);
}

static void test_viommus(void)
{
    static struct iommu_viommu_selftest data;
    uint32_t ids[5], *word;
    uint64_t offset;

    section("what VIOMMU_ALLOC refuses");
    viommu_alloc(device.idev, parent, 0, NULL, 0);
    viommu_alloc(device.idev, parent, 0xdead, NULL, 0);
    viommu_alloc(99, 99, 0xdead, NULL, 0);
    viommu_alloc(device.idev, 99, 0xdead, NULL, 0);
    viommu_alloc(device.idev, ioas, VIOMMU, NULL, 0);
    viommu_alloc(device.idev, device.hwpt, VIOMMU, NULL, 0);
    watch("data", &data, sizeof(data));
    viommu_alloc(device.idev, parent, VIOMMU, &data, 7);
    viommu_alloc(device.idev, parent, VIOMMU, &data, 25);
    viommu_alloc(device.idev, parent, VIOMMU, NULL, 24);
    section("data is looped back");
    ids[0] = viommu_alloc(device.idev, parent, VIOMMU, NULL, 0);
    for (unsigned i = 1; i != 5; i++) {
        data = (struct iommu_viommu_selftest){.in_data = 0x40 + i};
        ids[i] = viommu_alloc(device.idev, parent, VIOMMU, &data, i % 2 ? 24 : 8);
    }
    destroy(ids[2]);
    data = (struct iommu_viommu_selftest){.in_data = 0x50};
    ids[2] = viommu_alloc(device.idev, parent, VIOMMU, &data, 24);
    offset = data.out_mmap_offset;
    unwatch("data");
    section("mapping its pages");
    word = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, iommufd, (off_t)offset);
    if (word != MAP_FAILED)
        printf("word %#x\n", *word);
    else
        printf("mmap -> %s\n", errno_name(errno));
    destroy(ids[2]);
    if (word != MAP_FAILED)
        munmap(word, 2 * PAGE);
    destroy(ids[2]);
    destroy(parent);
}

static void test_vdevices_and_events(void)
{
    struct mock_device other;
    uint32_t viommu = viommu_alloc(device.idev, parent, VIOMMU, NULL, 0);
    uint32_t second = viommu_alloc(device.idev, parent, VIOMMU, NULL, 0);
    uint32_t nested = nested_alloc(device.idev, viommu, 0, 0);
    uint32_t same = nested_alloc(device.idev, viommu, PASID, 0);
    uint32_t virtual, events;
    unsigned char *memory = buffer;
    int queue = -1;

    mock_domain(ioas, &other);
    section("a nested table of a vIOMMU needs a virtual device");
    mock_replace(device.stdev, nested);
    vdevice_alloc(99, 99, 1);
    vdevice_alloc(viommu, 99, 1);
    virtual = vdevice_alloc(viommu, device.idev, 0x55);
    vdevice_alloc(second, device.idev, 0x66);
    vdevice_alloc(viommu, other.idev, 0x55);
    trigger_vevent(device.idev);
    mock_replace(device.stdev, nested);
    trigger_vevent(device.idev);
    section("queues");
    veventq_alloc("events", viommu, 0, 1, &queue);
    veventq_alloc("events", viommu, EVENTS, 0, &queue);
    veventq_alloc("events", viommu, EVENTS, (1 << 19) + 1, &queue);
    veventq_alloc("events", 99, EVENTS, 1, &queue);
    events = veventq_alloc("events", viommu, EVENTS, 2, &queue);
    veventq_alloc("events", viommu, EVENTS, 2, &queue);
    poll_queue(queue);
    read_words(queue, memory, 0);
    read_words(queue, memory, 7);
    read_words(queue, memory, 8);
    write_words(queue, memory, 8);
    section("events and lost ones");
    for (unsigned i = 0; i != 4; i++)
        trigger_vevent(device.idev);
    poll_queue(queue);
    read_words(queue, memory, 8);
    read_words(queue, memory, 20);
    trigger_vevent(device.idev);
    read_words(queue, memory, 100);
    for (unsigned i = 0; i != 4; i++)
        trigger_vevent(device.idev);
    read_words(queue, (void *)8, 100);
    read_words(queue, memory, 24);
    read_words(queue, memory, 8);
    poll_queue(queue);
    section("the id is the one at the time of the attach");
    destroy(virtual);
    trigger_vevent(device.idev);
    virtual = vdevice_alloc(viommu, device.idev, 0x77);
    mock_replace(device.stdev, same);
    trigger_vevent(device.idev);
    read_words(queue, memory, 100);
    mock_replace(device.stdev, ioas);
    trigger_vevent(device.idev);
    mock_replace(device.stdev, nested);
    trigger_vevent(device.idev);
    read_words(queue, memory, 100);
    section("who holds whom");
    destroy(viommu);
    destroy(events);
    close(queue);
    destroy(events);
    section("a device that goes takes its virtual device along");
    destroy(device.stdev);
    destroy(virtual);
    for (unsigned i = 0; i != 6; i++)
        ioas_alloc();
}

static void test_device_caches(void)
{
    static struct iommu_viommu_invalidate_selftest entries[4] = {
        {0, 0x55, 1}, {1, 0x55, 0}, {0, 0x56, 0}, {2, 0x55, 0}};
    static unsigned char longer[26];
    uint32_t viommu = viommu_alloc(device.idev, parent, VIOMMU, NULL, 0);

    name_region("entries", entries, sizeof(entries));
    name_region("longer", longer, sizeof(longer));
    vdevice_alloc(viommu, device.idev, 0x55);
    check_cache(device.idev, 3, IOMMU_TEST_DEV_CACHE_DEFAULT);
    check_cache(device.idev, 4, IOMMU_TEST_DEV_CACHE_DEFAULT);
    check_cache(device.stdev, 3, IOMMU_TEST_DEV_CACHE_DEFAULT);
    invalidate(viommu, 5, entries, 12, 0);
    invalidate(viommu, INVALIDATE, entries, 12, 0);
    invalidate(viommu, 5, entries, 12, 1);
    invalidate(viommu, INVALIDATE, buffer + 16 * PAGE - 12, 12, 2);
    section("entries of another length");
    invalidate(viommu, INVALIDATE, entries, 8, 1);
    check_cache(device.idev, 0, 0);
    memcpy(longer, entries, 12);
    invalidate(viommu, INVALIDATE, longer, 13, 2);
    check_cache(device.idev, 1, 0);
    longer[12] = 1;
    invalidate(viommu, INVALIDATE, longer, 13, 1);
    section("as far as it gets");
    invalidate(viommu, INVALIDATE, entries, 12, 4);
    check_cache(device.idev, 3, 0);
    invalidate(viommu, INVALIDATE, entries + 3, 12, 1);
}

static void test_hardware_queues(void)
{
    uint32_t viommu = viommu_alloc(device.idev, parent, VIOMMU, NULL, 0), first, second;

    section("what HW_QUEUE_ALLOC refuses");
    hw_queue_alloc(viommu, 0, 0, 0, 0);
    hw_queue_alloc(viommu, 1, 0, MOCK_START, 0);
    hw_queue_alloc(viommu, 1, 0, UINT64_MAX, 2);
    hw_queue_alloc(99, 1, 0, MOCK_START, PAGE);
    hw_queue_alloc(viommu, 1, 0, MOCK_START, PAGE);
    hw_queue_alloc(viommu, QUEUE, 0, MOCK_START, PAGE);
    hw_queue_alloc(viommu, QUEUE, 0, MOCK_START, 1ull << 44);
    map(ioas, (uintptr_t)buffer + 0x800, 0x800, FIXED | R | W, MOCK_START + 0x800);
    hw_queue_alloc(viommu, QUEUE, 0, MOCK_START, PAGE);
    unmap(ioas, MOCK_START, PAGE);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | W, MOCK_START);
    hw_queue_alloc(viommu, QUEUE, 0, MOCK_START, PAGE);
    unmap(ioas, MOCK_START, PAGE);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START + 4 * PAGE);
    hw_queue_alloc(viommu, QUEUE, 0, MOCK_START, PAGE + 1);
    hw_queue_alloc(viommu, QUEUE, 2, MOCK_START, PAGE);
    hw_queue_alloc(viommu, QUEUE, 1, MOCK_START, PAGE);
    section("two of them");
    first = hw_queue_alloc(viommu, QUEUE, 0, MOCK_START, PAGE);
    hw_queue_alloc(viommu, QUEUE, 0, MOCK_START, PAGE);
    second = hw_queue_alloc(viommu, QUEUE, 1, MOCK_START + 0x800, 0x800);
    print_iova_ranges(ioas);
    destroy(first + 1);
    destroy(first);
    destroy(viommu);
    unmap(ioas, MOCK_START, 8 * PAGE);
    unmap(ioas, MOCK_START + 4 * PAGE, PAGE);
    destroy(second);
    destroy(first);
    unmap(ioas, MOCK_START, PAGE);
    print_iova_ranges(ioas);
}

int main(void)
{
    part = "mock";
    begin("a virtual IOMMU");
    make_buffer(17);
    munmap(buffer + 16 * PAGE, PAGE);
    memset(buffer, 0, 16 * PAGE);
    reopen_with_device("page tables");
    test_nested_tables();
    reopen_with_device("the mock TLB");
    test_iotlb();
    reopen_with_device("vIOMMUs");
    test_viommus();
    reopen_with_device("virtual devices and events");
    test_vdevices_and_events();
    reopen_with_device("device caches");
    test_device_caches();
    reopen_with_device("hardware queues");
    test_hardware_queues();
    return 0;
}
