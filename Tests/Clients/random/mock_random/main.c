/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random calls on mock devices and the objects that are created for them. Most calls use the right
 * object and a sensible value.
 *
 *   mock_random SEED COUNT
 *
 * The answers depend on nothing but the calls: huge pages are disabled, so that physical addresses
 * have no effect. No device is destroyed while a PASID of it is attached, of which the kernel
 * warns.
 */
#include "objects.h"

static void attach(void)
{
    static const enum kind tables[] = {IOAS, HWPT, HWPT, PARENT, NESTED, NESTED};
    uint32_t table = some_id(tables[below(COUNT(tables))]), device = some_id(STDEV);
    uint32_t pasid = pasids[chance(5) ? below(COUNT(pasids)) : 1 + below(3)];
    unsigned way = below(8);

    if (way > 2 && below(4))
        table = some_id(below(2) ? HWPT : NESTED);
    switch (way) {
    case 0:
    case 1:
    case 2:
        mock_replace(device, table);
        break;
    case 3:
    case 4:
    case 5:
        pasid_attach(device, pasid, table);
        break;
    case 6:
        pasid_replace(device, pasid, table);
        break;
    default:
        if (pasid) /* PASID 0 is the device itself, which its destruction detaches */
            pasid_detach(device, pasid);
    }
}

static void use_queue(void)
{
    unsigned slot = below(COUNT(queues));
    struct iommu_hwpt_page_response response;

    response.cookie = 1 + below(3);
    response.code = below(5) == 0;
    if (queues[slot].fd < 0)
        return;
    switch (below(8)) {
    case 0:
        close(queues[slot].fd);
        queues[slot].fd = -1;
        break;
    case 1:
        poll_queue(queues[slot].fd);
        break;
    case 2:
    case 3:
    case 4:
        read_words(queues[slot].fd, buffer, chance(20) ? below(100) : 40 * (1 + below(3)));
        break;
    default:
        write_words(queues[slot].fd, &response, 8);
    }
}

static void check_state(void)
{
    uint32_t entry, value, pasid;
    unsigned char *memory;
    uint64_t iova;

    switch (below(4)) {
    case 0:
        value = below(2) * 7;
        entry = below(5);
        check_iotlb(some_id(NESTED), entry, value);
        break;
    case 1:
        value = below(2) ? IOMMU_TEST_DEV_CACHE_DEFAULT : 0;
        entry = below(5);
        check_cache(some_id(IDEV), entry, value);
        break;
    case 2:
        memory = buffer + below(4) * PAGE;
        iova = some_iova();
        check_map(some_id(HWPT), iova, PAGE, memory);
        break;
    default:
        value = some_id(HWPT);
        pasid = pasids[below(4)];
        pasid_check(some_id(STDEV), pasid, value);
    }
}

static void use_invalidation(void)
{
    static uint32_t entries[3][3];
    uint32_t type = IOMMU_HWPT_INVALIDATE_DATA_SELFTEST + chance(8), length = 12, count;

    name_region("entries", entries, sizeof(entries));
    if (below(2)) {
        uint32_t(*pairs)[2] = (void *)entries;

        for (unsigned i = 0; i != 3; i++)
            pairs[i][0] = chance(10) ? below(3) : 0, pairs[i][1] = below(5);
        count = below(4);
        length = chance(8) ? below(12) : 8;
        invalidate(some_id(NESTED), type, entries, length, count);
    } else {
        for (unsigned i = 0; i != 3; i++) {
            entries[i][0] = below(10) == 0;
            entries[i][1] = 0x50 + below(3);
            entries[i][2] = below(5);
        }
        count = below(4);
        invalidate(some_id(VIOMMU), type, entries, length, count);
    }
}

static void use_dirty_tracking(void)
{
    static unsigned char bits[16];
    uint32_t hwpt = some_id(HWPT);
    uint64_t iova, length;

    switch (below(3)) {
    case 0:
        set_dirty_tracking(hwpt, below(8) ? 1 : below(3));
        break;
    case 1:
        watch("bits", bits, sizeof(bits));
        memset(bits, 0, sizeof(bits));
        bits[0] = (unsigned char)below(256);
        printf("bits %#x:\n", bits[0]);
        make_dirty(hwpt, some_iova(), 8 * 0x800, 0x800, bits);
        unwatch("bits");
        break;
    default:
        memset(bits, 0, sizeof(bits));
        watch("bits", bits, sizeof(bits));
        length = (1 + below(8)) * PAGE;
        iova = some_iova();
        get_dirty_bitmap(hwpt, some_flags(below(2)), iova, length, 0x800, bits);
        unwatch("bits");
    }
}

static void request_page(void)
{
    uint64_t address = below(16) * PAGE;
    uint32_t pasid = pasids[below(3)];

    trigger_iopf(some_id(IDEV), pasid, address);
}

static void map_or_unmap(void)
{
    bool is_mapped = below(3);
    uint64_t iova, length, memory;

    if (is_mapped) {
        iova = some_iova();
        length = (1 + below(2)) * PAGE;
        memory = (uintptr_t)buffer + below(4) * PAGE;
        map(some_id(IOAS), memory, length, FIXED | R | W, iova);
    } else {
        length = (1 + below(4)) * PAGE;
        iova = some_iova();
        unmap(some_id(IOAS), iova, length);
    }
}

static void step(void)
{
    uint32_t id;

    switch (below(22)) {
    case 0:
        if (objects[IOAS].count < 3) {
            remember_id(IOAS, id = ioas_alloc());
            option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, id, 0);
        }
        break;
    case 1:
    case 2:
        make_device();
        break;
    case 3:
    case 4:
    case 5:
        make_table();
        break;
    case 6:
        make_viommu();
        break;
    case 7:
        make_vdevice();
        break;
    case 8:
        make_queue();
        break;
    case 9:
    case 10:
    case 11:
        attach();
        break;
    case 12:
        for (unsigned i = 1 + below(4); i; i--)
            request_page();
        break;
    case 13:
        for (unsigned i = 1 + below(3); i; i--)
            trigger_vevent(some_id(IDEV));
        break;
    case 14:
    case 15:
        use_queue();
        break;
    case 16:
        check_state();
        break;
    case 17:
        use_invalidation();
        break;
    case 18:
        use_dirty_tracking();
        break;
    case 19:
        map_or_unmap();
        break;
    default:
        id = some_id(below(3) ? below(KINDS) : HWPT);
        for (unsigned i = 0; i != objects[STDEV].count; i++)
            if (objects[STDEV].ids[i] == id)
                detach_pasids(id);
        if (!destroy(id))
            forget_id(id);
    }
}

int main(int argc, char **argv)
{
    unsigned count = 1000;

    part = "mock";
    read_seed_and_count(argc, argv, &count);
    begin("random calls on mock devices");
    make_buffer(16);
    memset(buffer, 0, 16 * PAGE);
    for (unsigned i = 0; i != count; i++)
        step();
    for (unsigned i = 0; i != objects[STDEV].count; i++)
        detach_pasids(objects[STDEV].ids[i]);
    return 0;
}
