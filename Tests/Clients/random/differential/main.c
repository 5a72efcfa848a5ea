/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything at once, repeatable by seed: all commands, type1's and the selftest's operations on
 * two open files with shared memory, descriptors and processes, most of them valid and the others
 * near misses (near_miss.h says of what kinds).
 *
 *   differential SEED COUNT [large]
 *
 * What the answer depends on beyond the calls is kept away: physical addresses decide nothing,
 * since large pages are off or, with "large", nobody asks what was written; no PASID is left
 * attached to a device that goes, which the kernel does not bear.
 */
#include "accesses.h"
#include "devices.h"
#include "ioas.h"
#include "tables.h"
#include "units.h"

#include <pthread.h>

/* ---- other processes, and a new beginning ------------------------------------------------- */

static void another_process_step(void);

static void do_another_process(void)
{
    uint64_t seed = random_next();
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        random_state = seed;
        for (unsigned i = 1 + below(3); i; i--)
            another_process_step();
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    printf("child -> %d\n", status);
}

static void *thread_step(void *unused)
{
    (void)unused;
    another_process_step();
    return NULL;
}

static void do_thread(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, thread_step, NULL))
        abort();
    pthread_join(thread, NULL);
}

/** One or two of everything. */
static void populate(void)
{
    static void (*const some[])(void) = {
        do_ioas_alloc, do_ioas_alloc, do_device,     do_device,   do_map,      do_map,
        do_map,        do_map_file,   do_hwpt_alloc, do_parent,   do_viommu,   do_vdevice,
        do_fault_queue, do_veventq,   do_hwpt_alloc, do_hwpt_alloc, do_hwpt_alloc, do_access,
        do_hw_queue,   do_replace,    do_hwpt_alloc, do_hwpt_alloc, do_map,    do_map,
        do_replace,    do_pasid_attach, do_tracking,
    };

    missing = false;
    for (size_t i = 0; i != COUNT(some); i++)
        some[i]();
    missing = true;
}

static void do_reopen(void)
{
    for (unsigned i = 0; i != COUNT(space->devices); i++)
        if (space->devices[i].stdev)
            detach_pasids(&space->devices[i]);
    printf("reopen %s -> %d\n", space->name, close(space->fd));
    *space = (struct space){.fd = open_iommufd(), .name = space->name};
    if (chance(80))
        populate();
}

/* ---- steps -------------------------------------------------------------------------------- */

static const struct {
    void (*run)(void);
    unsigned weight;
} steps[] = {
    {do_ioas_alloc, 12},   {do_device, 16},         {do_map, 40},         {do_map_file, 16},
    {do_copy, 20},         {do_unmap, 24},          {do_allow, 4},        {do_ranges, 10},
    {do_option, 10},       {do_change_process, 4},  {do_noiommu, 2},      {do_limit, 4},
    {do_vfio_ioas, 6},     {do_type1_map, 10},      {do_type1_unmap, 10}, {do_type1_info, 6},
    {do_plain, 5},         {do_wrong_request, 6},   {do_hwpt_alloc, 34},  {do_parent, 3},
    {do_hw_info, 8},
    {do_tracking, 10},     {do_dirty_bitmap, 14},   {do_dirty, 10},       {do_invalidate, 16},
    {do_fault_queue, 6},   {do_viommu, 8},          {do_vdevice, 10},     {do_veventq, 6},
    {do_hw_queue, 10},     {do_iopf, 14},           {do_vevent, 8},       {use_queue, 30},
    {do_replace, 20},      {do_pasid_attach, 20},    {do_pasid_replace, 8}, {do_pasid_detach, 8},
    {do_pasid_check, 8},   {do_destroy, 11},        {do_destroy_device, 3}, {do_reserve, 3},
    {do_check_map, 12},    {do_check_refs, 8},      {do_check_iotlb, 6},  {do_check_cache, 6},
    {do_memory_limit, 3},  {do_unknown, 2},         {do_access, 12},      {do_access_pages, 16},
    {do_access_rw, 20},    {do_access_destroy, 10}, {do_access_replace, 6}, {do_dmabuf, 5},
    {do_revoke, 3},        {do_other_file, 3},      {do_another_process, 5}, {do_thread, 2},
    {do_reopen, 1},
};

static void step(void)
{
    unsigned total = 0, at;

    space = &spaces[below(4) == 0];
    for (size_t i = 0; i != COUNT(steps); i++)
        total += steps[i].weight;
    at = below(total);
    for (size_t i = 0; i != COUNT(steps); i++) {
        if (at < steps[i].weight) {
            steps[i].run();
            return;
        }
        at -= steps[i].weight;
    }
}

/** Steps after which the parent knows as much as before. */
static void another_process_step(void)
{
    static void (*const some[])(void) = {do_map, do_map, do_copy, do_unmap, do_access_rw,
                                         do_change_process, do_map_file, do_check_map,
                                         do_access_destroy};

    some[below(COUNT(some))]();
}

static void make_memory(void)
{
    int pipe_ends[2];
    int file = memfd_create("memory", MFD_CLOEXEC);

    buffer = region_at("buffer", 0x200000000000, BUFFER_PAGES * PAGE, PROT_READ | PROT_WRITE);
    shared = region_at("shared", 0x220000000000, SHARED_PAGES * PAGE, PROT_READ | PROT_WRITE);
    if (file < 0 || ftruncate(file, SHARED_PAGES * PAGE) || pipe(pipe_ends) ||
        mmap(shared, SHARED_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
             0) == MAP_FAILED)
        abort();
    for (unsigned page = 0; page != BUFFER_PAGES; page++)
        memset(buffer + page * PAGE, (int)page, PAGE);
    for (unsigned page = 0; page != SHARED_PAGES; page++)
        memset(shared + page * PAGE, (int)(0x80 + page), PAGE);
    files[MEMORY].fd = file;
    files[PIPE].fd = pipe_ends[0];
    make_place(&argument_place, "argument", 0x210000000000);
    make_place(&data_place, "data", 0x230000000000);
}

int main(int argc, char **argv)
{
    unsigned count = 1000;

    part = "mock";
    random_arguments(argc, argv, &count);
    large = argc > 3;
    begin("everything at once");
    memory_limit(65536);
    close(iommufd);
    make_memory();
    for (space = spaces; space != spaces + SPACES; space++) {
        space->fd = open_iommufd();
        populate();
    }
    for (unsigned i = 0; i != count; i++)
        step();
    for (space = spaces; space != spaces + SPACES; space++)
        for (unsigned i = 0; i != COUNT(space->devices); i++)
            if (space->devices[i].stdev)
                detach_pasids(&space->devices[i]);
    iommufd = spaces[0].fd;
    memory_limit(65536);
    return 0;
}
