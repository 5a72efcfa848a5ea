/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions that stall at an SMMUv3 until somebody answers: on the kernel's tables and on a guest's,
 * for a device that firmware says can stall. Every expectation is checked here; the first that fails
 * ends the client with status 1.
 */
#include "smmu/smmu_driver.h"

static int queue = -1;

static void check_waits(const char *what)
{
    check(read_register(TEST_DEVICE_COMMAND) & RUN &&
              read_register(TEST_DEVICE_STATUS) == RUNNING, "waits: %s", what);
}

static struct iommu_hwpt_pgfault check_fault(uint64_t address, uint32_t permissions, const char *what)
{
    struct iommu_hwpt_pgfault fault = {0};

    check(read(queue, &fault, sizeof(fault)) == sizeof(fault), "told: %s", what);
    check(fault.flags == IOMMU_PGFAULT_FLAGS_LAST_PAGE && fault.dev_id == device_id &&
              !fault.pasid && fault.perm == permissions && fault.addr == address,
          "which device, where and for what");
    return fault;
}

static void answer(uint32_t cookie, uint32_t code)
{
    struct iommu_hwpt_page_response response = {.cookie = cookie, .code = code};

    check(write(queue, &response, sizeof(response)) == sizeof(response), "answered %u", code);
}

static void kernel_tables(uint32_t faults)
{
    static const uint64_t HERE = 0x10000000;
    struct iommu_hwpt_pgfault fault, second;
    uint32_t table;

    section("the kernel's tables");
    table = hwpt_alloc_with(device_id, ioas, FAULTS, 0, NULL, 0, faults);
    check(table && !attach_to(table), "attached with a fault queue");
    copy_by(COPY_OUT, PLAIN, HERE + 0x10, 64);
    check_waits("a write");
    fault = check_fault(HERE + 0x10, IOMMU_PGFAULT_PERM_WRITE, "a write to nowhere");
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, HERE);
    buffer[0x10] = 0x55;
    answer(fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    check(read_register(TEST_DEVICE_STATUS) == COMPLETED && !buffer[0x10], "done, after all");
    copy_by(COPY_IN, PLAIN, HERE + PAGE, 64);
    fault = check_fault(HERE + PAGE, IOMMU_PGFAULT_PERM_READ, "a read from nowhere");
    answer(fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    check_waits("again, as nothing has changed");
    second = check_fault(HERE + PAGE, IOMMU_PGFAULT_PERM_READ, "the same once more");
    check(second.grpid != fault.grpid, "under another tag");
    answer(second.cookie, IOMMUFD_PAGE_RESP_INVALID);
    check(read_register(TEST_DEVICE_STATUS) == DENIED, "the device gives up");
    copy_by(COPY_IN, PLAIN, HERE + PAGE, 64);
    check_waits("a last one");
    table = hwpt_alloc(device_id, ioas, NEST);
    check(!attach_to(table), "another table is attached");
    check(read_register(TEST_DEVICE_STATUS) == DENIED, "what waited is told no");
    check(read(queue, &fault, sizeof(fault)) == 0, "and nobody else is");
}

/** A guest's table, whose faults are told. */
static uint32_t stalling_table(struct iommu_hwpt_arm_smmuv3 entry, uint32_t faults)
{
    static struct iommu_hwpt_arm_smmuv3 data;

    data = entry;
    name_region("entry", &data, sizeof(data));
    return hwpt_alloc_with(device_id, viommu, FAULTS, STREAM_ENTRY, &data, sizeof(data), faults);
}

static void guest_tables(uint32_t faults)
{
    static const uint64_t HERE = 0x12345000;
    struct iommu_hwpt_arm_smmuv3 entry;
    struct descriptor stalling;
    struct iommu_hwpt_pgfault fault;
    uint64_t root, page;
    uint32_t guest = ioas_alloc();
    char event[64];

    section("a guest's tables");
    make_guest_memory(guest, false);
    parent = hwpt_alloc(device_id, guest, NEST);
    viommu = viommu_alloc(device_id, parent, SMMUV3, NULL, 0);
    vdevice_alloc(viommu, device_id, VIRTUAL_STREAM);
    veventq_alloc("events", viommu, EVENTS, 4, &event_queue);
    root = take_pages(1);
    page = take_pages(1);
    descriptors = take_pages(1);
    stalling = context(root, 1);
    stalling.words[0] |= 1ULL << 44; /* S */
    memcpy(at(descriptors), &stalling, sizeof(stalling));
    entry = stream_entry(STE_STAGE1, descriptors, 0, 0, 0);
    check(!attach_to(stalling_table(entry, faults)), "a guest whose descriptor may not stall");
    check(copy_by(COPY_IN, PLAIN, HERE, 64) == FAULTED, "is illegal");
    check(read(event_queue, event, sizeof(event)) == 40 && event[8] == C_BAD_CD, "C_BAD_CD");
    entry.ste[1] &= ~(1ULL << 27); /* S1STALLD */
    check(!attach_to(stalling_table(entry, faults)), "now it may");
    copy_by(COPY_IN, PLAIN, HERE, 64);
    check_waits("for the guest");
    fault = check_fault(HERE, IOMMU_PGFAULT_PERM_READ, "an address of the guest's");
    check(read(event_queue, event, sizeof(event)) == 0, "which is no event");
    map_page(root, HERE, page, LEAF);
    answer(fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    check(read_register(TEST_DEVICE_STATUS) == COMPLETED, "done");
    copy_by(COPY_IN, PLAIN, HERE + PAGE, 64);
    check_waits("a fault of the guest's");
    close(queue);
    check(read_register(TEST_DEVICE_STATUS) == RUNNING, "closing the descriptor answers nothing");
}

int main(void)
{
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;
    uint32_t faults;

    begin("transactions that stall");
    make_buffer(2);
    device_id = bind_device(1, &info, &unit);
    check((unit.idr[0] >> 24 & 3) == 0 && unit.idr[5] >> 16, "faults can stall, and can terminate");
    ioas = ioas_alloc();
    faults = fault_queue_alloc("faults", &queue);
    kernel_tables(faults);
    guest_tables(faults);
    return 0;
}
