/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tegra241's CMDQ-Virtualization: a vIOMMU with a virtual interface, hardware queues in the guest's
 * memory, the page of their registers, and the guest's commands through them. Every expectation is
 * checked here; the first that fails ends the client with status 1. Where the page cannot be mapped,
 * the sections of part "vintf" are left out.
 *
 *   smmu_cmdqv [--memfd | --registers]
 *
 * --memfd: the guest's memory is a file. --registers: the page is not mapped but read and written.
 */
#include "commands.h"
#include "errors.h"
#include "objects.h"
#include "registers.h"

int main(int argc, char **argv)
{
    bool by_calls = argc > 1 && !strcmp(argv[1], "--registers");
    uint32_t others_parent;

    begin("virtual command queues of an SMMUv3");
    ioas = ioas_alloc();
    make_guest_memory(ioas, argc > 1 && !strcmp(argv[1], "--memfd"));
    others_parent = without();
    find_unit();
    parent = hwpt_alloc(device_id, ioas, NEST);
    interfaces(others_parent);
    streams();
    mirror = take_pages(1);
    descriptors = take_pages(1);
    rings[0] = take_pages(1);
    rings[1] = take_pages(1);
    queues();
    if (!(by_calls ? call_interface() : map_interface()))
        return 0;
    registers();
    invalidation();
    device_translations();
    errors();
    losses();
    ending();
    return 0;
}
