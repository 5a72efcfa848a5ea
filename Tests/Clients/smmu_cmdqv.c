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
#include "smmu_queue.h"

enum { INTERFACES = 63, ENTRIES = PAGE / 16 };

static const uint64_t HERE = 0x123456000;

static struct iommu_viommu_tegra241_cmdqv interface;
static uint64_t rings[2];
static uint32_t queue_ids[2];
static void *page;
static struct queue first, second;
/** How registers are reached; "part": a front end may be without. */
static const char *chapter = "part vintf";

/* ---- without a queue ---------------------------------------------------------------------- */

/** An SMMUv3 without; gives a nesting parent of it, which its device has left. */
static uint32_t without(void)
{
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;
    uint32_t other = bind_device(0, &info, &unit), told;
    uint32_t table = hwpt_alloc(other, ioas, NEST);

    section("a unit without");
    fails(-hw_info(other, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, &unit, 8, &told), EOPNOTSUPP,
          "GET_HW_INFO");
    fails(make_viommu(other, table, CMDQV, &interface, 16), EOPNOTSUPP, "VIOMMU_ALLOC");
    close(device);
    return table;
}

static void find_unit(void)
{
    struct iommu_hw_info_tegra241_cmdqv cmdqv = {0};
    struct iommu_hw_info_arm_smmuv3 unit;
    struct iommu_hw_info info;
    uint32_t told = 0;

    device_id = bind_device(2, &info, &unit);
    section("what the unit tells");
    check(unit.idr[0] >> 10 & 1, "an SMMUv3 with ATS");
    check(!hw_info(device_id, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, &cmdqv, sizeof(cmdqv), &told) &&
              told == sizeof(cmdqv), "asked for CMDQV");
    check(!cmdqv.flags && !cmdqv.__reserved && cmdqv.version == 1, "version 1");
    check(cmdqv.log2vcmdqs == 1 && cmdqv.log2vsids == 4, "2 queues and 16 streams for a guest");
    fails(-hw_info(device_id, IOMMU_HW_INFO_TYPE_INTEL_VTD, &cmdqv, 8, &told), EOPNOTSUPP,
          "asked for another vendor's");
}

static void interfaces(uint32_t others_parent)
{
    static uint32_t ids[INTERFACES];
    struct iommu_viommu_tegra241_cmdqv many;
    const void *read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t data[3] = {0};
    int made = 0;

    section("VIOMMU_ALLOC");
    fails(make_viommu(device_id, parent, 3, data, 16), EOPNOTSUPP, "of no type");
    fails(make_viommu(device_id, ioas, CMDQV, data, 16), ENOENT, "on no page table");
    fails(make_viommu(device_id, others_parent, CMDQV, data, 0), EINVAL, "on another unit's");
    fails(make_viommu(device_id, parent, CMDQV, NULL, 0), EINVAL, "without data");
    fails(make_viommu(device_id, parent, CMDQV, data, 8), EINVAL, "data without the length");
    fails(make_viommu(device_id, parent, CMDQV, data, 24), EINVAL, "longer data, even of zeros");
    fails(make_viommu(device_id, parent, CMDQV, (void *)nowhere, 16), EFAULT,
          "data that cannot be read");
    fails(make_viommu(device_id, parent, CMDQV, (void *)(uintptr_t)read_only, 16), EFAULT,
          "nor written");
    interface.out_vintf_mmap_offset = 77;
    viommu = (uint32_t)make_viommu(device_id, parent, CMDQV, &interface, sizeof(interface));
    check((int32_t)viommu > 0, "one");
    check(interface.out_vintf_mmap_offset == PAGE, "its page: the first of all");
    check(interface.out_vintf_mmap_length == VINTF_LENGTH, "64 KiB of it");
    for (long id; made != INTERFACES; ids[made++] = (uint32_t)id) {
        id = make_viommu(device_id, parent, CMDQV, &many, sizeof(many));
        if (id < 0)
            break;
        if (many.out_vintf_mmap_offset != PAGE + (made + 1) * (uint64_t)VINTF_LENGTH)
            exit(1);
    }
    check(made == INTERFACES - 1, "%d more", made);
    fails(make_viommu(device_id, parent, CMDQV, data, 16), ENOSPC, "and no other");
    fails(make_viommu(device_id, others_parent, CMDQV, data, 16), EINVAL, "on another unit's");
    check(make_viommu(device_id, parent, SMMUV3, NULL, 0) > 0, "but one without an interface");
    while (made)
        if (remove_object(ids[--made]))
            exit(1);
    check(true, "all gone");
}

static void streams(void)
{
    long name;

    section("VDEVICE_ALLOC");
    fails(make_vdevice(1 << 20), EINVAL, "a stream of 21 bits");
    fails(make_vdevice(~0ULL), EINVAL, "and of 64");
    name = make_vdevice(0xfffff);
    check(name > 0, "one of 20");
    fails(make_vdevice(7), EEXIST, "a second name");
    check(!remove_object((uint32_t)name) && make_vdevice(VIRTUAL_STREAM) > 0, "another instead");
}

static void queues(void)
{
    uint32_t plain = (uint32_t)make_viommu(device_id, parent, SMMUV3, NULL, 0);
    uint64_t base = rings[0];
    long id;

    section("HW_QUEUE_ALLOC");
    fails(make_queue(viommu, 0, 0, base, PAGE), EOPNOTSUPP, "of type 0");
    fails(make_queue(viommu, 2, 0, base, PAGE), EOPNOTSUPP, "of type 2");
    fails(make_queue(viommu, QUEUE, 0, base, 0), EINVAL, "of no length");
    fails(make_queue(viommu, QUEUE, 0, ~0ULL, 2), EOVERFLOW, "beyond all addresses");
    fails(make_queue(device_id, QUEUE, 0, base, PAGE), ENOENT, "on no vIOMMU");
    fails(make_queue(plain, QUEUE, 0, base, PAGE), EOPNOTSUPP, "on one without an interface");
    fails(make_queue(viommu, QUEUE, 9, GUEST_BASE - PAGE, 48), ENOENT, "where no memory is");
    fails(make_queue(viommu, QUEUE, 2, base, 48), EINVAL, "a third");
    fails(make_queue(viommu, QUEUE, 1, base, 48), EIO, "the second without the first");
    fails(make_queue(viommu, QUEUE, 0, base, 16), EINVAL, "of one command");
    fails(make_queue(viommu, QUEUE, 0, base, 48), EINVAL, "of three");
    fails(make_queue(viommu, QUEUE, 0, GUEST_BASE, 1 << 20), EINVAL, "of more than IDR1.CMDQS");
    fails(make_queue(viommu, QUEUE, 0, base + 32, 64), EINVAL, "not at a multiple of its length");
    fails(make_queue(viommu, QUEUE, 0, base + 8, 32), EINVAL, "nor of 32");
    id = make_queue(viommu, QUEUE, 0, base + 32, 32);
    check(id > 0, "the shortest");
    fails(make_queue(viommu, QUEUE, 0, base + 1, 48), EEXIST, "once more");
    check(!remove_object((uint32_t)id), "destroyed");
    for (unsigned i = 0; i != 2; i++) {
        queue_ids[i] = (uint32_t)make_queue(viommu, QUEUE, i, rings[i], PAGE);
        check((int32_t)queue_ids[i] > 0, "queue %u", i);
    }
    fails(-remove_object(queue_ids[0]), EBUSY, "the first goes last");
    fails(-remove_object(viommu), EBUSY, "and the vIOMMU after it");
    fails(unmap(ioas, GUEST_BASE, GUEST_PAGES * PAGE) ? -errno : 0, EBUSY, "the memory is pinned");
}

/* ---- the page ----------------------------------------------------------------------------- */

static void *map_page_of(size_t length, int protection, int flags, uint64_t offset)
{
    return mmap(NULL, length, protection, flags, iommufd, (off_t)offset);
}

/** A vIOMMU of which nothing else is used. */
static void keep_by_mapping(void)
{
    struct iommu_viommu_tegra241_cmdqv place;
    long other = make_viommu(device_id, parent, CMDQV, &place, sizeof(place));
    void *mapping = map_page_of(VINTF_LENGTH, PROT_READ, MAP_SHARED, place.out_vintf_mmap_offset);

    check(other > 0 && mapping != MAP_FAILED, "another interface's page");
    fails(-remove_object((uint32_t)other), EBUSY, "which keeps its vIOMMU");
    munmap(mapping, PAGE);
    fails(-remove_object((uint32_t)other), EBUSY, "what is left of it, too");
    munmap((char *)mapping + PAGE, VINTF_LENGTH - PAGE);
    check(!remove_object((uint32_t)other), "nothing is left");
}

static void find_queues(void)
{
    const uint64_t offset = interface.out_vintf_mmap_offset;

    first = queue_at(page, offset, 0, rings[0], ENTRIES);
    second = queue_at(page, offset, 1, rings[1], ENTRIES);
    for (int index = CONS_INDX; index <= GERRORN; index++)
        if (get(&first, index) || get(&second, index))
            exit(1);
    check(true, "all registers are 0");
}

static bool map_interface(void)
{
    enum { BOTH = PROT_READ | PROT_WRITE };
    const uint64_t there = interface.out_vintf_mmap_offset;

    page = map_page_of(VINTF_LENGTH, BOTH, MAP_SHARED, there);
    if (page == MAP_FAILED && errno == ENODEV)
        return false;
    section("part vintf: the page");
    check(page != MAP_FAILED, "mapped");
    check(pread(iommufd, &(uint32_t){0}, 4, IOMMUFD_SIM_REGISTERS + (off_t)there) == -1 &&
              errno == EINVAL, "pread is no call of an iommufd: EINVAL");
    check(map_page_of(VINTF_LENGTH, PROT_EXEC, MAP_SHARED, there) == MAP_FAILED && errno == EPERM,
          "to execute: EPERM");
    check(map_page_of(VINTF_LENGTH, BOTH, MAP_PRIVATE, there) == MAP_FAILED && errno == EINVAL,
          "privately: EINVAL");
    check(map_page_of(PAGE, BOTH, MAP_SHARED, there) == MAP_FAILED && errno == ENXIO,
          "the first bytes of it: ENXIO");
    check(map_page_of(VINTF_LENGTH, BOTH, MAP_SHARED, there + VINTF_LENGTH) == MAP_FAILED &&
              errno == ENXIO, "another interface's, which has gone: ENXIO");
    find_queues();
    keep_by_mapping();
    return true;
}

/** The same registers by calls, an extension of the simulator's. */
static bool call_interface(void)
{
    const off_t there = IOMMUFD_SIM_REGISTERS + (off_t)interface.out_vintf_mmap_offset;
    uint32_t values[2] = {7, 7};

    chapter = "by calls";
    section("by calls: the page");
    check(pread(iommufd, values, 4, there) == 4 && values[0] == 0, "a register by pread");
    check(pread(iommufd, values, 8, there) == -1 && errno == EINVAL, "8 bytes: EINVAL");
    check(pwrite(iommufd, values, 4, there + 2) == -1 && errno == EINVAL,
          "not at a multiple of 4: EINVAL");
    check(pwrite(iommufd, values, 4, there + VINTF_LENGTH) == -1 && errno == EINVAL,
          "beyond the page: EINVAL");
    check(pread(iommufd, values, 4, there - 4) == -1 && errno == EINVAL, "below all pages: EINVAL");
    find_queues();
    return true;
}

/** Returns when all that was stored in the first queue's registers before has been seen. */
static void settle(void)
{
    if (!execute(&second, synchronize(0)) || !execute(&second, synchronize(0)))
        exit(1);
}

static void registers(void)
{
    section("%s: enabling", chapter);
    push(&first, synchronize(0));
    ring_bell(&first);
    check(enable(&second, 1), "the second queue");
    settle();
    check(get(&first, CONS_INDX) == 0 && !get(&first, STATUS_EN_OK), "the first stands still");
    check(enable(&first, 1) && is_done(&first), "until it is enabled");
    set(&first, STATUS_EN_OK, 0xff);
    set(&first, CONS_INDX, 0x1234);
    set(&first, GERROR, 7);
    settle();
    check(get(&first, STATUS_EN_OK) == 1 && get(&first, CONS_INDX) == 1 && !get(&first, GERROR),
          "what only hardware changes");
    check(enable(&first, 0) && get(&first, CONS_INDX) == 1, "disabled: it stays where it is");
    push(&first, synchronize(0));
    ring_bell(&first);
    settle();
    check(get(&first, CONS_INDX) == 1, "and does nothing");
    set(&first, PROD_INDX, ENTRIES - 2);
    set(&first, CONS_INDX, ENTRIES - 2);
    first.producer = ENTRIES - 2;
    check(enable(&first, 1), "enabled, from another place");
    for (int i = 0; i != 4; i++)
        push(&first, synchronize(0));
    ring_bell(&first);
    check(is_done(&first) && get(&first, CONS_INDX) == ENTRIES + 2, "round the end of the ring");
    for (int i = 0; i != 3; i++) {
        for (int j = 0; j != ENTRIES; j++)
            push(&first, synchronize(0));
        ring_bell(&first);
        if (!is_done(&first))
            exit(1);
    }
    check(true, "a full ring, three times");
}

/* ---- commands ----------------------------------------------------------------------------- */

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

/* ---- errors ------------------------------------------------------------------------------- */

static void check_errors(uint64_t queues, const char *what)
{
    struct queue_event event, expected = {{0, next_number++}, {{queues, 0}}};
    struct pollfd waiting = {.fd = event_queue, .events = POLLIN};

    if (poll(&waiting, 1, 10000) != 1 || read(event_queue, &event, sizeof(event)) != sizeof(event))
        exit(1);
    if (memcmp(&event, &expected, sizeof(event)))
        printf("%x %u %llx %llx\n", event.header.flags, event.header.sequence,
               (unsigned long long)event.errors.lvcmdq_err_map[0],
               (unsigned long long)event.errors.lvcmdq_err_map[1]);
    check(!memcmp(&event, &expected, sizeof(event)), "event: %s", what);
}

/** The queue stands at a command with a reason, and the guest is told. */
static void check_stopped(struct queue *queue, uint32_t reason, uint64_t queues, const char *what)
{
    uint32_t error = get(queue, GERRORN) ^ 1;
    uint32_t place = (queue->producer - 1) & (2 * queue->entries - 1);

    ring_bell(queue);
    check(becomes(queue, GERROR, ~0u, error) && get(queue, CONS_INDX) == (place | reason << 24),
          "%s: stops, reason %u", what, reason);
    check_errors(queues, "which queues");
}

/** What the guest's driver does: a CMD_SYNC in its place, and the error is acknowledged. */
static void resume(struct queue *queue)
{
    queue->ring[get(queue, CONS_INDX) & (queue->entries - 1)] = synchronize(0);
    set(queue, GERRORN, get(queue, GERROR));
    check(is_done(queue), "goes on");
}

static void refused(uint64_t lower, uint64_t upper, uint32_t reason, const char *what)
{
    push(&first, (struct smmu_command){{lower, upper}});
    check_stopped(&first, reason, 1, what);
    resume(&first);
}

static void errors(void)
{
    const uint64_t stream = (uint64_t)VIRTUAL_STREAM << 32;

    section("%s: commands that a guest may not send", chapter);
    veventq_alloc("queue errors", viommu, QUEUE_ERRORS, 2, &event_queue);
    next_number = 0;
    refused(0, 0, CERROR_ILL_OPCODE, "no operation");
    refused(0x01 | stream, 0, CERROR_ILL_OPCODE, "PREFETCH_CONFIG");
    refused(0x03 | stream, 1, CERROR_ILL_OPCODE, "CFGI_STE");
    refused(CFGI_CD | stream, 0, CERROR_ILL_OPCODE, "CFGI_CD");
    refused(NH_ALL, 0, CERROR_ILL_OPCODE, "NH_ALL");
    refused(NH_VAA, HERE, CERROR_ILL_OPCODE, "NH_VAA");
    refused(0x28, 0, CERROR_ILL_OPCODE, "S12_VMALL");
    refused(NSNH_ALL, 0, CERROR_ILL_OPCODE, "NSNH_ALL");
    refused(0x44 | stream, 0, CERROR_ILL_OPCODE, "RESUME");
    refused(NH_VA, HERE | 1 << 10, CERROR_ILL_OPCODE, "a granule without range or level");
    refused(ATC_INV | stream, 53, CERROR_ILL_OPCODE, "ATC_INV of 2^53 pages");
    refused(ATC_INV | 99ULL << 32, 52, CERROR_ILL_ACCESS, "ATC_INV of a stream that is not there");
    for (unsigned signal = 1; signal != 4; signal++)
        refused(synchronize(signal).words[0], 0, CERROR_ILL_OPCODE, "CMD_SYNC that signals");

    section("%s: what waits behind an error", chapter);
    make_stale(tlbi(NSNH_ALL, 0, 0));
    push(&first, tlbi(NH_ASID, 11, 0));
    push(&first, tlbi(NH_ALL, 0, 0));
    check_stopped(&first, CERROR_ILL_OPCODE, 1, "after a good one");
    push(&first, tlbi(NH_ASID, 12, 0));
    ring_bell(&first);
    settle();
    check(renewed() == 1, "what was before it is done, and nothing behind");
    check(enable(&first, 0) && enable(&first, 1), "disabled and enabled");
    settle();
    check(renewed() == 1 && get(&first, GERROR) != get(&first, GERRORN), "it still stands");
    push(&second, tlbi(NH_ALL, 0, 0));
    check_stopped(&second, CERROR_ILL_OPCODE, 3, "the other queue, too");
    resume(&first);
    check(renewed() == 3, "and all is done");
    resume(&second);
    push(&second, tlbi(NH_ALL, 0, 0));
    check_stopped(&second, CERROR_ILL_OPCODE, 2, "the other queue alone");
    resume(&second);
}

/** The queue of events holds two. */
static void losses(void)
{
    struct iommufd_vevent_header header;
    struct queue_event event;

    section("%s: events that are lost", chapter);
    for (int i = 0; i != 5; i++) {
        uint32_t error = get(&first, GERRORN) ^ 1;

        push(&first, tlbi(NH_ALL, 0, 0));
        ring_bell(&first);
        if (!becomes(&first, GERROR, ~0u, error))
            exit(1);
        settle();
        resume(&first);
    }
    check_errors(1, "one of two");
    check_errors(1, "the other");
    check(read(event_queue, &event, sizeof(event)) == sizeof(header), "then a header alone");
    memcpy(&header, &event, sizeof(header));
    check(header.flags == IOMMU_VEVENTQ_FLAG_LOST_EVENTS && header.sequence == next_number + 2,
          "which tells that three are lost");
}

/* ---- the end ------------------------------------------------------------------------------ */

static void ending(void)
{
    const int times = page ? 200 : 20;
    uint32_t place;

    section("%s: queues that go while they work", chapter);
    for (int i = 0; i != times; i++) {
        for (int j = 0; j != ENTRIES; j++)
            push(&second, tlbi(NH_ASID, 12, 0));
        ring_bell(&second);
        if (remove_object(queue_ids[1]))
            exit(1);
        memset(at(rings[1]), 0, PAGE);
        queue_ids[1] = (uint32_t)make_queue(viommu, QUEUE, 1, rings[1], PAGE);
        second.producer = 0;
        if (get(&second, CONS_INDX) || get(&second, GERROR) || !enable(&second, 1))
            exit(1);
    }
    check(execute(&second, synchronize(0)), "and come again, %d times", times);
    check(remove_object(queue_ids[1]) == 0 && !get(&second, STATUS_EN_OK), "one is gone");
    place = get(&second, CONS_INDX);
    push(&second, synchronize(0));
    ring_bell(&second);
    check(execute(&first, synchronize(0)) && execute(&first, synchronize(0)) &&
              get(&second, CONS_INDX) == place, "only the other works");
    check(remove_object(queue_ids[0]) == 0, "both are gone");
}

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
