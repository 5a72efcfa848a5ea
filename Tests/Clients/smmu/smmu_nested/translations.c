/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translations and context descriptors that the unit has cached, until an invalidation names them;
 * and commands that are refused.
 */
#include "parts.h"

uint64_t spaces[2], pages[2];

/** Maps both pages at HERE to pages[to] in both address spaces. */
static void map_version(int to)
{
    for (int space = 0; space != 2; space++)
        for (int page = 0; page != 2; page++)
            map_4k(spaces[space], HERE + page * PAGE, pages[to], LEAF);
}

static void read_all(void)
{
    for (int pasid = 0; pasid != 2; pasid++)
        for (int page = 0; page != 2; page++)
            read_byte_at(pasid + 1, HERE + page * PAGE);
}

/**
 * Returns which new translations the device uses: bits 0 and 1 for the pages of PASID 1, bits 2 and
 * 3 of PASID 2.
 */
static unsigned seen_changes(void)
{
    unsigned set = 0;

    for (int pasid = 0; pasid != 2; pasid++)
        for (int page = 0; page != 2; page++)
            if (read_byte_at(pasid + 1, HERE + page * PAGE) == 0x42)
                set |= 1u << (2 * pasid + page);
    return set;
}

static void require_scope(struct smmu_command invalidation, unsigned expected, const char *what)
{
    unsigned found;

    map_version(0);
    send_command(tlbi(NSNH_ALL, 0, 0));
    read_all();
    map_version(1);
    require(seen_changes() == 0, "changed tables are not noticed");
    send_command(invalidation);
    found = seen_changes();
    if (found != expected)
        printf("found %x, not %x\n", found, expected);
    require(found == expected, "%s", what);
}

void test_invalidation(void)
{
    section("what is cached until it is invalidated");
    pages[0] = allocate_filled_page(0x41);
    pages[1] = allocate_filled_page(0x42);
    for (int space = 0; space != 2; space++) {
        spaces[space] = allocate_address_space();
        write_context_descriptor(space + 1, context_descriptor(spaces[space], 11 + space));
    }
    send_command(cfgi(CFGI_CD_ALL, VIRTUAL_STREAM, 0));
    require_scope(tlbi(NH_VA, 11, HERE), 1, "NH_VA: one page of one ASID");
    require_scope(tlbi(NH_VA, 11, HERE | 1), 1, "NH_VA, leaf only: the same");
    require_scope(tlbi(NH_VA, 99, HERE), 0, "NH_VA of another ASID: nothing");
    require_scope(tlbi(NH_VAA, 0, HERE + PAGE), 2 | 8, "NH_VAA: one page of every ASID");
    require_scope(tlbi(NH_ASID, 12, 0), 4 | 8, "NH_ASID: all pages of one ASID");
    require_scope(tlbi(NH_ALL, 0, 0), 15, "NH_ALL: everything of the guest's");
    require_scope(tlbi(NSNH_ALL, 0, 0), 15, "NSNH_ALL: the same");
    require_scope(tlbi_range(NH_VA, 12, HERE, 1, 0, 3), 4 | 8, "a range of two pages, level 3");
    require_scope(tlbi_range(NH_VA, 12, HERE, 0, 1, 0), 4 | 8, "as a scale, at any level");
    require_scope(tlbi_range(NH_VA, 12, HERE, 1, 0, 2), 0, "there is nothing at level 2");
    require_scope(tlbi_range(NH_VAA, 0, HERE - 31 * PAGE, 31, 0, 3), 1 | 4,
                  "32 pages, HERE the last");
    require_scope(cfgi(CFGI_CD, VIRTUAL_STREAM, 1), 0, "descriptors are not translations");

    section("blocks");
    map_2m(spaces[0], 0x40000000, GUEST_BASE + 0x200000, LEAF);
    *(char *)guest_at(GUEST_BASE + 0x200000) = 0x51;
    *(char *)guest_at(GUEST_BASE + 0x201000) = 0x52;
    require_byte(1, 0x40000000, 0x51, "a block of 2 MiB");
    require_byte(1, 0x40001000, 0x52, "another page of it");
    map_2m(spaces[0], 0x40000000, 0, 0);
    require_byte(1, 0x40001000, 0x52, "is still there");
    send_command(tlbi(NH_VA, 11, 0x40010000));
    require_byte(1, 0x40000000, -FAULTED, "one address of it invalidates all of it");
    require_event(fault_event(F_TRANSLATION, 1, 0x40000000, true), "F_TRANSLATION with a PASID");

    section("descriptors");
    map_version(0);
    send_command(tlbi(NSNH_ALL, 0, 0));
    map_4k(spaces[1], HERE, pages[1], LEAF);
    require_byte(1, HERE, 0x41, "through the first descriptor");
    write_context_descriptor(1, context_descriptor(spaces[1], 13));
    require_byte(1, HERE, 0x41, "a changed one is not noticed");
    send_command(cfgi(CFGI_CD, VIRTUAL_STREAM, 2));
    require_byte(1, HERE, 0x41, "nor when another is invalidated");
    send_command(cfgi(CFGI_CD, VIRTUAL_STREAM, 1));
    require_byte(1, HERE, 0x42, "until it is");
    write_context_descriptor(1, context_descriptor(spaces[0], 11));
    send_command(cfgi(CFGI_CD_ALL, VIRTUAL_STREAM, 0));
    require_byte(1, HERE, 0x41, "or all are");
}

static void require_command_refused(uint64_t first, uint64_t second, const char *what)
{
    require_refused((struct smmu_command){{first, second}}, what);
}

void test_refused_commands(void)
{
    struct smmu_command three[3] = {tlbi(NH_VA, 11, HERE), tlbi(0x28, 0, 0), tlbi(NH_ALL, 0, 0)};
    struct smmu_command many[70];
    uint32_t count = 3;

    section("commands that are refused");
    require_command_refused(0x03 | (uint64_t)VIRTUAL_STREAM << 32, 1, "CFGI_STE");
    require_command_refused(0x28, 0, "S12_VMALL");
    require_command_refused(0x2a, HERE, "S2_IPA");
    require_command_refused(0x46, 0, "SYNC");
    require_command_refused(0, 0, "no operation");
    require_command_refused(NSNH_ALL | 1ULL << 32, 0, "NSNH_ALL with a VMID");
    require_command_refused(NH_ALL | 1ULL << 48, 0, "NH_ALL with an ASID");
    require_command_refused(NH_VAA | 1ULL << 48, HERE, "NH_VAA with an ASID");
    require_command_refused(NH_VA, HERE | 2, "a bit below the address");
    require_command_refused(NH_VA | 1 << 12, HERE, "a range without granule");
    require_command_refused(NH_VA, HERE | 1 << 8, "a level without granule");
    require_command_refused(NH_VA, HERE | 1 << 10, "a granule without range or level");
    require_command_refused(NH_VA | 1 << 12, HERE | 2 << 10 | 1 << 8, "16 KiB at level 1");
    require_command_refused(NH_VA | 1 << 25, HERE | 1 << 10, "a wide scale");
    require_command_refused(CFGI_CD | 1 << 10 | (uint64_t)VIRTUAL_STREAM << 32, 0, "Secure");
    require_command_refused(CFGI_CD | 1 << 11 | (uint64_t)VIRTUAL_STREAM << 32, 0,
                            "CFGI_CD with SSV");
    require_command_refused(CFGI_CD | 99ULL << 32, 0, "a stream that the guest does not have");
    require_command_refused(CFGI_CD_ALL | 1 << 12 | (uint64_t)VIRTUAL_STREAM << 32, 0,
                            "CFGI_CD_ALL with a PASID");
    require_command_refused(ATC_INV | (uint64_t)VIRTUAL_STREAM << 32, 52, "ATC_INV without ATS");

    section("as far as it gets");
    map_version(0);
    send_command(tlbi(NSNH_ALL, 0, 0));
    read_all();
    map_version(1);
    require(send_commands(three, &count) && errno == EIO && count == 1,
            "good, bad, good: EIO, and 1 is told");
    require(seen_changes() == 0, "but nothing was sent");
    for (int i = 0; i != 70; i++)
        many[i] = i == 69 ? three[1] : three[0];
    count = 70;
    require(send_commands(many, &count) && errno == EIO && count == 69, "69 good ones first");
    require(seen_changes() == 1, "and a whole batch is sent");
    count = 0;
    require(send_commands(three, &count) && errno == EINVAL, "none: EINVAL");
}
