/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest's commands take away: translations of the unit's, and those that the device has.
 */
#ifndef SMMU_CMDQV_COMMANDS_H
#define SMMU_CMDQV_COMMANDS_H

#include "registers.h"

static const uint64_t HERE = 0x123456000;

static uint64_t spaces[2], pages[2];

/** In both address spaces, what is HERE. */
static void turn(int to)
{
    for (int space = 0; space != 2; space++)
        map_page(spaces[space], HERE, pages[to], LEAF);
}

/** Which translations are new: bit 0 without PASID, bit 1 with PASID 1. */
static unsigned renewed(void)
{
    return (seen(PLAIN, HERE) == 0x42) | (seen(1, HERE) == 0x42) << 1;
}

/** The old page is cached, by what comes first, and there is a new one. */
static void make_stale(struct smmu_command all)
{
    turn(0);
    command(tlbi(NSNH_ALL, 0, 0));
    command(all);
    if (seen(PLAIN, HERE) != 0x41 || seen(1, HERE) != 0x41)
        exit(1);
    turn(1);
}

static void check_scope(struct smmu_command invalidation, unsigned expected, const char *what)
{
    unsigned found;

    make_stale(tlbi(NSNH_ALL, 0, 0));
    check(renewed() == 0, "changed tables are not noticed");
    push(&first, invalidation);
    push(&first, synchronize(0));
    settle();
    check(renewed() == 0, "a command that the unit is not told of");
    ring_bell(&first);
    found = is_done(&first) ? renewed() : 9;
    if (found != expected)
        printf("found %x, not %x\n", found, expected);
    check(found == expected, "%s", what);
}

static void invalidation(void)
{
    section("%s: translations", chapter);
    for (int space = 0; space != 2; space++) {
        pages[space] = page_of(0x41 + space);
        spaces[space] = new_space();
        set_context((uint32_t)space, context(spaces[space], (uint16_t)(11 + space)));
    }
    attach_entry(stream_entry(STE_STAGE1, descriptors, 6, 0, 2));
    check_scope(tlbi(NH_VA, 11, HERE), 1, "NH_VA");
    check_scope(tlbi(NH_VA, 12, HERE), 2, "NH_VA, of a PASID's space");
    check_scope(tlbi(NH_VA, 99, HERE), 0, "NH_VA of an ASID that there is not");
    check_scope(tlbi(NH_VA, 11, HERE + PAGE), 0, "NH_VA of another address");
    check_scope(tlbi_range(NH_VA, 12, HERE - 3 * PAGE, 3, 0, 3), 2, "NH_VA of four pages");
    check_scope(tlbi(NH_ASID, 12, 0), 2, "NH_ASID");
}

/** With ATS the device itself has translations, which no TLBI is for. */
static void device_translations(void)
{
    struct iommu_hwpt_arm_smmuv3 entry = stream_entry(STE_STAGE1, descriptors, 6, 0, 2);
    struct smmu_command everything = atc_invalidate(VIRTUAL_STREAM, PLAIN, 0, 52);

    section("%s: translations that the device has", chapter);
    entry.ste[1] |= 1 << 28; /* EATS */
    attach_entry(entry);
    make_stale(everything);
    check(execute(&first, tlbi(NH_ASID, 11, 0)) && execute(&first, tlbi(NH_ASID, 12, 0)) &&
              renewed() == 0, "stay when those of the unit go");
    check(execute(&first, atc_invalidate(VIRTUAL_STREAM, 1, HERE, 0)) && renewed() == 2,
          "ATC_INV of a PASID's page");
    make_stale(everything);
    check(execute(&second, tlbi(NH_ASID, 11, 0)) && execute(&second, everything) && renewed() == 1,
          "ATC_INV of all: what the unit still has comes again");
    attach_entry(stream_entry(STE_STAGE1, descriptors, 6, 0, 2));
}

#endif /* SMMU_CMDQV_COMMANDS_H */
