/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tegra241's CMDQ-Virtualization: a vIOMMU with a virtual interface, hardware queues in the guest's
 * memory, the page with their registers, and a guest's commands in these queues. The first
 * requirement that is not met ends the client with status 1. The sections of part "vintf" are left
 * out where the page cannot be mapped.
 *
 *   smmu_cmdqv [--memfd | --registers]
 *
 *   --memfd      the guest's memory is a memfd
 *   --registers  the page is not mapped: pread() and pwrite() access the registers
 */
#include "parts.h"

int main(int argc, char **argv)
{
    bool by_calls = argc > 1 && !strcmp(argv[1], "--registers");
    uint32_t others_parent;

    begin("virtual command queues of an SMMUv3");
    ioas = ioas_alloc();
    make_smmu_guest_memory(ioas, argc > 1 && !strcmp(argv[1], "--memfd"));
    others_parent = test_unit_without_cmdqv();
    find_cmdqv_unit();
    parent = hwpt_alloc(device_id, ioas, NEST);
    test_viommu_alloc(others_parent);
    test_vdevice_alloc();
    readback_page = allocate_pages(1);
    cd_table = allocate_pages(1);
    rings[0] = allocate_pages(1);
    rings[1] = allocate_pages(1);
    test_hw_queue_alloc();
    if (!(by_calls ? access_interface_by_calls() : map_interface()))
        return 0;
    test_registers();
    test_invalidation();
    test_device_tlb();
    test_errors();
    test_lost_events();
    test_destruction();
    return 0;
}
