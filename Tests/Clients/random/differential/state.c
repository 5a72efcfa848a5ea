/* SPDX-License-Identifier: Apache-2.0 */
#include "state.h"

struct context contexts[CONTEXTS] = {{.fd = -1, .name = "A"}, {.fd = -1, .name = "B"}};
struct context *context = &contexts[0];
struct named_file accesses[ACCESSES] = {{"access0", -1}, {"access1", -1}, {"access2", -1}};
struct named_file queues[QUEUES] = {{"queue0", -1}, {"queue1", -1}, {"queue2", -1}, {"queue3", -1}};
struct named_file files[FILES] = {{"memory", -1}, {"pipe", -1}, {"dmabuf0", -1}, {"dmabuf1", -1}};
bool large;
unsigned char *shared_memory;

static unsigned char snapshot[(BUFFER_PAGES + SHARED_PAGES) * PAGE];

/* ---- objects ------------------------------------------------------------------------------ */

void name_descriptors(void)
{
    remove_all_fd_names();
    for (unsigned i = 0; i != CONTEXTS; i++)
        if (contexts[i].fd >= 0)
            name_fd(contexts[i].name, contexts[i].fd);
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

static int some_fd(void)
{
    return named_fd(below(named_fd_count()));
}

uint32_t some_id(enum kind kind)
{
    if (should_miss(4))
        kind = below(KINDS);
    if (!context->count[kind] || should_miss(2))
        return below(30);
    return context->ids[kind][below(context->count[kind])];
}

uint32_t some_id_of_any_kind(void)
{
    return some_id(below(KINDS));
}

void remember_id(enum kind kind, uint32_t id)
{
    if (!id)
        return;
    if (context->count[kind] == MAX_IDS)
        context->ids[kind][below(MAX_IDS)] = id;
    else
        context->ids[kind][context->count[kind]++] = id;
}

void forget_id(uint32_t id)
{
    for (unsigned kind = 0; kind != KINDS; kind++)
        for (unsigned i = 0; i < context->count[kind];)
            if (context->ids[kind][i] == id)
                context->ids[kind][i] = context->ids[kind][--context->count[kind]];
            else
                i++;
}

struct device *device_of(uint32_t stdev)
{
    for (unsigned i = 0; i != COUNT(context->devices); i++)
        if (context->devices[i].stdev && context->devices[i].stdev == stdev)
            return &context->devices[i];
    return NULL;
}

static void snapshot_memory(void)
{
    memcpy(snapshot, buffer, BUFFER_PAGES * PAGE);
    memcpy(snapshot + BUFFER_PAGES * PAGE, shared_memory, SHARED_PAGES * PAGE);
}

static void print_memory_changes(const char **bar)
{
    for (unsigned page = 0; page != BUFFER_PAGES + SHARED_PAGES; page++) {
        bool is_shared = page >= BUFFER_PAGES;
        unsigned index = is_shared ? page - BUFFER_PAGES : page;
        const unsigned char *now = (is_shared ? shared_memory : buffer) + index * PAGE;

        if (memcmp(now, snapshot + page * PAGE, PAGE))
            print_byte_run(is_shared ? "shared" : "buffer", index * (long)PAGE, now, PAGE, bar);
    }
}

static bool print_dmabuf_result(const struct command *command, long result)
{
    if (command != &DMABUF_GET || result < 0)
        return false;
    printf(" -> an fd");
    return true;
}

bool is_repeatable(const struct command *command, const unsigned char *bytes)
{
    if (command->request == IOMMU_HW_QUEUE_ALLOC) {
        const struct iommu_hw_queue_alloc *cmd = (const void *)bytes;

        /* Physical memory differs: two pages may or may not be contiguous. */
        return cmd->nesting_parent_iova % PAGE + cmd->length <= PAGE || cmd->length >> 50;
    }
    if (command->request == IOMMU_OPTION) {
        const struct iommu_option *cmd = (const void *)bytes;

        return large || cmd->op != IOMMU_OPTION_OP_SET || cmd->val64 != 1 ||
               cmd->option_id != IOMMU_OPTION_HUGE_PAGES;
    }
    if (command == &DESTROY) { /* the kernel warns of a device with attached PASIDs */
        const struct device *device = device_of(((const struct iommu_destroy *)bytes)->id);

        for (unsigned i = 0; device && i != COUNT(device->pasids); i++)
            if (device->pasids[i])
                return false;
    }
    if (command == &PASID_ATTACH) { /* no more PASIDs than struct device can record */
        const struct device *device = device_of(((const struct iommu_test_cmd *)bytes)->id);

        return !device || !device->pasids[COUNT(device->pasids) - 1];
    }
    if (command->request == IOMMU_HWPT_GET_DIRTY_BITMAP)
        return ((const struct iommu_hwpt_get_dirty_bitmap *)bytes)->length <= 1UL << 40;
    return true;
}

static const struct near_miss_client client = {
    .some_id = some_id_of_any_kind,
    .some_fd = some_fd,
    .is_repeatable = is_repeatable,
    .snapshot = snapshot_memory,
    .print_changes = print_memory_changes,
    .print_result = print_dmabuf_result,
};

void make_memory(void)
{
    int pipe_ends[2];
    int file = memfd_create("memory", MFD_CLOEXEC);

    buffer = map_region_at("buffer", 0x200000000000, BUFFER_PAGES * PAGE, PROT_READ | PROT_WRITE);
    shared_memory =
        map_region_at("shared", 0x220000000000, SHARED_PAGES * PAGE, PROT_READ | PROT_WRITE);
    if (file < 0 || ftruncate(file, SHARED_PAGES * PAGE) || pipe(pipe_ends) ||
        mmap(shared_memory, SHARED_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             file, 0) == MAP_FAILED)
        abort();
    for (unsigned page = 0; page != BUFFER_PAGES; page++)
        memset(buffer + page * PAGE, (int)page, PAGE);
    for (unsigned page = 0; page != SHARED_PAGES; page++)
        memset(shared_memory + page * PAGE, (int)(0x80 + page), PAGE);
    files[MEMORY].fd = file;
    files[PIPE].fd = pipe_ends[0];
    begin_near_misses(&client);
}

/* ---- arguments ---------------------------------------------------------------------------- */

uint64_t some_iova(void)
{
    uint64_t iova = MOCK_START + below(IOVA_PAGES) * PAGE;

    return chance(8) ? iova + 0x800 : iova;
}

uint64_t some_syz_iova(unsigned bound, unsigned unit)
{
    uint64_t area = below(4);

    return area | below(bound) * unit << 32;
}

void remember_mapping(uint64_t iova, uint64_t length, uint64_t memory)
{
    context->mappings[below(COUNT(context->mappings))] = (struct mapping){iova, length, memory};
}

struct mapping some_mapping(void)
{
    struct mapping *mapping = &context->mappings[below(COUNT(context->mappings))];

    return mapping->length ? *mapping : (struct mapping){some_iova(), PAGE, (uintptr_t)buffer};
}

uint64_t some_length(void)
{
    return chance(6) ? 0x800 * (1 + below(5)) : (1 + below(4)) * PAGE;
}

uint64_t some_memory(void)
{
    uint64_t offset = chance(5) ? 0x800 : 0;

    if (chance(25))
        return (uintptr_t)shared_memory + below(SHARED_PAGES) * PAGE + offset;
    if (chance(4)) /* memory with a hole or a read-only page */
        return (uintptr_t)data_memory.base + below(5) * PAGE + offset;
    return (uintptr_t)buffer + below(BUFFER_PAGES) * PAGE + offset;
}

uint32_t some_permission(void)
{
    static const uint32_t flags[] = {R | W, R | W, R | W, R, W};

    return flags[below(COUNT(flags))];
}

uint32_t some_pasid(void)
{
    static const uint32_t pasids[] = {1, 2, 3, 1024, 1024, 0, (1 << 20) - 1, 1 << 20};

    return pasids[below(chance(20) ? COUNT(pasids) : 5)];
}

enum kind some_table(void)
{
    static const enum kind kinds[] = {IOAS, HWPT, TRACKED, PARENT, NESTED, NESTED, FAULTY, FAULTY};

    return kinds[below(COUNT(kinds))];
}

uint64_t some_data(const void *bytes, size_t length)
{
    uintptr_t at = some_address(&data_memory, length, 6);

    if (length)
        write_guarded(&data_memory, at, bytes, length);
    return at;
}

uint64_t some_output_address(unsigned odd, unsigned bound)
{
    uint64_t at = some_data(NULL, 0);

    return chance(odd) ? at + 2 * PAGE - 0x100 - below(bound) : at;
}

uint64_t some_output(void)
{
    fill_guarded(&data_memory, 0x5a);
    return some_output_address(5, 12);
}

struct answer call(const struct command *command, void *bytes)
{
    name_descriptors();
    return call_on(context->fd, command, bytes);
}

bool is_answered(struct answer answer, size_t end)
{
    return !answer.result && answer.length >= end;
}
