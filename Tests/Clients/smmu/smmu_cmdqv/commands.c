/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invalidation by a guest's commands: of translations that the unit has cached, and of those in the
 * device TLB.
 */
#include "parts.h"

static uint64_t spaces[2], pages[2];

/** Maps HERE to pages[to] in both address spaces. */
static void map_version(int to)
{
    for (int space = 0; space != 2; space++)
        map_4k(spaces[space], HERE, pages[to], LEAF);
}

unsigned seen_changes(void)
{
    return (read_byte_at(NO_SUBSTREAM, HERE) == 0x42) | (read_byte_at(1, HERE) == 0x42) << 1;
}

void make_stale(struct smmu_command invalidation)
{
    map_version(0);
    send_command(tlbi(NSNH_ALL, 0, 0));
    send_command(invalidation);
    if (read_byte_at(NO_SUBSTREAM, HERE) != 0x41 || read_byte_at(1, HERE) != 0x41)
        exit(1);
    map_version(1);
}

static void require_scope(struct smmu_command invalidation, unsigned expected, const char *what)
{
    unsigned found;

    make_stale(tlbi(NSNH_ALL, 0, 0));
    require(seen_changes() == 0, "changed tables are not noticed");
    vcmdq_push(&first, invalidation);
    vcmdq_push(&first, cmd_sync(0));
    sync_registers();
    require(seen_changes() == 0, "a command that the unit is not told of");
    vcmdq_ring(&first);
    found = vcmdq_is_done(&first) ? seen_changes() : 9;
    if (found != expected)
        printf("found %x, not %x\n", found, expected);
    require(found == expected, "%s", what);
}

void test_invalidation(void)
{
    section("%s: translations", section_prefix);
    for (int space = 0; space != 2; space++) {
        pages[space] = allocate_filled_page(0x41 + space);
        spaces[space] = allocate_address_space();
        write_context_descriptor((uint32_t)space,
                                 context_descriptor(spaces[space], (uint16_t)(11 + space)));
    }
    attach_entry(stream_entry(STE_STAGE1, cd_table, 6, 0, 2));
    require_scope(tlbi(NH_VA, 11, HERE), 1, "NH_VA");
    require_scope(tlbi(NH_VA, 12, HERE), 2, "NH_VA, of a PASID's space");
    require_scope(tlbi(NH_VA, 99, HERE), 0, "NH_VA of an ASID that there is not");
    require_scope(tlbi(NH_VA, 11, HERE + PAGE), 0, "NH_VA of another address");
    require_scope(tlbi_range(NH_VA, 12, HERE - 3 * PAGE, 3, 0, 3), 2, "NH_VA of four pages");
    require_scope(tlbi(NH_ASID, 12, 0), 2, "NH_ASID");
}

/** With ATS the device has translations of its own, which no TLBI command invalidates. */
void test_device_tlb(void)
{
    struct iommu_hwpt_arm_smmuv3 entry = stream_entry(STE_STAGE1, cd_table, 6, 0, 2);
    struct smmu_command everything = atc_invalidate(VIRTUAL_STREAM, NO_SUBSTREAM, 0, 52);

    section("%s: translations that the device has", section_prefix);
    entry.ste[1] |= 1 << 28; /* EATS */
    attach_entry(entry);
    make_stale(everything);
    require(vcmdq_execute(&first, tlbi(NH_ASID, 11, 0)) &&
                vcmdq_execute(&first, tlbi(NH_ASID, 12, 0)) && seen_changes() == 0,
            "stay when those of the unit go");
    require(vcmdq_execute(&first, atc_invalidate(VIRTUAL_STREAM, 1, HERE, 0)) &&
                seen_changes() == 2,
            "ATC_INV of a PASID's page");
    make_stale(everything);
    require(vcmdq_execute(&second, tlbi(NH_ASID, 11, 0)) && vcmdq_execute(&second, everything) &&
                seen_changes() == 1,
            "ATC_INV of all: what the unit still has comes again");
    attach_entry(stream_entry(STE_STAGE1, cd_table, 6, 0, 2));
}
