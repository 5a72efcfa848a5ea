/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random calls of the extension vfio-sva: PASIDs, bindings, attaching and detaching devices,
 * changed page tables and invalidations. A model predicts the result of each call and the pages
 * that a device may read: the old or the new one before the invalidation of a changed entry, the
 * new one after it.
 *
 *   vfio_sva_random SEED COUNT
 */
#include "random.h"
#include "guest/sva.h"

#define PASIDS 5u /* PASIDs 1 to 5, and PASID 0, which is never allocated */

enum { DEVICES = 2, TABLES = 2 };

static const struct test_device *const devices[DEVICES] = {&device, &plain};
static bool is_allocated[PASIDS + 1], is_attached[DEVICES];
/** The number of the table that is bound to a PASID of a device, from 1 on, or 0. */
static unsigned bound[DEVICES][PASIDS + 1];
/** The data pages that a device may read there: bit n for page n. */
static uint32_t possible[DEVICES][PASIDS + 1];
/** The data page that a table maps. */
static unsigned current[TABLES];

static unsigned step, answers[8];

static void expect(const char *what, long result, int want)
{
    int got = result < 0 ? errno : 0;

    if (got != want)
        fatal("step %u: %s: %s, not %s", step, what, got ? strerrorname_np(got) : "no error",
              want ? strerrorname_np(want) : "no error");
    answers[want == 0 ? 0 : want == ENOENT ? 1 : want == EINVAL ? 2 : want == EBUSY ? 3 : 4]++;
}

static bool has_devices(void) { return is_attached[0] || is_attached[1]; }
static bool is_bound(uint32_t pasid) { return bound[0][pasid] || bound[1][pasid]; }

static void end_tables(uint32_t pasid)
{
    for (unsigned d = 0; d != DEVICES; d++)
        bound[d][pasid] = 0;
}

static void random_allocation(void)
{
    uint32_t min = (uint32_t)below(PASIDS + 1), max = min + (uint32_t)below(PASIDS + 1 - min);
    uint32_t want = 0, pasid = 0;

    for (uint32_t p = max; p >= min && p > 0; p--)
        if (!is_allocated[p])
            want = p;
    expect("allocate", allocate_pasid(guest.iommufd, min, max, &pasid), want ? 0 : ENOSPC);
    if (want && pasid != want)
        fatal("step %u: PASID %u, not %u", step, pasid, want);
    is_allocated[want] = want;
}

static void random_free(void)
{
    uint32_t pasid = (uint32_t)below(PASIDS + 1);

    expect("free", free_pasid(guest.iommufd, pasid), is_allocated[pasid] ? 0 : ENOENT);
    is_allocated[pasid] = false;
    end_tables(pasid);
}

static void random_binding(void)
{
    uint32_t pasid = 1 + (uint32_t)below(PASIDS);
    unsigned table = (unsigned)below(TABLES);
    bool is_taken = (is_attached[0] && bound[0][pasid]) || (is_attached[1] && bound[1][pasid]);
    int want = !is_allocated[pasid] ? ENOENT : !has_devices() ? EINVAL : is_taken ? EBUSY : 0;

    expect("bind", bind_table(pasid, roots[table]), want);
    for (unsigned d = 0; !want && d != DEVICES; d++)
        if (is_attached[d]) {
            bound[d][pasid] = table + 1;
            possible[d][pasid] = 1u << current[table];
        }
}

static void random_unbinding(void)
{
    uint32_t pasid = 1 + (uint32_t)below(PASIDS);
    int want = !is_allocated[pasid] ? ENOENT : !has_devices() || !is_bound(pasid) ? EINVAL : 0;

    expect("unbind", unbind(pasid), want);
    if (!want)
        end_tables(pasid);
}

static void random_device(void)
{
    unsigned d = (unsigned)below(DEVICES);

    if (is_attached[d]) {
        expect("detach", detach(devices[d], NO_PASID), 0);
        for (uint32_t p = 1; p <= PASIDS; p++)
            bound[d][p] = 0;
    } else {
        expect("attach", attach_to(devices[d], guest.ioas, NO_PASID), 0);
    }
    is_attached[d] = !is_attached[d];
}

static void random_change(void)
{
    unsigned table = (unsigned)below(TABLES);

    current[table] = (unsigned)below(DATA_PAGES);
    map_data_page(&guest, roots[table], IOVA, current[table]);
    for (unsigned d = 0; d != DEVICES; d++)
        for (uint32_t p = 1; p <= PASIDS; p++)
            if (bound[d][p] == table + 1)
                possible[d][p] |= 1u << current[table];
}

/** Invalidates by one PASID or all, and the page at IOVA or another one. */
static void random_invalidation(void)
{
    const uint8_t iotlb = IOMMU_CACHE_INV_TYPE_IOTLB;
    uint32_t pasid = 1 + (uint32_t)below(PASIDS);
    bool is_beside = chance(25), is_of_all = chance(30);
    uint64_t pages = 1 + below(4), start = IOVA - below(pages) * PAGE;
    struct iommu_cache_invalidate_info info;
    int want = 0;

    switch (below(3)) {
    case 0:
        is_beside = false;
        info = is_of_all ? by_domain(iotlb) : by_pasid(iotlb, pasid);
        break;
    case 1:
        is_beside = true;
        info = is_of_all ? by_domain(IOMMU_CACHE_INV_TYPE_PASID)
                         : by_pasid(IOMMU_CACHE_INV_TYPE_DEV_IOTLB, pasid);
        break;
    default:
        info = by_address(iotlb, pasid, is_beside ? IOVA + 8 * PAGE : start, PAGE, pages,
                          is_of_all ? 0 : IOMMU_INV_ADDR_FLAGS_PASID);
        break;
    }
    if (!is_of_all)
        want = !is_allocated[pasid] ? ENOENT : !is_bound(pasid) ? EINVAL : 0;
    expect("invalidate", cache_invalidate(info), want);
    for (unsigned d = 0; !want && !is_beside && d != DEVICES; d++)
        for (uint32_t p = 1; p <= PASIDS; p++)
            if (bound[d][p] && (is_of_all || p == pasid))
                possible[d][p] = 1u << current[bound[d][p] - 1];
}

/** Checks that a device reads one of the pages of the model. */
static void check_read(void)
{
    unsigned d, tries = 0;
    uint32_t pasid;
    uint64_t byte;

    do {
        d = (unsigned)below(DEVICES);
        pasid = 1 + (uint32_t)below(PASIDS);
    } while (!bound[d][pasid] && ++tries < 8); /* prefers a PASID with a table */
    byte = read_byte_by_pasid(devices[d], pasid, IOVA);
    if (!bound[d][pasid] ? byte < 0x100 : byte > 32 || !(possible[d][pasid] >> (byte - 1) & 1))
        fatal("step %u: device %u reads %#llx by PASID %u; table %u, pages %#x", step, d,
              (unsigned long long)byte, pasid, bound[d][pasid], possible[d][pasid]);
    answers[bound[d][pasid] ? 5 : 6]++;
    /* The device has read the old page of two. */
    if (bound[d][pasid] && byte - 1 != current[bound[d][pasid] - 1])
        answers[7]++;
}

int main(int argc, char **argv)
{
    static void (*const actions[])(void) = {
        random_allocation,   random_allocation, random_free,   random_binding,
        random_binding,      random_binding,    random_change, random_change,
        random_invalidation, random_device,     random_unbinding};
    static const char *const names[] = {"answered",     "no such PASID", "invalid", "taken",
                                        "none is free", "read",          "blocked", "read as it was"};
    unsigned count = 1000;

    read_seed_and_count(argc, argv, &count);
    set_up_sva();
    if (free_pasid(guest.iommufd, pasids[0]) || free_pasid(guest.iommufd, pasids[1]) ||
        set_container(IOMMU_VFIO_IOAS_SET) ||
        ioctl(guest.iommufd, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU))
        fatal("no container: %s", strerror(errno));
    attach_devices();
    is_attached[0] = is_attached[1] = true;
    for (unsigned t = 0; t != TABLES; t++)
        map_data_page(&guest, roots[t], IOVA, current[t] = t);
    for (step = 0; step != count; step++) {
        actions[below(sizeof(actions) / sizeof(*actions))]();
        check_read();
        if (step % 64 == 0)
            drain_faults(&device), drain_faults(&plain);
    }
    for (unsigned i = 0; i != 8; i++)
        check_number(answers[i] > 0, 1, "%s: %u", names[i], answers[i]);
    return checks_exit_status();
}
