/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions that a guest's page tables and context descriptors do not allow, and the events that
 * report them.
 */
#include "parts.h"

static const uint64_t THERE = 0x76543000;

void test_faults(void)
{
    uint64_t root = allocate_address_space(), page = allocate_filled_page(0x31), tables[2];

    section("faults");
    write_context_descriptor(0, context_descriptor(root, 1));
    send_command(cfgi(CFGI_CD, VIRTUAL_STREAM, 0));
    map_4k(root, HERE, page, LEAF);
    require_byte(NO_SUBSTREAM, HERE, 0x31, "the device reads through both stages");
    memset(guest_at(readback_page), 0x32, 64);
    require(run_dma(DMA_WRITE, NO_SUBSTREAM, HERE, 64) == COMPLETED &&
                *(char *)guest_at(page) == 0x31,
            "and writes");
    require_no_event("so far");
    require_byte(NO_SUBSTREAM, THERE, -FAULTED, "no entry");
    require_event(fault_event(F_TRANSLATION, NO_SUBSTREAM, THERE, true), "F_TRANSLATION, read");
    require(run_dma(DMA_WRITE, NO_SUBSTREAM, THERE + 0x123, 64) == FAULTED, "nor for a write");
    require_event(fault_event(F_TRANSLATION, NO_SUBSTREAM, THERE + 0x123, false),
                  "F_TRANSLATION, write");
    map_4k(root, THERE, page, LEAF | PTE_READ_ONLY);
    require_byte(NO_SUBSTREAM, THERE, 0x31, "absent entries are not cached; read-only");
    require(run_dma(DMA_WRITE, NO_SUBSTREAM, THERE, 64) == FAULTED, "so not written");
    require_event(fault_event(F_PERMISSION, NO_SUBSTREAM, THERE, false), "F_PERMISSION, write");
    map_4k(root, THERE + PAGE, page, LEAF & ~PTE_USER);
    require_byte(NO_SUBSTREAM, THERE + PAGE, -FAULTED, "for privileged accesses only");
    require_event(fault_event(F_PERMISSION, NO_SUBSTREAM, THERE + PAGE, true),
                  "F_PERMISSION, read");
    map_4k(root, THERE + 2 * PAGE, page, LEAF & ~PTE_AF);
    require_byte(NO_SUBSTREAM, THERE + 2 * PAGE, -FAULTED, "without access flag");
    require_event(fault_event(F_ACCESS, NO_SUBSTREAM, THERE + 2 * PAGE, true), "F_ACCESS");
    map_4k(root, THERE + 3 * PAGE, 1ULL << 41, LEAF);
    require_byte(NO_SUBSTREAM, THERE + 3 * PAGE, -FAULTED, "an output beyond IPS");
    require_event(fault_event(F_ADDR_SIZE, NO_SUBSTREAM, THERE + 3 * PAGE, true), "F_ADDR_SIZE");
    require_byte(NO_SUBSTREAM, 1ULL << 48, -FAULTED, "an input beyond T0SZ");
    require_event(fault_event(F_TRANSLATION, NO_SUBSTREAM, 1ULL << 48, true), "F_TRANSLATION");
    require_byte(NO_SUBSTREAM, ~0xfffULL, -FAULTED, "the upper half, which is disabled");
    require_event(fault_event(F_TRANSLATION, NO_SUBSTREAM, ~0xfffULL, true), "F_TRANSLATION");
    map_4k(root, THERE + 4 * PAGE, GUEST_BASE + GUEST_PAGES * PAGE, LEAF);
    require_byte(NO_SUBSTREAM, THERE + 4 * PAGE, -FAULTED, "where the guest has no memory");
    *stage1_entry(root, 0x8000000000, 0) = 0x1000 | PTE_VALID | PTE_TABLE;
    require_byte(NO_SUBSTREAM, 0x8000000000, -FAULTED, "a table where it has none");
    require_no_event("of stage 2, which is not the guest's");
    section("over two pages");
    map_4k(root, THERE + 8 * PAGE, page, LEAF);
    tables[0] = *(uint64_t *)guest_at(page);
    require(run_dma(DMA_WRITE, NO_SUBSTREAM, THERE + 9 * PAGE - 32, 64) == FAULTED,
            "the second is absent");
    require_event(fault_event(F_TRANSLATION, NO_SUBSTREAM, THERE + 9 * PAGE, false),
                  "for the second");
    tables[1] = *(uint64_t *)guest_at(page);
    require(tables[0] == tables[1], "the first is as it was");
}

void test_substreams(void)
{
    struct context_descriptor descriptor = context_descriptor(spaces[0], 11);
    uint64_t upper = allocate_pages(1), lower = allocate_pages(16);

    section("substreams");
    require_byte(64, HERE, -FAULTED, "beyond S1CDMax");
    require_event(structure_event(C_BAD_SUBSTREAMID, 64), "C_BAD_SUBSTREAMID");
    require_byte(0, HERE, -FAULTED, "0 is for accesses without");
    require_event(structure_event(F_STREAM_DISABLED, 0), "F_STREAM_DISABLED");
    require_byte(5, HERE, -FAULTED, "a descriptor that is not valid");
    require_event(structure_event(C_BAD_CD, 5), "C_BAD_CD");
    descriptor.words[0] &= ~0x3fULL;
    write_context_descriptor(5, descriptor);
    require_byte(5, HERE, -FAULTED, "T0SZ 0");
    require_event(structure_event(C_BAD_CD, 5), "C_BAD_CD");
    descriptor = context_descriptor(1ULL << 40, 11);
    write_context_descriptor(5, descriptor);
    require_byte(5, HERE, -FAULTED, "TTB0 beyond IPS");
    require_event(structure_event(C_BAD_CD, 5), "C_BAD_CD");
    attach_entry(stream_entry(STE_STAGE1, cd_table, 6, 0, 0));
    require_byte(1, HERE, 0x41, "S1DSS 0: with a PASID");
    require_byte(NO_SUBSTREAM, HERE, -FAULTED, "and not without");
    require_event(structure_event(F_STREAM_DISABLED, NO_SUBSTREAM), "F_STREAM_DISABLED");
    attach_entry(stream_entry(STE_STAGE1, cd_table, 6, 0, 1));
    require_byte(1, HERE, 0x41, "S1DSS 1: with a PASID");
    require(run_dma(DMA_READ, NO_SUBSTREAM, pages[1], 64) == COMPLETED &&
                run_dma(DMA_WRITE, NO_SUBSTREAM, readback_page, 64) == COMPLETED &&
                *(char *)guest_at(readback_page) == 0x42,
            "without, stage 2 alone");
    section("two levels of descriptors");
    *((uint64_t *)guest_at(upper) + 3) = lower | 1;
    attach_entry(stream_entry(STE_STAGE1, upper, 13, 2, 2));
    descriptor = context_descriptor(spaces[0], 11);
    memcpy((struct context_descriptor *)guest_at(lower) + 7, &descriptor, sizeof(descriptor));
    require_byte(3 * 1024 + 7, HERE, 0x41, "of 1024");
    require_byte(7, HERE, -FAULTED, "where there is no lower table");
    require_event(structure_event(C_BAD_SUBSTREAMID, 7), "C_BAD_SUBSTREAMID");
    attach_entry(stream_entry(STE_STAGE1, upper, 8, 1, 2));
    require_byte(3 * 64 + 7, HERE, 0x41, "of 64");
    attach_entry(stream_entry(STE_STAGE1, cd_table, 0, 0, 0));
    require_byte(1, HERE, -FAULTED, "one descriptor has no PASIDs");
    require_event(structure_event(C_BAD_SUBSTREAMID, 1), "C_BAD_SUBSTREAMID");
    attach_entry(stream_entry(STE_STAGE1, cd_table, 6, 0, 2));
}

void test_lost_events(void)
{
    struct iommufd_vevent_header header;
    struct smmu_event event;

    section("events that are lost");
    for (int i = 0; i != 6; i++)
        read_byte_at(1, THERE + i * PAGE);
    for (int i = 0; i != 4; i++)
        require_event(fault_event(F_TRANSLATION, 1, THERE + i * PAGE, true), "one of four");
    require(read(event_queue, &event, sizeof(event)) == sizeof(header), "then a header alone");
    memcpy(&header, &event, sizeof(header));
    require(header.flags == IOMMU_VEVENTQ_FLAG_LOST_EVENTS &&
                header.sequence == next_event_sequence + 1,
            "which tells that two are lost");
    next_event_sequence += 2;
    read_byte_at(1, THERE);
    require_event(fault_event(F_TRANSLATION, 1, THERE, true), "the next has the next number");
}
