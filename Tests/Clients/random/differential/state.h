/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differential.c knows of the objects that it has made, on each of its two open files, and the
 * arguments that it makes up from that. Ids are kept by kind; which of them are gone already is not
 * always known, and need not be.
 */
#ifndef DIFFERENTIAL_STATE_H
#define DIFFERENTIAL_STATE_H

#include "mock/near_miss.h"
#include "transcript/type1.h"

/** FAULTY ones and TRACKED ones are HWPTs too, of any kind and of the plain one. */
enum kind { IOAS, IDEV, STDEV, HWPT, PARENT, NESTED, FAULTY, TRACKED, FAULT, VIOMMU, VDEVICE,
            VEVENTQ, HWQUEUE, KINDS };
enum { SPACES = 2, BUFFER_PAGES = 32, SHARED_PAGES = 8, IOVA_PAGES = 16, KEPT = 6 };

struct device {
    uint32_t stdev, idev;
    uint32_t pasids[8]; /* that have something attached */
};

/** Where something was mapped, so that later calls find it. */
struct mapping {
    uint64_t iova, length, memory;
};

static struct space {
    int fd;
    const char *name;
    uint32_t ids[KINDS][KEPT];
    unsigned count[KINDS];
    struct device devices[3];
    struct mapping mappings[8];
} spaces[SPACES] = {{.fd = -1, .name = "A"}, {.fd = -1, .name = "B"}}, *space = &spaces[0];

static struct {
    const char *name;
    int fd;
} accesses[] = {{"access0", -1}, {"access1", -1}, {"access2", -1}},
  queues[] = {{"queue0", -1}, {"queue1", -1}, {"queue2", -1}, {"queue3", -1}},
  files[] = {{"memory", -1}, {"pipe", -1}, {"dmabuf0", -1}, {"dmabuf1", -1}};
enum { MEMORY, PIPE, DMABUF };

/** Large pages stay on: which addresses are written through one entry is then chance. */
static bool large;

static unsigned char *shared;
static unsigned char remembered[(BUFFER_PAGES + SHARED_PAGES) * PAGE];

/* ---- the commands that no header has ------------------------------------------------------ */

static const struct command TYPE1_GET_INFO = TYPE1_GET_INFO_AS("TYPE1_GET_INFO");
static const struct command TYPE1_MAP = TYPE1_MAP_AS("TYPE1_MAP");
static const struct command TYPE1_UNMAP = TYPE1_UNMAP_AS("TYPE1_UNMAP");

TEST_COMMAND(DMABUF_GET, TEST(dmabuf_get.length, "length", HEX),
             TEST(dmabuf_get.open_flags, "open_flags", HEX));
TEST_COMMAND(DMABUF_REVOKE, TEST(dmabuf_revoke.dmabuf_fd, "dmabuf_fd", FILE_IN),
             TEST(dmabuf_revoke.revoked, "revoked", DEC));

/* ---- what there is ------------------------------------------------------------------------ */

static void name_descriptors(void)
{
    named_fd_count = 0;
    for (unsigned i = 0; i != SPACES; i++)
        if (spaces[i].fd >= 0)
            name_fd(spaces[i].name, spaces[i].fd);
    for (unsigned i = 0; i != COUNT(accesses); i++)
        if (accesses[i].fd >= 0)
            name_fd(accesses[i].name, accesses[i].fd);
    for (unsigned i = 0; i != COUNT(queues); i++)
        if (queues[i].fd >= 0)
            name_fd(queues[i].name, queues[i].fd);
    for (unsigned i = 0; i != COUNT(files); i++)
        if (files[i].fd >= 0)
            name_fd(files[i].name, files[i].fd);
}

static int any_descriptor(void)
{
    return named_fds[below((unsigned)named_fd_count)].fd;
}

static uint32_t pick(enum kind kind)
{
    if (miss(4))
        kind = below(KINDS);
    if (!space->count[kind] || miss(2))
        return below(30);
    return space->ids[kind][below(space->count[kind])];
}

static uint32_t any_id(void)
{
    return pick(below(KINDS));
}

static void keep(enum kind kind, uint32_t id)
{
    if (!id)
        return;
    if (space->count[kind] == KEPT)
        space->ids[kind][below(KEPT)] = id;
    else
        space->ids[kind][space->count[kind]++] = id;
}

static void forget(uint32_t id)
{
    for (unsigned kind = 0; kind != KINDS; kind++)
        for (unsigned i = 0; i < space->count[kind];)
            if (space->ids[kind][i] == id)
                space->ids[kind][i] = space->ids[kind][--space->count[kind]];
            else
                i++;
}

static struct device *device_of(uint32_t stdev)
{
    for (unsigned i = 0; i != COUNT(space->devices); i++)
        if (space->devices[i].stdev && space->devices[i].stdev == stdev)
            return &space->devices[i];
    return NULL;
}

static void remember_other(void)
{
    memcpy(remembered, buffer, BUFFER_PAGES * PAGE);
    memcpy(remembered + BUFFER_PAGES * PAGE, shared, SHARED_PAGES * PAGE);
}

static void print_other_changes(const char **bar)
{
    for (unsigned page = 0; page != BUFFER_PAGES + SHARED_PAGES; page++) {
        bool is_shared = page >= BUFFER_PAGES;
        unsigned index = is_shared ? page - BUFFER_PAGES : page;
        const unsigned char *now = (is_shared ? shared : buffer) + index * PAGE;

        if (memcmp(now, remembered + page * PAGE, PAGE))
            print_run(is_shared ? "shared" : "buffer", index * (long)PAGE, now, PAGE, bar);
    }
}

static bool print_own_answer(const struct command *command, long result)
{
    if (command != &DMABUF_GET || result < 0)
        return false;
    printf(" -> an fd");
    return true;
}

/** On the struct's own fields only: what the generators below make is repeatable. */
static bool repeatable(const struct command *command, const unsigned char *bytes)
{
    if (command->request == IOMMU_HW_QUEUE_ALLOC) {
        const struct iommu_hw_queue_alloc *cmd = (const void *)bytes;

        /* whether pages follow each other in physical memory is chance */
        return cmd->nesting_parent_iova % PAGE + cmd->length <= PAGE || cmd->length >> 50;
    }
    if (command->request == IOMMU_OPTION) {
        const struct iommu_option *cmd = (const void *)bytes;

        return large || cmd->op != IOMMU_OPTION_OP_SET || cmd->val64 != 1 ||
               cmd->option_id != IOMMU_OPTION_HUGE_PAGES;
    }
    if (command == &DESTROY) { /* a device that goes must have no PASIDs left */
        const struct device *device = device_of(((const struct iommu_destroy *)bytes)->id);

        for (unsigned i = 0; device && i != COUNT(device->pasids); i++)
            if (device->pasids[i])
                return false;
    }
    if (command == &PASID_ATTACH) { /* no more of them than are kept in mind */
        const struct device *device = device_of(((const struct iommu_test_cmd *)bytes)->id);

        return !device || !device->pasids[COUNT(device->pasids) - 1];
    }
    if (command->request == IOMMU_HWPT_GET_DIRTY_BITMAP)
        return ((const struct iommu_hwpt_get_dirty_bitmap *)bytes)->length <= 1UL << 40;
    return true;
}

/* ---- arguments ---------------------------------------------------------------------------- */

static uint64_t some_iova(void)
{
    uint64_t iova = MOCK_START + below(IOVA_PAGES) * PAGE;

    return chance(8) ? iova + 0x800 : iova;
}

/** What is an IOVA to MOCK_FLAGS_ACCESS_SYZ: the number of an area, and above it an offset. */
static uint64_t some_syz_iova(unsigned bound, unsigned unit)
{
    uint64_t area = below(4);

    return area | below(bound) * unit << 32;
}

static void remember_mapping(uint64_t iova, uint64_t length, uint64_t memory)
{
    space->mappings[below(COUNT(space->mappings))] = (struct mapping){iova, length, memory};
}

static struct mapping some_mapping(void)
{
    struct mapping *mapping = &space->mappings[below(COUNT(space->mappings))];

    return mapping->length ? *mapping : (struct mapping){some_iova(), PAGE, (uintptr_t)buffer};
}

static uint64_t some_length(void)
{
    return chance(6) ? 0x800 * (1 + below(5)) : (1 + below(4)) * PAGE;
}

/** Memory to be mapped: the process's own, or shared. */
static uint64_t some_memory(void)
{
    uint64_t offset = chance(5) ? 0x800 : 0;

    if (chance(25))
        return (uintptr_t)shared + below(SHARED_PAGES) * PAGE + offset;
    if (chance(4)) /* it ends, or can only be read */
        return (uintptr_t)data_place.base + below(5) * PAGE + offset;
    return (uintptr_t)buffer + below(BUFFER_PAGES) * PAGE + offset;
}

static uint32_t some_permission(void)
{
    static const uint32_t flags[] = {R | W, R | W, R | W, R, W};

    return flags[below(COUNT(flags))];
}

static uint32_t some_pasid(void)
{
    static const uint32_t pasids[] = {1, 2, 3, 1024, 1024, 0, (1 << 20) - 1, 1 << 20};

    return pasids[below(chance(20) ? COUNT(pasids) : 5)];
}

static enum kind some_table(void)
{
    static const enum kind kinds[] = {IOAS, HWPT, TRACKED, PARENT, NESTED, NESTED, FAULTY, FAULTY};

    return kinds[below(COUNT(kinds))];
}

/** Puts `bytes` into the data place and gives its address; sometimes it cannot be read in full. */
static uint64_t some_data(const void *bytes, size_t length)
{
    uintptr_t at = some_address(&data_place, length, 6);

    if (length)
        put(&data_place, at, bytes, length);
    return at;
}

/** Where an answer goes; `odd` percent of the times less than `bound` bytes before what cannot be written. */
static uint64_t some_room(unsigned odd, unsigned bound)
{
    uint64_t at = some_data(NULL, 0);

    return chance(odd) ? at + 2 * PAGE - 0x100 - below(bound) : at;
}

static uint64_t some_output(void)
{
    clear_place(&data_place, 0x5a);
    return some_room(5, 12);
}

static struct answer call(const struct command *command, void *bytes)
{
    name_descriptors();
    return call_on(space->fd, command, bytes);
}

/** Whether the call succeeded and told everything up to `end`. */
static bool told(struct answer answer, size_t end)
{
    return !answer.result && answer.length >= end;
}

#define TOLD(answer, type, member) told(answer, ENDS(type, member))

#endif /* DIFFERENTIAL_STATE_H */
