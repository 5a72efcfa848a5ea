/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page with the registers of the virtual interface, accessed through a mapping or by system
 * calls; and a queue's registers while the queue is enabled, disabled and destroyed.
 */
#include "parts.h"

#include "iommufd_sim.h"

struct vcmdq first, second;
const char *section_prefix = "part vintf";

static void *registers_page; /* NULL when the registers are accessed by system calls */

static void *map_page_of(size_t length, int protection, int flags, uint64_t offset)
{
    return mmap(NULL, length, protection, flags, iommufd, (off_t)offset);
}

/** Tests that a mapped page keeps its vIOMMU from being destroyed. */
static void test_mapped_viommu(void)
{
    struct iommu_viommu_tegra241_cmdqv place;
    long other = try_viommu_alloc(device_id, parent, CMDQV, &place, sizeof(place));
    void *mapping = map_page_of(VINTF_LENGTH, PROT_READ, MAP_SHARED, place.out_vintf_mmap_offset);

    require(other > 0 && mapping != MAP_FAILED, "another interface's page");
    require_errno(-try_destroy((uint32_t)other), EBUSY, "which keeps its vIOMMU");
    munmap(mapping, PAGE);
    require_errno(-try_destroy((uint32_t)other), EBUSY, "what is left of it, too");
    munmap((char *)mapping + PAGE, VINTF_LENGTH - PAGE);
    require(!try_destroy((uint32_t)other), "nothing is left");
}

static void find_queues(void)
{
    const uint64_t offset = interface.out_vintf_mmap_offset;

    first = vcmdq_at(registers_page, offset, 0, rings[0], ENTRIES);
    second = vcmdq_at(registers_page, offset, 1, rings[1], ENTRIES);
    for (int index = CONS_INDX; index <= GERRORN; index++)
        if (vcmdq_get(&first, index) || vcmdq_get(&second, index))
            exit(1);
    require(true, "all registers are 0");
}

bool map_interface(void)
{
    enum { BOTH = PROT_READ | PROT_WRITE };
    const uint64_t there = interface.out_vintf_mmap_offset;

    registers_page = map_page_of(VINTF_LENGTH, BOTH, MAP_SHARED, there);
    if (registers_page == MAP_FAILED && errno == ENODEV)
        return false;
    section("part vintf: the page");
    require(registers_page != MAP_FAILED, "mapped");
    require(pread(iommufd, &(uint32_t){0}, 4, IOMMUFD_SIM_REGISTERS + (off_t)there) == -1 &&
                errno == EINVAL,
            "pread is no call of an iommufd: EINVAL");
    require(map_page_of(VINTF_LENGTH, PROT_EXEC, MAP_SHARED, there) == MAP_FAILED && errno == EPERM,
            "to execute: EPERM");
    require(map_page_of(VINTF_LENGTH, BOTH, MAP_PRIVATE, there) == MAP_FAILED && errno == EINVAL,
            "privately: EINVAL");
    require(map_page_of(PAGE, BOTH, MAP_SHARED, there) == MAP_FAILED && errno == ENXIO,
            "the first bytes of it: ENXIO");
    require(map_page_of(VINTF_LENGTH, BOTH, MAP_SHARED, there + VINTF_LENGTH) == MAP_FAILED &&
                errno == ENXIO,
            "another interface's, which has gone: ENXIO");
    find_queues();
    test_mapped_viommu();
    return true;
}

bool access_interface_by_calls(void)
{
    const off_t there = IOMMUFD_SIM_REGISTERS + (off_t)interface.out_vintf_mmap_offset;
    uint32_t values[2] = {7, 7};

    section_prefix = "by calls";
    section("by calls: the page");
    require(pread(iommufd, values, 4, there) == 4 && values[0] == 0, "a register by pread");
    require(pread(iommufd, values, 8, there) == -1 && errno == EINVAL, "8 bytes: EINVAL");
    require(pwrite(iommufd, values, 4, there + 2) == -1 && errno == EINVAL,
            "not at a multiple of 4: EINVAL");
    require(pwrite(iommufd, values, 4, there + VINTF_LENGTH) == -1 && errno == EINVAL,
            "beyond the page: EINVAL");
    require(pread(iommufd, values, 4, there - 4) == -1 && errno == EINVAL,
            "below all pages: EINVAL");
    find_queues();
    return true;
}

void sync_registers(void)
{
    if (!vcmdq_execute(&second, cmd_sync(0)) || !vcmdq_execute(&second, cmd_sync(0)))
        exit(1);
}

void test_registers(void)
{
    section("%s: enabling", section_prefix);
    vcmdq_push(&first, cmd_sync(0));
    vcmdq_ring(&first);
    require(vcmdq_enable(&second, 1), "the second queue");
    sync_registers();
    require(vcmdq_get(&first, CONS_INDX) == 0 && !vcmdq_get(&first, STATUS_EN_OK),
            "the first stands still");
    require(vcmdq_enable(&first, 1) && vcmdq_is_done(&first), "until it is enabled");
    vcmdq_set(&first, STATUS_EN_OK, 0xff);
    vcmdq_set(&first, CONS_INDX, 0x1234);
    vcmdq_set(&first, GERROR, 7);
    sync_registers();
    require(vcmdq_get(&first, STATUS_EN_OK) == 1 && vcmdq_get(&first, CONS_INDX) == 1 &&
                !vcmdq_get(&first, GERROR),
            "what only hardware changes");
    require(vcmdq_enable(&first, 0) && vcmdq_get(&first, CONS_INDX) == 1,
            "disabled: it stays where it is");
    vcmdq_push(&first, (struct smmu_command){{0}}); /* no operation: it would stop the queue */
    vcmdq_ring(&first);
    sync_registers();
    require(vcmdq_get(&first, CONS_INDX) == 1 && !vcmdq_get(&first, GERROR), "and does nothing");
    vcmdq_set(&first, PROD_INDX, ENTRIES - 2);
    vcmdq_set(&first, CONS_INDX, ENTRIES - 2);
    first.producer = ENTRIES - 2;
    require(vcmdq_enable(&first, 1), "enabled, from another place");
    for (int i = 0; i != 4; i++)
        vcmdq_push(&first, cmd_sync(0));
    vcmdq_ring(&first);
    require(vcmdq_is_done(&first) && vcmdq_get(&first, CONS_INDX) == ENTRIES + 2,
            "round the end of the ring");
    for (int i = 0; i != 3; i++) {
        for (int j = 0; j != ENTRIES; j++)
            vcmdq_push(&first, cmd_sync(0));
        vcmdq_ring(&first);
        if (!vcmdq_is_done(&first))
            exit(1);
    }
    require(true, "a full ring, three times");
}

void test_destruction(void)
{
    const int times = registers_page ? 200 : 20;
    uint32_t place;

    section("%s: queues that go while they work", section_prefix);
    for (int i = 0; i != times; i++) {
        for (int j = 0; j != ENTRIES; j++)
            vcmdq_push(&second, tlbi(NH_ASID, 12, 0));
        vcmdq_ring(&second);
        if (try_destroy(queue_ids[1]))
            exit(1);
        memset(guest_at(rings[1]), 0, PAGE);
        queue_ids[1] = (uint32_t)try_hw_queue_alloc(viommu, QUEUE, 1, rings[1], PAGE);
        second.producer = 0;
        if (vcmdq_get(&second, CONS_INDX) || vcmdq_get(&second, GERROR) ||
            !vcmdq_enable(&second, 1))
            exit(1);
    }
    require(vcmdq_execute(&second, cmd_sync(0)), "and come again, %d times", times);
    require(try_destroy(queue_ids[1]) == 0 && !vcmdq_get(&second, STATUS_EN_OK), "one is gone");
    place = vcmdq_get(&second, CONS_INDX);
    vcmdq_push(&second, cmd_sync(0));
    vcmdq_ring(&second);
    require(vcmdq_execute(&first, cmd_sync(0)) && vcmdq_execute(&first, cmd_sync(0)) &&
                vcmdq_get(&second, CONS_INDX) == place,
            "only the other works");
    require(try_destroy(queue_ids[0]) == 0, "both are gone");
}
