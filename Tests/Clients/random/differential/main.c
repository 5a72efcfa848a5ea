/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random calls of all commands, of type1's commands and of the selftest's operations, in two
 * contexts that share memory, file descriptors and processes. Most calls are valid, the others are
 * near misses (near_miss.h).
 *
 *   differential SEED COUNT [large]
 *
 * The answers depend on nothing but the calls. Physical addresses have no effect: large pages are
 * disabled, or, with "large", no dirty bitmap is read. No device is destroyed while a PASID of it
 * is attached, of which the kernel warns.
 */
#include "steps.h"

#include <pthread.h>

/* ---- other threads and processes, and new contexts ----------------------------------------- */

/**
 * Issues a call that creates no object whose ID the client records: so that a parent need not know
 * what its child has done.
 */
static void stateless_step(void)
{
    static void (*const some[])(void) = {do_map,      do_map,       do_copy,
                                         do_unmap,    do_access_rw, do_change_process,
                                         do_map_file, do_check_map, do_access_destroy};

    some[below(COUNT(some))]();
}

static void do_process(void)
{
    uint64_t seed = random_next();
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        random_seed(seed);
        for (unsigned i = 1 + below(3); i; i--)
            stateless_step();
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    printf("child -> %d\n", status);
}

static void *thread_step(void *unused)
{
    (void)unused;
    stateless_step();
    return NULL;
}

static void do_thread(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, thread_step, NULL))
        abort();
    pthread_join(thread, NULL);
}

/** Creates one or two objects of each kind. */
static void populate(void)
{
    static void (*const some[])(void) = {
        do_ioas_alloc, do_ioas_alloc, do_device,     do_device,   do_map,      do_map,
        do_map,        do_map_file,   do_hwpt_alloc, do_parent,   do_viommu,   do_vdevice,
        do_fault_queue, do_veventq,   do_hwpt_alloc, do_hwpt_alloc, do_hwpt_alloc, do_access,
        do_hw_queue,   do_replace,    do_hwpt_alloc, do_hwpt_alloc, do_map,    do_map,
        do_replace,    do_pasid_attach, do_tracking,
    };

    misses_enabled = false;
    for (size_t i = 0; i != COUNT(some); i++)
        some[i]();
    misses_enabled = true;
}

static void do_reopen(void)
{
    for (unsigned i = 0; i != COUNT(context->devices); i++)
        if (context->devices[i].stdev)
            detach_pasids(&context->devices[i]);
    printf("reopen %s -> %d\n", context->name, close(context->fd));
    *context = (struct context){.fd = open_iommufd(), .name = context->name};
    if (chance(80))
        populate();
}

/* ---- steps -------------------------------------------------------------------------------- */

static const struct {
    void (*run)(void);
    unsigned weight;
} steps[] = {
    {do_ioas_alloc, 12},    {do_device, 16},        {do_map, 40},           {do_map_file, 16},
    {do_copy, 20},          {do_unmap, 24},         {do_allow, 4},          {do_ranges, 10},
    {do_option, 10},        {do_change_process, 4}, {do_noiommu, 2},        {do_limit, 4},
    {do_vfio_ioas, 6},      {do_type1_map, 10},     {do_type1_unmap, 10},   {do_type1_info, 6},
    {do_vfio_request, 5},   {do_wrong_request, 6},  {do_hwpt_alloc, 34},    {do_parent, 3},
    {do_hw_info, 8},        {do_tracking, 10},      {do_dirty_bitmap, 14},  {do_dirty, 10},
    {do_invalidate, 16},    {do_fault_queue, 6},    {do_viommu, 8},         {do_vdevice, 10},
    {do_veventq, 6},        {do_hw_queue, 10},      {do_iopf, 14},          {do_vevent, 8},
    {do_queue_io, 30},      {do_replace, 20},       {do_pasid_attach, 20},  {do_pasid_replace, 8},
    {do_pasid_detach, 8},   {do_pasid_check, 8},    {do_destroy, 11},       {do_destroy_device, 3},
    {do_reserve, 3},        {do_check_map, 12},     {do_check_refs, 8},     {do_check_iotlb, 6},
    {do_check_cache, 6},    {do_memory_limit, 3},   {do_unknown, 2},        {do_access, 12},
    {do_access_pages, 16},  {do_access_rw, 20},     {do_access_destroy, 10}, {do_access_replace, 6},
    {do_dmabuf, 5},         {do_revoke, 3},         {do_other_file, 3},     {do_process, 5},
    {do_thread, 2},         {do_reopen, 1},
};

static void step(void)
{
    unsigned total = 0, at;

    context = &contexts[below(4) == 0];
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

int main(int argc, char **argv)
{
    unsigned count = 1000;

    part = "mock";
    read_seed_and_count(argc, argv, &count);
    large = argc > 3;
    begin("everything at once");
    memory_limit(65536);
    close(iommufd);
    make_memory();
    for (context = contexts; context != contexts + CONTEXTS; context++) {
        context->fd = open_iommufd();
        populate();
    }
    for (unsigned i = 0; i != count; i++)
        step();
    for (context = contexts; context != contexts + CONTEXTS; context++)
        for (unsigned i = 0; i != COUNT(context->devices); i++)
            if (context->devices[i].stdev)
                detach_pasids(&context->devices[i]);
    iommufd = contexts[0].fd;
    memory_limit(65536);
    return 0;
}
