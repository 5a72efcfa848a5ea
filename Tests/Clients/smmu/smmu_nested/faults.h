/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest's tables and descriptors do not allow, and the events that tell it.
 */
#ifndef SMMU_NESTED_FAULTS_H
#define SMMU_NESTED_FAULTS_H

#include "translations.h"

static const uint64_t THERE = 0x76543000;

static void faults(void)
{
    uint64_t root = new_space(), page = page_of(0x31), tables[2];

    section("faults");
    set_context(0, context(root, 1));
    command(configuration(CFGI_CD, VIRTUAL_STREAM, 0));
    map_page(root, HERE, page, LEAF);
    check_seen(PLAIN, HERE, 0x31, "the device reads through both stages");
    memset(at(mirror), 0x32, 64);
    check(copy_by(COPY_OUT, PLAIN, HERE, 64) == COMPLETED && *(char *)at(page) == 0x31,
          "and writes");
    check_no_event("so far");
    check_seen(PLAIN, THERE, -FAULTED, "no entry");
    check_event(fault(F_TRANSLATION, PLAIN, THERE, true), "F_TRANSLATION, read");
    check(copy_by(COPY_OUT, PLAIN, THERE + 0x123, 64) == FAULTED, "nor for a write");
    check_event(fault(F_TRANSLATION, PLAIN, THERE + 0x123, false), "F_TRANSLATION, write");
    map_page(root, THERE, page, LEAF | PTE_READ_ONLY);
    check_seen(PLAIN, THERE, 0x31, "absent entries are not cached; read-only");
    check(copy_by(COPY_OUT, PLAIN, THERE, 64) == FAULTED, "so not written");
    check_event(fault(F_PERMISSION, PLAIN, THERE, false), "F_PERMISSION, write");
    map_page(root, THERE + PAGE, page, LEAF & ~PTE_USER);
    check_seen(PLAIN, THERE + PAGE, -FAULTED, "for privileged accesses only");
    check_event(fault(F_PERMISSION, PLAIN, THERE + PAGE, true), "F_PERMISSION, read");
    map_page(root, THERE + 2 * PAGE, page, LEAF & ~PTE_AF);
    check_seen(PLAIN, THERE + 2 * PAGE, -FAULTED, "without access flag");
    check_event(fault(F_ACCESS, PLAIN, THERE + 2 * PAGE, true), "F_ACCESS");
    map_page(root, THERE + 3 * PAGE, 1ULL << 41, LEAF);
    check_seen(PLAIN, THERE + 3 * PAGE, -FAULTED, "an output beyond IPS");
    check_event(fault(F_ADDR_SIZE, PLAIN, THERE + 3 * PAGE, true), "F_ADDR_SIZE");
    check_seen(PLAIN, 1ULL << 48, -FAULTED, "an input beyond T0SZ");
    check_event(fault(F_TRANSLATION, PLAIN, 1ULL << 48, true), "F_TRANSLATION");
    check_seen(PLAIN, ~0xfffULL, -FAULTED, "the upper half, which is disabled");
    check_event(fault(F_TRANSLATION, PLAIN, ~0xfffULL, true), "F_TRANSLATION");
    map_page(root, THERE + 4 * PAGE, GUEST_BASE + GUEST_PAGES * PAGE, LEAF);
    check_seen(PLAIN, THERE + 4 * PAGE, -FAULTED, "where the guest has no memory");
    *entry_of(root, 0x8000000000, 0) = 0x1000 | PTE_VALID | PTE_TABLE;
    check_seen(PLAIN, 0x8000000000, -FAULTED, "a table where it has none");
    check_no_event("of stage 2, which is not the guest's");
    section("over two pages");
    map_page(root, THERE + 8 * PAGE, page, LEAF);
    tables[0] = *(uint64_t *)at(page);
    check(copy_by(COPY_OUT, PLAIN, THERE + 9 * PAGE - 32, 64) == FAULTED, "the second is absent");
    check_event(fault(F_TRANSLATION, PLAIN, THERE + 9 * PAGE, false), "for the second");
    tables[1] = *(uint64_t *)at(page);
    check(tables[0] == tables[1], "the first is as it was");
}

static void substreams(void)
{
    struct descriptor descriptor = context(spaces[0], 11);
    uint64_t upper = take_pages(1), lower = take_pages(16);

    section("substreams");
    check_seen(64, HERE, -FAULTED, "beyond S1CDMax");
    check_event(bad(C_BAD_SUBSTREAMID, 64), "C_BAD_SUBSTREAMID");
    check_seen(0, HERE, -FAULTED, "0 is for accesses without");
    check_event(bad(F_STREAM_DISABLED, 0), "F_STREAM_DISABLED");
    check_seen(5, HERE, -FAULTED, "a descriptor that is not valid");
    check_event(bad(C_BAD_CD, 5), "C_BAD_CD");
    descriptor.words[0] &= ~0x3fULL;
    set_context(5, descriptor);
    check_seen(5, HERE, -FAULTED, "T0SZ 0");
    check_event(bad(C_BAD_CD, 5), "C_BAD_CD");
    descriptor = context(1ULL << 40, 11);
    set_context(5, descriptor);
    check_seen(5, HERE, -FAULTED, "TTB0 beyond IPS");
    check_event(bad(C_BAD_CD, 5), "C_BAD_CD");
    attach_entry(stream_entry(STE_STAGE1, descriptors, 6, 0, 0));
    check_seen(1, HERE, 0x41, "S1DSS 0: with a PASID");
    check_seen(PLAIN, HERE, -FAULTED, "and not without");
    check_event(bad(F_STREAM_DISABLED, PLAIN), "F_STREAM_DISABLED");
    attach_entry(stream_entry(STE_STAGE1, descriptors, 6, 0, 1));
    check_seen(1, HERE, 0x41, "S1DSS 1: with a PASID");
    check(copy_by(COPY_IN, PLAIN, pages[1], 64) == COMPLETED &&
              copy_by(COPY_OUT, PLAIN, mirror, 64) == COMPLETED && *(char *)at(mirror) == 0x42,
          "without, stage 2 alone");
    section("two levels of descriptors");
    *((uint64_t *)at(upper) + 3) = lower | 1;
    attach_entry(stream_entry(STE_STAGE1, upper, 13, 2, 2));
    descriptor = context(spaces[0], 11);
    memcpy((struct descriptor *)at(lower) + 7, &descriptor, sizeof(descriptor));
    check_seen(3 * 1024 + 7, HERE, 0x41, "of 1024");
    check_seen(7, HERE, -FAULTED, "where there is no lower table");
    check_event(bad(C_BAD_SUBSTREAMID, 7), "C_BAD_SUBSTREAMID");
    attach_entry(stream_entry(STE_STAGE1, upper, 8, 1, 2));
    check_seen(3 * 64 + 7, HERE, 0x41, "of 64");
    attach_entry(stream_entry(STE_STAGE1, descriptors, 0, 0, 0));
    check_seen(1, HERE, -FAULTED, "one descriptor has no PASIDs");
    check_event(bad(C_BAD_SUBSTREAMID, 1), "C_BAD_SUBSTREAMID");
    attach_entry(stream_entry(STE_STAGE1, descriptors, 6, 0, 2));
}

static void losses(void)
{
    struct iommufd_vevent_header header;
    struct event event;

    section("events that are lost");
    for (int i = 0; i != 6; i++)
        seen(1, THERE + i * PAGE);
    for (int i = 0; i != 4; i++)
        check_event(fault(F_TRANSLATION, 1, THERE + i * PAGE, true), "one of four");
    check(read(event_queue, &event, sizeof(event)) == sizeof(header), "then a header alone");
    memcpy(&header, &event, sizeof(header));
    check(header.flags == IOMMU_VEVENTQ_FLAG_LOST_EVENTS && header.sequence == next_number + 1,
          "which tells that two are lost");
    next_number += 2;
    seen(1, THERE);
    check_event(fault(F_TRANSLATION, 1, THERE, true), "the next has the next number");
}

#endif /* SMMU_NESTED_FAULTS_H */
