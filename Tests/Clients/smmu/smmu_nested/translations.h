/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the unit keeps of a guest's tables and descriptors until an invalidation names it; and the commands
 * that are refused.
 */
#ifndef SMMU_NESTED_TRANSLATIONS_H
#define SMMU_NESTED_TRANSLATIONS_H

#include "smmu/smmu_driver.h"

static const uint64_t HERE = 0x12345000;

/** Changes what HERE is in both address spaces and both pages of each. */
static uint64_t spaces[2], pages[2];

static void turn(int to)
{
    for (int space = 0; space != 2; space++)
        for (int page = 0; page != 2; page++)
            map_page(spaces[space], HERE + page * PAGE, pages[to], LEAF);
}

static void load_all(void)
{
    for (int pasid = 0; pasid != 2; pasid++)
        for (int page = 0; page != 2; page++)
            seen(pasid + 1, HERE + page * PAGE);
}

/** Which of the four translations are new: bit 0 of PASID 1, page 0; bit 1 of its page 1; ... */
static unsigned renewed(void)
{
    unsigned set = 0;

    for (int pasid = 0; pasid != 2; pasid++)
        for (int page = 0; page != 2; page++)
            if (seen(pasid + 1, HERE + page * PAGE) == 0x42)
                set |= 1u << (2 * pasid + page);
    return set;
}

static void check_scope(struct smmu_command invalidation, unsigned expected, const char *what)
{
    unsigned found;

    turn(0);
    command(tlbi(NSNH_ALL, 0, 0));
    load_all();
    turn(1);
    check(renewed() == 0, "changed tables are not noticed");
    command(invalidation);
    found = renewed();
    if (found != expected)
        printf("found %x, not %x\n", found, expected);
    check(found == expected, "%s", what);
}

static void invalidation(void)
{
    section("what is cached until it is invalidated");
    pages[0] = page_of(0x41);
    pages[1] = page_of(0x42);
    for (int space = 0; space != 2; space++) {
        spaces[space] = new_space();
        set_context(space + 1, context(spaces[space], 11 + space));
    }
    command(configuration(CFGI_CD_ALL, VIRTUAL_STREAM, 0));
    check_scope(tlbi(NH_VA, 11, HERE), 1, "NH_VA: one page of one ASID");
    check_scope(tlbi(NH_VA, 11, HERE | 1), 1, "NH_VA, leaf only: the same");
    check_scope(tlbi(NH_VA, 99, HERE), 0, "NH_VA of another ASID: nothing");
    check_scope(tlbi(NH_VAA, 0, HERE + PAGE), 2 | 8, "NH_VAA: one page of every ASID");
    check_scope(tlbi(NH_ASID, 12, 0), 4 | 8, "NH_ASID: all pages of one ASID");
    check_scope(tlbi(NH_ALL, 0, 0), 15, "NH_ALL: everything of the guest's");
    check_scope(tlbi(NSNH_ALL, 0, 0), 15, "NSNH_ALL: the same");
    check_scope(tlbi_range(NH_VA, 12, HERE, 1, 0, 3), 4 | 8, "a range of two pages, level 3");
    check_scope(tlbi_range(NH_VA, 12, HERE, 0, 1, 0), 4 | 8, "as a scale, at any level");
    check_scope(tlbi_range(NH_VA, 12, HERE, 1, 0, 2), 0, "there is nothing at level 2");
    check_scope(tlbi_range(NH_VAA, 0, HERE - 31 * PAGE, 31, 0, 3), 1 | 4, "32 pages, HERE the last");
    check_scope(configuration(CFGI_CD, VIRTUAL_STREAM, 1), 0, "descriptors are not translations");

    section("blocks");
    map_2m(spaces[0], 0x40000000, GUEST_BASE + 0x200000, LEAF);
    *(char *)at(GUEST_BASE + 0x200000) = 0x51;
    *(char *)at(GUEST_BASE + 0x201000) = 0x52;
    check_seen(1, 0x40000000, 0x51, "a block of 2 MiB");
    check_seen(1, 0x40001000, 0x52, "another page of it");
    map_2m(spaces[0], 0x40000000, 0, 0);
    check_seen(1, 0x40001000, 0x52, "is still there");
    command(tlbi(NH_VA, 11, 0x40010000));
    check_seen(1, 0x40000000, -FAULTED, "one address of it invalidates all of it");
    check_event(fault(F_TRANSLATION, 1, 0x40000000, true), "F_TRANSLATION with a PASID");

    section("descriptors");
    turn(0);
    command(tlbi(NSNH_ALL, 0, 0));
    map_page(spaces[1], HERE, pages[1], LEAF);
    check_seen(1, HERE, 0x41, "through the first descriptor");
    set_context(1, context(spaces[1], 13));
    check_seen(1, HERE, 0x41, "a changed one is not noticed");
    command(configuration(CFGI_CD, VIRTUAL_STREAM, 2));
    check_seen(1, HERE, 0x41, "nor when another is invalidated");
    command(configuration(CFGI_CD, VIRTUAL_STREAM, 1));
    check_seen(1, HERE, 0x42, "until it is");
    set_context(1, context(spaces[0], 11));
    command(configuration(CFGI_CD_ALL, VIRTUAL_STREAM, 0));
    check_seen(1, HERE, 0x41, "or all are");
}

static void try_command(uint64_t first, uint64_t second, const char *what)
{
    check_refused((struct smmu_command){{first, second}}, what);
}

static void bad_commands(void)
{
    struct smmu_command three[3] = {tlbi(NH_VA, 11, HERE), tlbi(0x28, 0, 0), tlbi(NH_ALL, 0, 0)};
    struct smmu_command many[70];
    uint32_t count = 3;

    section("commands that are refused");
    try_command(0x03 | (uint64_t)VIRTUAL_STREAM << 32, 1, "CFGI_STE");
    try_command(0x28, 0, "S12_VMALL");
    try_command(0x2a, HERE, "S2_IPA");
    try_command(0x46, 0, "SYNC");
    try_command(0, 0, "no operation");
    try_command(NSNH_ALL | 1ULL << 32, 0, "NSNH_ALL with a VMID");
    try_command(NH_ALL | 1ULL << 48, 0, "NH_ALL with an ASID");
    try_command(NH_VAA | 1ULL << 48, HERE, "NH_VAA with an ASID");
    try_command(NH_VA, HERE | 2, "a bit below the address");
    try_command(NH_VA | 1 << 12, HERE, "a range without granule");
    try_command(NH_VA, HERE | 1 << 8, "a level without granule");
    try_command(NH_VA, HERE | 1 << 10, "a granule without range or level");
    try_command(NH_VA | 1 << 12, HERE | 2 << 10 | 1 << 8, "16 KiB at level 1");
    try_command(NH_VA | 1 << 25, HERE | 1 << 10, "a wide scale");
    try_command(CFGI_CD | 1 << 10 | (uint64_t)VIRTUAL_STREAM << 32, 0, "Secure");
    try_command(CFGI_CD | 1 << 11 | (uint64_t)VIRTUAL_STREAM << 32, 0, "CFGI_CD with SSV");
    try_command(CFGI_CD | 99ULL << 32, 0, "a stream that the guest does not have");
    try_command(CFGI_CD_ALL | 1 << 12 | (uint64_t)VIRTUAL_STREAM << 32, 0, "CFGI_CD_ALL with a PASID");
    try_command(ATC_INV | (uint64_t)VIRTUAL_STREAM << 32, 52, "ATC_INV without ATS");

    section("as far as it gets");
    turn(0);
    command(tlbi(NSNH_ALL, 0, 0));
    load_all();
    turn(1);
    check(send(three, &count) && errno == EIO && count == 1, "good, bad, good: EIO, and 1 is told");
    check(renewed() == 0, "but nothing was sent");
    for (int i = 0; i != 70; i++)
        many[i] = i == 69 ? three[1] : three[0];
    count = 70;
    check(send(many, &count) && errno == EIO && count == 69, "69 good ones first");
    check(renewed() == 1, "and a whole batch is sent");
    count = 0;
    check(send(three, &count) && errno == EINVAL, "none: EINVAL");
}

#endif /* SMMU_NESTED_TRANSLATIONS_H */
