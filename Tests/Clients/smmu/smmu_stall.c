/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions that stall at an SMMUv3 until a page response comes: with the kernel's page tables
 * and with a guest's, for a device that can stall according to firmware. The first requirement that
 * is not met ends the client with status 1.
 */
#include "smmu/smmu_driver.h"

static int queue = -1;

static void require_waiting(const char *what)
{
    require(bar0_read(TEST_DEVICE_COMMAND) & RUN && bar0_read(TEST_DEVICE_STATUS) == RUNNING,
            "waits: %s", what);
}

static struct iommu_hwpt_pgfault require_fault(uint64_t address, uint32_t permissions,
                                               const char *what)
{
    struct iommu_hwpt_pgfault fault = {0};

    require(read(queue, &fault, sizeof(fault)) == sizeof(fault), "told: %s", what);
    require(fault.flags == IOMMU_PGFAULT_FLAGS_LAST_PAGE && fault.dev_id == device_id &&
                !fault.pasid && fault.perm == permissions && fault.addr == address,
            "which device, where and for what");
    return fault;
}

static void answer_fault(uint32_t cookie, uint32_t code)
{
    struct iommu_hwpt_page_response response = {.cookie = cookie, .code = code};

    require(write(queue, &response, sizeof(response)) == sizeof(response), "answered %u", code);
}

static void test_kernel_tables(uint32_t faults)
{
    static const uint64_t HERE = 0x10000000;
    struct iommu_hwpt_pgfault fault, second;
    uint32_t table;

    section("the kernel's tables");
    table = hwpt_alloc_with(device_id, ioas, FAULTS, 0, NULL, 0, faults);
    require(table && !attach_table(table), "attached with a fault queue");
    run_dma(DMA_WRITE, NO_SUBSTREAM, HERE + 0x10, 64);
    require_waiting("a write");
    fault = require_fault(HERE + 0x10, IOMMU_PGFAULT_PERM_WRITE, "a write to nowhere");
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, HERE);
    buffer[0x10] = 0x55;
    answer_fault(fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    require(bar0_read(TEST_DEVICE_STATUS) == COMPLETED && !buffer[0x10], "done, after all");
    run_dma(DMA_READ, NO_SUBSTREAM, HERE + PAGE, 64);
    fault = require_fault(HERE + PAGE, IOMMU_PGFAULT_PERM_READ, "a read from nowhere");
    answer_fault(fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    require_waiting("again, as nothing has changed");
    second = require_fault(HERE + PAGE, IOMMU_PGFAULT_PERM_READ, "the same once more");
    require(second.grpid != fault.grpid, "under another tag");
    answer_fault(second.cookie, IOMMUFD_PAGE_RESP_INVALID);
    require(bar0_read(TEST_DEVICE_STATUS) == DENIED, "the device gives up");
    run_dma(DMA_READ, NO_SUBSTREAM, HERE + PAGE, 64);
    require_waiting("a last one");
    table = hwpt_alloc(device_id, ioas, NEST);
    require(!attach_table(table), "another table is attached");
    require(bar0_read(TEST_DEVICE_STATUS) == DENIED, "what waited is told no");
    require(read(queue, &fault, sizeof(fault)) == 0, "and nobody else is");
}

/** Allocates a nested HWPT with a fault queue. */
static uint32_t allocate_stalling(struct iommu_hwpt_arm_smmuv3 entry, uint32_t faults)
{
    static struct iommu_hwpt_arm_smmuv3 data;

    data = entry;
    name_region("entry", &data, sizeof(data));
    return hwpt_alloc_with(device_id, viommu, FAULTS, STREAM_ENTRY, &data, sizeof(data), faults);
}

static void test_guest_tables(uint32_t faults)
{
    static const uint64_t HERE = 0x12345000;
    struct iommu_hwpt_arm_smmuv3 entry;
    struct context_descriptor stalling;
    struct iommu_hwpt_pgfault fault;
    uint64_t root, page;
    uint32_t guest = ioas_alloc();
    char event[64];

    section("a guest's tables");
    make_smmu_guest_memory(guest, false);
    parent = hwpt_alloc(device_id, guest, NEST);
    viommu = viommu_alloc(device_id, parent, SMMUV3, NULL, 0);
    vdevice_alloc(viommu, device_id, VIRTUAL_STREAM);
    veventq_alloc("events", viommu, EVENTS, 4, &event_queue);
    root = allocate_pages(1);
    page = allocate_pages(1);
    cd_table = allocate_pages(1);
    stalling = context_descriptor(root, 1);
    stalling.words[0] |= 1ULL << 44; /* S */
    memcpy(guest_at(cd_table), &stalling, sizeof(stalling));
    entry = stream_entry(STE_STAGE1, cd_table, 0, 0, 0);
    require(!attach_table(allocate_stalling(entry, faults)),
            "a guest whose descriptor may not stall");
    require(run_dma(DMA_READ, NO_SUBSTREAM, HERE, 64) == FAULTED, "is illegal");
    require(read(event_queue, event, sizeof(event)) == 40 && event[8] == C_BAD_CD, "C_BAD_CD");
    entry.ste[1] &= ~(1ULL << 27); /* S1STALLD */
    require(!attach_table(allocate_stalling(entry, faults)), "now it may");
    run_dma(DMA_READ, NO_SUBSTREAM, HERE, 64);
    require_waiting("for the guest");
    fault = require_fault(HERE, IOMMU_PGFAULT_PERM_READ, "an address of the guest's");
    require(read(event_queue, event, sizeof(event)) == 0, "which is no event");
    map_4k(root, HERE, page, LEAF);
    answer_fault(fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    require(bar0_read(TEST_DEVICE_STATUS) == COMPLETED, "done");
    run_dma(DMA_READ, NO_SUBSTREAM, HERE + PAGE, 64);
    require_waiting("a fault of the guest's");
    close(queue);
    require(bar0_read(TEST_DEVICE_STATUS) == RUNNING, "closing the descriptor answers nothing");
}

int main(void)
{
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;
    uint32_t faults;

    begin("transactions that stall");
    make_buffer(2);
    device_id = bind_smmu_device(1, &info, &unit);
    require((unit.idr[0] >> 24 & 3) == 0 && unit.idr[5] >> 16,
            "faults can stall, and can terminate");
    ioas = ioas_alloc();
    faults = fault_queue_alloc("faults", &queue);
    test_kernel_tables(faults);
    test_guest_tables(faults);
    return 0;
}
