/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared virtual addressing on a VFIO container, for a server with the extension vfio-sva: PASIDs are
 * allocated, guests' tables are bound to them, devices go through these tables, and what has changed in
 * them is seen when the guest says so.
 */
#include "vtd.h"

#include <pthread.h>
#include <sys/wait.h>

#define IOVA 0x7000000000UL
/** In another table for pages, of another table for tables. */
#define FAR (IOVA + (1UL << 30))
#define COUNT 6u
/** All pages at IOVA, in a mask. */
#define ALL 0x3fu
#define QUOTA 1000u
#define LAST_PASID 0xfffffu

static struct guest guest;
static struct test_device device, plain; /* with and without a device TLB */
static uint64_t roots[2];
static uint32_t pasids[2];

static void section(const char *title) { printf("# %s\n", title); }

/* ---- PASIDs ------------------------------------------------------------------------------- */

static long request(int fd, uint32_t argsz, uint32_t flags, uint32_t min, uint32_t max,
                    uint32_t *result)
{
    struct vfio_iommu_type1_pasid_request cmd = {
        .argsz = argsz, .flags = flags, .alloc_pasid = {min, max, 0xdead}};
    long status = ioctl(fd, VFIO_IOMMU_PASID_REQUEST, &cmd);

    if (result)
        *result = cmd.alloc_pasid.result;
    return status;
}

static long allocate(int fd, uint32_t min, uint32_t max, uint32_t *pasid)
{
    return request(fd, sizeof(struct vfio_iommu_type1_pasid_request), VFIO_IOMMU_PASID_ALLOC, min,
                   max, pasid);
}

static long free_pasid(int fd, uint32_t pasid)
{
    return request(fd, sizeof(struct vfio_iommu_type1_pasid_request), VFIO_IOMMU_PASID_FREE, pasid,
                   0, NULL);
}

/** Of the form with a range. */
static long in_range(int fd, uint32_t flags, uint32_t min, uint32_t max)
{
    return request(fd, 16, flags, min, max, NULL);
}

static void pasid_requests(void)
{
    int fd = guest.iommufd;
    uint32_t pasid;

    section("PASIDs");
    check_errno(allocate(fd, 1, LAST_PASID, &pasid), 0, "any");
    check_number(pasid, 1, "is the lowest");
    check_errno(allocate(fd, 0, UINT32_MAX, &pasid), 0, "any, and more than there are");
    check_number(pasid, 2, "is the next");
    check_errno(allocate(fd, 100, 101, &pasid), 0, "one of two");
    check_number(pasid, 100, "is the first");
    check_errno(allocate(fd, 100, 101, &pasid), 0, "the other one");
    check_number(pasid, 101, "is the second");
    check_errno(allocate(fd, 100, 101, &pasid), ENOSPC, "a third");
    check_number(pasid, 0xdead, "nothing was answered");
    check_errno(allocate(fd, 101, 100, NULL), EINVAL, "a range that ends before it begins");
    check_errno(allocate(fd, 0, 0, NULL), ENOSPC, "PASID 0");
    check_errno(allocate(fd, LAST_PASID + 1, UINT32_MAX, NULL), ENOSPC, "beyond 20 bits");
    check_errno(allocate(fd, LAST_PASID, UINT32_MAX, &pasid), 0, "the last");
    check_number(pasid, LAST_PASID, "is the last");
    check_errno(free_pasid(fd, LAST_PASID), 0, "it is freed");
    check_errno(free_pasid(fd, LAST_PASID), ENOENT, "again");
    check_errno(free_pasid(fd, 0), ENOENT, "0 is freed");
    check_errno(free_pasid(fd, UINT32_MAX), ENOENT, "no PASID is freed");
    check_errno(request(fd, 12, VFIO_IOMMU_PASID_FREE, 100, 0, NULL), 0,
                "one is freed by the form with data[]");
    check_errno(request(fd, 4096, VFIO_IOMMU_PASID_FREE, 101, 0, NULL), 0, "by a longer one");

    section("PASIDs by range");
    check_number((uint64_t)in_range(fd, VFIO_IOMMU_PASID_ALLOC, 1, LAST_PASID), 3,
                 "any is the ioctl's result");
    check_number((uint64_t)in_range(fd, VFIO_IOMMU_PASID_ALLOC, 500, 501), 500, "one of two");
    check_errno(in_range(fd, VFIO_IOMMU_PASID_ALLOC, 500, 500), ENOSPC, "it again");
    check_errno(in_range(fd, VFIO_IOMMU_PASID_ALLOC, 2, 1), EINVAL, "ends before it begins");
    check_errno(in_range(fd, VFIO_IOMMU_PASID_FREE, 2, 1), EINVAL, "freed: ends before it begins");
    check_errno(in_range(fd, VFIO_IOMMU_PASID_FREE, 2, UINT32_MAX), 0, "all but 1 are freed");
    check_errno(free_pasid(fd, 500), ENOENT, "this one, too");
    check_errno(free_pasid(fd, 1), 0, "not 1");
    check_errno(in_range(fd, VFIO_IOMMU_PASID_FREE, 0, UINT32_MAX), 0, "none are freed");
}

static void refused_requests(void)
{
    unsigned char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct vfio_iommu_type1_pasid_request *cmd;
    int fd = guest.iommufd;
    uint32_t pasid;

    section("requests that are refused");
    if (pages == MAP_FAILED)
        give_up("no memory");
    for (uint32_t argsz = 0; argsz <= 20; argsz += 4)
        if (argsz != 16 && argsz != 20)
            check_errno(request(fd, argsz, VFIO_IOMMU_PASID_ALLOC, 1, 9, NULL), EINVAL,
                        "to allocate, argsz %u", argsz);
    for (uint32_t argsz = 0; argsz < 12; argsz += 4)
        check_errno(request(fd, argsz, VFIO_IOMMU_PASID_FREE, 1, 0, NULL), EINVAL,
                    "to free, argsz %u", argsz);
    for (uint32_t flags = 0; flags <= 7; flags++)
        if (flags != VFIO_IOMMU_PASID_ALLOC && flags != VFIO_IOMMU_PASID_FREE)
            check_errno(request(fd, 20, flags, 1, 9, NULL), EINVAL, "flags %u", flags);
    check_errno(ioctl(fd, VFIO_IOMMU_PASID_REQUEST, NULL), EFAULT, "no struct");
    check_errno(ioctl(fd, VFIO_IOMMU_BIND, NULL), EFAULT, "nor to bind");
    check_errno(ioctl(fd, VFIO_IOMMU_CACHE_INVALIDATE, NULL), EFAULT, "nor to invalidate");

    mprotect(pages + PAGE, PAGE, PROT_NONE);
    cmd = (void *)(pages + PAGE - 12);
    *(uint32_t *)(pages + PAGE - 12) = 20;
    *(uint32_t *)(pages + PAGE - 8) = VFIO_IOMMU_PASID_ALLOC;
    *(uint32_t *)(pages + PAGE - 4) = 1;
    check_errno(ioctl(fd, VFIO_IOMMU_PASID_REQUEST, cmd), EFAULT, "the end is not there");
    *(uint32_t *)(pages + PAGE - 12) = 12;
    *(uint32_t *)(pages + PAGE - 8) = VFIO_IOMMU_PASID_FREE;
    check_errno(ioctl(fd, VFIO_IOMMU_PASID_REQUEST, cmd), ENOENT, "no end is needed");
    cmd = (void *)(pages + PAGE - 16);
    cmd->argsz = 20;
    cmd->flags = VFIO_IOMMU_PASID_ALLOC;
    cmd->range.min = 7;
    cmd->range.max = 7;
    check_errno(ioctl(fd, VFIO_IOMMU_PASID_REQUEST, cmd), EFAULT, "no place for the answer");
    check_errno(allocate(fd, 7, 7, &pasid), 0, "the PASID did not stay");
    check_errno(free_pasid(fd, 7), 0, "it is freed");
    munmap(pages, 2 * PAGE);

    check_errno(ioctl(fd, _IO(VFIO_TYPE, VFIO_BASE + 21), 0), ENOTTY, "the number before");
    check_errno(ioctl(fd, _IO(VFIO_TYPE, VFIO_BASE + 25), 0), ENOTTY, "the number behind");
    check_errno(ioctl(fd, _IOW(VFIO_TYPE, VFIO_BASE + 22, uint32_t), 0), ENOTTY,
                "the number with a direction");
}

/** In a process of its own, with `action`'s result as its status. */
static int elsewhere(int (*action)(void))
{
    int status = -1;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (!child)
        _exit(action());
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        give_up("no other process");
    return WEXITSTATUS(status);
}

/** errno of freeing the parent's PASID 1, by the parent's file and by one of its own. */
static int free_by_inherited(void) { return free_pasid(guest.iommufd, 1) ? errno : 0; }
static int free_by_own(void) { return free_pasid(open_iommufd(), 1) ? errno : 0; }
static int free_by_range(void)
{
    return in_range(open_iommufd(), VFIO_IOMMU_PASID_FREE, 0, UINT32_MAX) ? errno : 0;
}
static int allocate_same(void)
{
    return allocate(open_iommufd(), 1, 1, NULL) ? errno : 0;
}
/** Which it gets, with a quota of its own. */
static int allocate_own(void)
{
    uint32_t pasid = 0;

    return allocate(open_iommufd(), 1, QUOTA + 5, &pasid) ? 0 : (int)(pasid - QUOTA);
}

static void *free_in_thread(void *fd)
{
    return (void *)(intptr_t)(free_pasid(*(int *)fd, QUOTA) ? errno : 0);
}

static void owners(void)
{
    int fd = guest.iommufd, other = open_iommufd();
    uint32_t pasid;
    unsigned count = 0;
    pthread_t thread;
    void *result;

    section("whose PASIDs they are");
    while (!allocate(fd, 1, LAST_PASID, &pasid))
        count++;
    check_errno(-1, ENOSPC, "the quota");
    check_number(count, QUOTA, "was it");
    check_errno(allocate(other, 1, LAST_PASID, NULL), ENOSPC, "it is the process's, not a file's");
    check_number((uint64_t)elsewhere(free_by_inherited), EACCES, "another process with this file");
    check_number((uint64_t)elsewhere(free_by_own), EACCES, "another process");
    check_number((uint64_t)elsewhere(free_by_range), 0, "another process frees what is its own");
    check_number((uint64_t)elsewhere(allocate_same), ENOSPC, "it cannot have the same");
    check_number((uint64_t)elsewhere(allocate_own), 1, "it has a quota of its own");
    check_number((uint64_t)elsewhere(allocate_own), 1, "which goes with it");
    if (pthread_create(&thread, NULL, free_in_thread, &fd) || pthread_join(thread, &result))
        give_up("no thread");
    check_number((uint64_t)(intptr_t)result, 0, "another thread frees one");
    check_errno(allocate(other, 1, LAST_PASID, &pasid), 0, "another file has it");
    check_number(pasid, QUOTA, "the same");
    check_errno(free_pasid(fd, QUOTA), 0, "it is freed by the first file");
    check_errno(allocate(other, 1, LAST_PASID, &pasid), 0, "and allocated by the other");
    check_errno(allocate(fd, 1, LAST_PASID, NULL), ENOSPC, "the quota is used up");
    close(other);
    check_errno(allocate(fd, 1, LAST_PASID, &pasid), 0, "the other file is closed");
    check_number(pasid, QUOTA, "its PASID is free");
    check_errno(in_range(fd, VFIO_IOMMU_PASID_FREE, 0, UINT32_MAX), 0, "all are freed");
}

/* ---- The container ------------------------------------------------------------------------ */

static struct iommu_gpasid_bind_data table_data(uint32_t pasid, uint64_t root)
{
    return (struct iommu_gpasid_bind_data){.argsz = sizeof(struct iommu_gpasid_bind_data),
                                           .version = IOMMU_GPASID_BIND_VERSION_1,
                                           .format = IOMMU_PASID_FORMAT_INTEL_VTD,
                                           .addr_width = 48,
                                           .gpgd = root,
                                           .hpasid = pasid};
}

static long bind_as(uint32_t argsz, uint32_t flags, struct iommu_gpasid_bind_data data)
{
    struct {
        struct vfio_iommu_type1_bind head;
        struct iommu_gpasid_bind_data data;
    } __attribute__((packed)) cmd = {{.argsz = argsz, .flags = flags}, data};

    return ioctl(guest.iommufd, VFIO_IOMMU_BIND, &cmd);
}

static long bind_data(struct iommu_gpasid_bind_data data)
{
    return bind_as(8 + sizeof(data), VFIO_IOMMU_BIND_GUEST_PGTBL, data);
}

static long bind_table(uint32_t pasid, uint64_t root) { return bind_data(table_data(pasid, root)); }

static long unbind(uint32_t pasid)
{
    return bind_as(8 + sizeof(struct iommu_gpasid_bind_data), VFIO_IOMMU_UNBIND_GUEST_PGTBL,
                   table_data(pasid, 0));
}

static long set_container(uint16_t op)
{
    struct iommu_vfio_ioas cmd = {.size = sizeof(cmd), .ioas_id = guest.ioas, .op = op};

    return ioctl(guest.iommufd, IOMMU_VFIO_IOAS, &cmd);
}

static void container(void)
{
    struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
                                           .flags =
                                               VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                                           .vaddr = (uintptr_t)guest.memory,
                                           .iova = GUEST,
                                           .size = GUEST_LENGTH};
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = GUEST, .size = GUEST_LENGTH};
    int fd = guest.iommufd;

    section("a container");
    if (allocate(fd, 1, LAST_PASID, &pasids[0]) || allocate(fd, 1, LAST_PASID, &pasids[1]))
        give_up("no PASIDs");
    check_number((uint64_t)ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1_NESTING_IOMMU), 1,
                 "VFIO_TYPE1_NESTING_IOMMU is there");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), ENODEV, "without an IOAS");
    check_errno(bind_table(pasids[0], roots[0]), ENODEV, "a table without an IOAS");
    check_errno(set_container(IOMMU_VFIO_IOAS_SET), 0, "IOMMU_VFIO_IOAS");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0, "VFIO_TYPE1v2_IOMMU");
    check_errno(ioctl(fd, VFIO_IOMMU_UNMAP_DMA, &unmap), 0, "the guest's memory is unmapped");
    check_errno(ioctl(fd, VFIO_IOMMU_MAP_DMA, &map), 0, "and mapped");
    check_errno(bind_table(pasids[0], roots[0]), EINVAL, "a table without a device");
    check_errno(attach_to(&device, guest.ioas, NO_PASID), 0, "a device is attached");
    check_errno(bind_table(pasids[0], roots[0]), EINVAL, "its table cannot be nested on");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), EBUSY, "nor can it be changed");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0, "which is no matter for the same");
    check_errno(detach(&device, NO_PASID), 0, "it is detached");
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), 0, "VFIO_TYPE1_NESTING_IOMMU");
    if (attach_to(&device, guest.ioas, NO_PASID) || attach_to(&plain, guest.ioas, NO_PASID) ||
        attach_to(&device, guest.ioas, STAGING_PASID) ||
        attach_to(&plain, guest.ioas, STAGING_PASID))
        give_up("attach: %s", strerror(errno));
    check_errno(ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), EBUSY, "and back, with devices");
}

/** Pages of the guest's data from 0 on at IOVA, and one at FAR, of both tables; from 8 on when they are
 *  changed. */
static void point_all(unsigned first)
{
    for (unsigned t = 0; t != 2; t++) {
        for (unsigned i = 0; i != COUNT; i++)
            __atomic_store_n(entry_at(&guest, roots[t], IOVA + i * PAGE, 0),
                             data_page(first + i) | USER, __ATOMIC_RELEASE);
        __atomic_store_n(entry_at(&guest, roots[t], FAR, 0), data_page(first) | USER,
                         __ATOMIC_RELEASE);
    }
}

/** Which of `count` pages at `iova` are seen as the changed ones: bit i for page i; others if neither. */
static unsigned fresh(const struct test_device *by, uint32_t pasid, uint64_t iova, unsigned count)
{
    unsigned pages = 0;

    for (unsigned i = 0; i != count; i++) {
        uint64_t byte = read_byte(&guest, by, iova + i * PAGE, PASID(pasid));

        if (byte == i + 9)
            pages |= 1u << i;
        else if (byte != i + 1)
            pages |= 0x100u << i;
    }
    return pages;
}

static bool reads(const struct test_device *by, uint32_t pasid, uint64_t iova)
{
    return fetch(by, iova, 8, PASID(pasid)) == COMPLETED;
}

static void bindings(void)
{
    uint32_t pasid = pasids[0];
    struct iommu_gpasid_bind_data data;

    section("tables on PASIDs");
    point_all(0);
    check_number(reads(&device, pasid, IOVA) || reads(&plain, pasid, IOVA), 0, "nothing is there before");
    check_errno(bind_table(pasid, roots[0]), 0, "a table is bound");
    check_number(fresh(&device, pasid, IOVA, 1), 0, "a device reads through it");
    check_number(fresh(&plain, pasid, IOVA, 1), 0, "and so does the other");
    check_number(reads(&device, pasids[1], IOVA), 0, "not by another PASID");
    check_errno(bind_table(pasid, roots[1]), EBUSY, "it is bound already");
    check_number(fresh(&device, pasid, IOVA, 1), 0, "and stays");
    check_errno(attach_to(&device, guest.ioas, PASID(pasid)), EBUSY, "VFIO cannot attach it");
    check_errno(detach(&device, PASID(pasid)), 0, "nor detach it");
    check_number(reads(&device, pasid, IOVA), 1, "it stays");
    check_errno(unbind(pasid), 0, "it is unbound");
    check_number(reads(&device, pasid, IOVA) || reads(&plain, pasid, IOVA), 0, "nothing is read");
    check_errno(unbind(pasid), EINVAL, "again");

    check_errno(bind_table(pasid, roots[0]), 0, "it is bound again");
    check_errno(free_pasid(guest.iommufd, pasid), 0, "and the PASID freed");
    check_number(reads(&device, pasid, IOVA) || reads(&plain, pasid, IOVA), 0, "nothing is read");
    check_errno(allocate(guest.iommufd, pasid, pasid, NULL), 0, "the PASID is allocated again");
    check_errno(bind_table(pasid, roots[1]), 0, "for another table");
    check_errno(detach(&device, NO_PASID), 0, "a device leaves the container");
    check_number(reads(&device, pasid, IOVA), 0, "without the table");
    check_number(reads(&plain, pasid, IOVA), 1, "the other has it");
    check_errno(attach_to(&device, guest.ioas, NO_PASID), 0, "it comes back");
    check_number(reads(&device, pasid, IOVA), 0, "without the table");
    check_errno(bind_table(pasid, roots[1]), EBUSY, "which is bound for the other");
    check_errno(unbind(pasid), 0, "it is unbound");

    data = table_data(pasid, roots[0]);
    data.vendor.vtd.flags = IOMMU_SVA_VTD_GPASID_SRE | IOMMU_SVA_VTD_GPASID_WPE;
    data.flags = IOMMU_SVA_GPASID_VAL;
    data.gpasid = 77;
    check_errno(bind_data(data), 0, "a table for privileged requests, too");
    check_number(fetch(&device, IOVA, 8, PASID(pasid) | PRIVILEGED), COMPLETED, "which are read");
    check_errno(unbind(pasid), 0, "it is unbound");
    check_errno(bind_table(pasid, roots[0]), 0, "one that is not");
    check_number(fetch(&device, IOVA, 8, PASID(pasid) | PRIVILEGED) == COMPLETED, 0,
                 "refuses privilege");
    check_errno(unbind(pasid), 0, "it is unbound");
    drop_faults(&device);
    drop_faults(&plain);
}

static int bind_elsewhere(void) { return bind_table(pasids[0], roots[0]) ? errno : 0; }
static int unbind_elsewhere(void) { return unbind(pasids[0]) ? errno : 0; }

static void refused_bindings(void)
{
    const struct iommu_gpasid_bind_data good = table_data(pasids[0], roots[0]);
    const uint32_t whole = 8 + sizeof(good);
    struct iommu_gpasid_bind_data bad;

    section("tables that are refused");
    check_errno(bind_as(whole, 0, good), EINVAL, "neither to bind nor to unbind");
    check_errno(bind_as(whole, 3, good), EINVAL, "both");
    check_errno(bind_as(whole, 5, good), EINVAL, "an unknown flag");
    check_errno(bind_as(7, 1, good), EINVAL, "argsz without data");
    check_errno(bind_as(whole - 1, 1, good), EINVAL, "argsz short of the data");
    bad = good, bad.argsz = 55;
    check_errno(bind_data(bad), EINVAL, "the data's argsz short of the vendor's part");
    bad = good, bad.argsz -= 8;
    check_errno(bind_data(bad), EINVAL, "short of its end");
    bad = good, bad.version = 0;
    check_errno(bind_data(bad), EINVAL, "version 0");
    bad = good, bad.version = 2;
    check_errno(bind_data(bad), EINVAL, "version 2");
    bad = good, bad.format = 0;
    check_errno(bind_data(bad), EINVAL, "no format");
    bad = good, bad.format = IOMMU_PASID_FORMAT_LAST;
    check_errno(bind_data(bad), EINVAL, "another format");
    bad = good, bad.flags = 2;
    check_errno(bind_data(bad), EINVAL, "an unknown flag of the data");
    bad = good, bad.padding[7] = 1;
    check_errno(bind_data(bad), EINVAL, "padding that is not zero");
    for (unsigned bit = 0; bit != 8; bit++) {
        bool is_known = bit == 0 || bit == 1 || bit == 6;

        bad = good, bad.vendor.vtd.flags = 1u << bit;
        check_errno(bind_data(bad), is_known ? 0 : EINVAL, "bit %u of the vendor's flags", bit);
        if (is_known)
            unbind(pasids[0]);
    }
    bad = good, bad.addr_width = 39;
    check_errno(bind_data(bad), EINVAL, "an address width of 39");
    bad = good, bad.gpgd = 1UL << 57;
    check_errno(bind_data(bad), EINVAL, "a table where no guest can have memory");
    bad = good, bad.hpasid = 0;
    check_errno(bind_data(bad), EINVAL, "PASID 0");
    bad = good, bad.hpasid = LAST_PASID + 1;
    check_errno(bind_data(bad), EINVAL, "a PASID of 21 bits");
    bad = good, bad.hpasid += 1UL << 32;
    check_errno(bind_data(bad), EINVAL, "a PASID of 33 bits");
    bad = good, bad.hpasid = 4711;
    check_errno(bind_data(bad), ENOENT, "a PASID that is not allocated");
    check_number((uint64_t)elsewhere(bind_elsewhere), EACCES, "another process's PASID");
    check_errno(allocate(guest.iommufd, 0x3ff, 0x3ff, NULL), 0, "the PASID that VFIO has attached");
    check_errno(bind_table(0x3ff, roots[0]), EBUSY, "is taken");
    check_errno(free_pasid(guest.iommufd, 0x3ff), 0, "it is freed");
    check_number(buffer_word(&guest, &device) != 1, 1, "and still attached");
    check_errno(bind_data(good), 0, "and one that is right");
    check_number((uint64_t)elsewhere(unbind_elsewhere), EACCES, "which another process may not unbind");
    check_errno(unbind(pasids[0]), 0, "it is unbound");
}

/** A PASID that was allocated by another file of this process. */
static void two_files(void)
{
    int other = open_iommufd();
    uint32_t pasid;

    section("a table on another file's PASID");
    if (allocate(other, 2000, 2000, &pasid))
        give_up("no PASID");
    check_errno(bind_table(pasid, roots[0]), 0, "is bound");
    check_errno(free_pasid(other, pasid), EBUSY, "the other file cannot free it");
    close(other);
    check_number(reads(&device, pasid, IOVA), 1, "the file is closed and the table there");
    check_errno(allocate(guest.iommufd, pasid, pasid, NULL), ENOSPC, "and the PASID not free");
    check_errno(unbind(pasid), 0, "until it is unbound");
    check_errno(free_pasid(guest.iommufd, pasid), ENOENT, "then it is");
}

/* ---- Caches ------------------------------------------------------------------------------- */

static long invalidate_as(uint32_t argsz, uint32_t flags, struct iommu_cache_invalidate_info info)
{
    struct vfio_iommu_type1_cache_invalidate cmd = {
        .argsz = argsz, .flags = flags, .cache_info = info};

    return ioctl(guest.iommufd, VFIO_IOMMU_CACHE_INVALIDATE, &cmd);
}

static long invalidate_info(struct iommu_cache_invalidate_info info)
{
    return invalidate_as(8 + sizeof(info), 0, info);
}

static struct iommu_cache_invalidate_info everything(uint8_t cache)
{
    return (struct iommu_cache_invalidate_info){.argsz = 16,
                                                .version = IOMMU_CACHE_INVALIDATE_INFO_VERSION_1,
                                                .cache = cache,
                                                .granularity = IOMMU_INV_GRANU_DOMAIN};
}

static struct iommu_cache_invalidate_info by_pasid(uint8_t cache, uint32_t pasid)
{
    struct iommu_cache_invalidate_info info = everything(cache);

    info.argsz = sizeof(info);
    info.granularity = IOMMU_INV_GRANU_PASID;
    info.granu.pasid_info =
        (struct iommu_inv_pasid_info){.flags = IOMMU_INV_PASID_FLAGS_PASID, .pasid = pasid};
    return info;
}

static struct iommu_cache_invalidate_info by_address(uint8_t cache, uint32_t pasid, uint64_t iova,
                                                     uint64_t size, uint64_t count, uint32_t flags)
{
    struct iommu_cache_invalidate_info info = everything(cache);

    info.argsz = sizeof(info);
    info.granularity = IOMMU_INV_GRANU_ADDR;
    info.granu.addr_info = (struct iommu_inv_addr_info){.flags = flags,
                                                        .pasid = pasid,
                                                        .addr = iova,
                                                        .granule_size = size,
                                                        .nb_granules = count};
    return info;
}

/** Both tables are changed after both devices have seen all of them. */
static void change(void)
{
    point_all(0);
    if (invalidate_info(everything(IOMMU_CACHE_INV_TYPE_IOTLB)))
        give_up("CACHE_INVALIDATE: %s", strerror(errno));
    for (unsigned d = 0; d != 2; d++) {
        const struct test_device *by = d ? &plain : &device;
        bool is_there = reads(by, pasids[0], FAR) && reads(by, pasids[1], IOVA);

        for (unsigned i = 0; i != COUNT; i++)
            is_there &= reads(by, pasids[0], IOVA + i * PAGE);
        if (!is_there)
            give_up("the pages are not where they were mapped");
    }
    point_all(8);
}

/** What is seen after `info`: pages at IOVA and FAR by the first PASID, at IOVA by the second. */
static void check_granule(const char *what, struct iommu_cache_invalidate_info info,
                          unsigned near_pages, unsigned far_pages, unsigned others)
{
    change();
    check_errno(invalidate_info(info), 0, "%s", what);
    for (unsigned d = 0; d != 2; d++) {
        const struct test_device *by = d ? &plain : &device;
        const char *name = d ? "without a device TLB" : "with a device TLB";

        check_number(fresh(by, pasids[0], IOVA, COUNT), near_pages, "%s, %s", what, name);
        check_number(fresh(by, pasids[0], FAR, 1), far_pages, "%s, %s: far away", what, name);
        check_number(fresh(by, pasids[1], IOVA, 1), others, "%s, %s: another PASID", what, name);
    }
}

static void granules(void)
{
    const uint8_t iotlb = IOMMU_CACHE_INV_TYPE_IOTLB, device_tlb = IOMMU_CACHE_INV_TYPE_DEV_IOTLB,
                  pasid_cache = IOMMU_CACHE_INV_TYPE_PASID;
    const uint32_t has_pasid = IOMMU_INV_ADDR_FLAGS_PASID, leaf = IOMMU_INV_ADDR_FLAGS_LEAF;
    uint32_t pasid = pasids[0];

    section("invalidations");
    if (bind_table(pasids[0], roots[0]) || bind_table(pasids[1], roots[1]))
        give_up("VFIO_IOMMU_BIND: %s", strerror(errno));
    change();
    check_number(fresh(&device, pasid, IOVA, 1), 0, "without any, what was there is seen");
    check_number(fresh(&plain, pasid, FAR, 1), 0, "by both devices");
    check_granule("a page", by_address(iotlb, pasid, IOVA + PAGE, PAGE, 1, has_pasid), 0x02, 0, 0);
    check_granule("a page, leaves only",
                  by_address(iotlb, pasid, IOVA + PAGE, PAGE, 1, has_pasid | leaf), 0x02, 0, 0);
    check_granule("four pages", by_address(iotlb, pasid, IOVA, PAGE, 4, has_pasid), 0x0f, 0, 0);
    check_granule("a granule of four pages", by_address(iotlb, pasid, IOVA, 4 * PAGE, 1, has_pasid),
                  0x0f, 0, 0);
    check_granule("no granule is a page", by_address(iotlb, pasid, IOVA, PAGE, 0, has_pasid), 0x01,
                  0, 0);
    check_granule("2 MiB", by_address(iotlb, pasid, IOVA, 2UL << 20, 1, has_pasid), ALL, 0, 0);
    check_granule("2 GiB", by_address(iotlb, pasid, IOVA, 1UL << 30, 2, has_pasid), ALL, 1, 0);
    check_granule("more than there is", by_address(iotlb, pasid, IOVA, 1UL << 63, 4, has_pasid),
                  ALL, 1, 0);
    check_granule("a page of every PASID", by_address(iotlb, 0, IOVA, PAGE, 1, 0), 0x01, 0, 1);
    check_granule("a PASID", by_pasid(iotlb, pasid), ALL, 1, 0);
    check_granule("the container", everything(iotlb), ALL, 1, 1);
    check_granule("the container's PASIDs, too", everything(iotlb | pasid_cache), ALL, 1, 1);
    check_granule("a PASID in all caches", by_pasid(iotlb | device_tlb | pasid_cache, pasid), ALL,
                  1, 0);
    check_granule("a page in both caches",
                  by_address(iotlb | device_tlb, pasid, IOVA, PAGE, 1, has_pasid), 0x01, 0, 0);
    check_granule("a page in device TLBs",
                  by_address(device_tlb, pasid, IOVA, PAGE, 1, has_pasid), 0, 0, 0);
    check_granule("a PASID in device TLBs", by_pasid(device_tlb, pasid), 0, 0, 0);
    check_granule("a PASID's entry", by_pasid(pasid_cache, pasid), 0, 0, 0);
    check_granule("every PASID's entry", everything(pasid_cache), 0, 0, 0);
    check_granule("no cache", by_pasid(0, pasid), 0, 0, 0);
}

static int invalidate_elsewhere(void)
{
    return invalidate_info(by_pasid(IOMMU_CACHE_INV_TYPE_IOTLB, pasids[0])) ? errno : 0;
}

static void refused_invalidations(void)
{
    const uint8_t iotlb = IOMMU_CACHE_INV_TYPE_IOTLB, device_tlb = IOMMU_CACHE_INV_TYPE_DEV_IOTLB,
                  pasid_cache = IOMMU_CACHE_INV_TYPE_PASID;
    const struct iommu_cache_invalidate_info good = by_pasid(iotlb, pasids[0]);
    const struct iommu_cache_invalidate_info address =
        by_address(iotlb, pasids[0], IOVA, PAGE, 1, IOMMU_INV_ADDR_FLAGS_PASID);
    struct iommu_cache_invalidate_info bad;
    uint32_t unbound;

    section("invalidations that are refused");
    change();
    check_errno(invalidate_as(8 + sizeof(good), 1, good), EINVAL, "a flag");
    check_errno(invalidate_as(23, 0, good), EINVAL, "argsz without the information");
    check_errno(invalidate_as(8 + sizeof(good) - 1, 0, good), EINVAL, "argsz short of it");
    bad = good, bad.argsz = 15;
    check_errno(invalidate_info(bad), EINVAL, "the information's argsz");
    bad = good, bad.argsz = 31;
    check_errno(invalidate_info(bad), EINVAL, "argsz short of the PASID");
    bad = address, bad.argsz = 55;
    check_errno(invalidate_info(bad), EINVAL, "argsz short of the addresses");
    bad = good, bad.version = 0;
    check_errno(invalidate_info(bad), EINVAL, "version 0");
    bad = good, bad.version = 2;
    check_errno(invalidate_info(bad), EINVAL, "version 2");
    bad = good, bad.cache |= 8;
    check_errno(invalidate_info(bad), EINVAL, "an unknown cache");
    bad = good, bad.granularity = IOMMU_INV_GRANU_NR;
    check_errno(invalidate_info(bad), EINVAL, "an unknown granularity");
    bad = good, bad.padding[0] = 1;
    check_errno(invalidate_info(bad), EINVAL, "padding that is not zero");
    bad = good, bad.granu.pasid_info.flags = 4;
    check_errno(invalidate_info(bad), EINVAL, "an unknown flag of the PASID's");
    bad = good, bad.granu.pasid_info.flags = IOMMU_INV_PASID_FLAGS_ARCHID;
    check_errno(invalidate_info(bad), EINVAL, "by PASID, without PASID");
    bad = address, bad.granu.addr_info.flags = 8;
    check_errno(invalidate_info(bad), EINVAL, "an unknown flag of the addresses'");
    check_errno(invalidate_info(everything(device_tlb)), EINVAL, "device TLBs of everything");
    bad = address, bad.cache = pasid_cache;
    check_errno(invalidate_info(bad), EINVAL, "PASIDs by address");
    bad = address, bad.cache = iotlb | pasid_cache;
    check_errno(invalidate_info(bad), EINVAL, "both by address");
    bad = good, bad.granu.pasid_info.pasid = 0;
    check_errno(invalidate_info(bad), EINVAL, "PASID 0");
    bad = good, bad.granu.pasid_info.pasid = 1UL << 20;
    check_errno(invalidate_info(bad), EINVAL, "a PASID of 21 bits");
    bad = good, bad.granu.pasid_info.pasid = 4711;
    check_errno(invalidate_info(bad), ENOENT, "a PASID that is not allocated");
    check_number((uint64_t)elsewhere(invalidate_elsewhere), EACCES, "another process's PASID");
    if (allocate(guest.iommufd, 1, LAST_PASID, &unbound))
        give_up("no PASID");
    bad = good, bad.granu.pasid_info.pasid = unbound;
    check_errno(invalidate_info(bad), EINVAL, "a PASID without a table");
    free_pasid(guest.iommufd, unbound);
    check_number(fresh(&device, pasids[0], IOVA, COUNT), 0, "nothing of it took effect");
}

/* ---- Ends --------------------------------------------------------------------------------- */

/** The kernel's side: what is unmapped from the container is gone at once, whatever a guest's tables say. */
static void unmapping(void)
{
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = GUEST, .size = GUEST_LENGTH};

    section("memory that is taken from the guest");
    check_number(reads(&device, pasids[0], IOVA) && reads(&plain, pasids[1], IOVA), 1, "it is there");
    check_errno(ioctl(guest.iommufd, VFIO_IOMMU_UNMAP_DMA, &unmap), 0, "VFIO_IOMMU_UNMAP_DMA");
    check_number(reads(&device, pasids[0], IOVA) || reads(&plain, pasids[1], IOVA), 0, "and gone");
}

static void ends(void)
{
    int fd;
    uint32_t first = pasids[0], pasid;

    section("files are closed");
    close(device.fd);
    check_errno(allocate(guest.iommufd, first, first, &pasid), ENOSPC,
                "a device is closed: its PASIDs are allocated");
    close(guest.iommufd);
    fd = open_iommufd();
    check_errno(allocate(fd, first, first, &pasid), ENOSPC,
                "the iommufd: they are, as a device still has them");
    close(plain.fd);
    check_errno(allocate(fd, first, first, &pasid), 0, "the last device: they are free");
    close(fd);
}

int main(void)
{
    int iommufd = open_iommufd();

    device = find_device(iommufd, true);
    plain = find_device(iommufd, false);
    guest = make_guest_memory(iommufd, true, false);
    guest.staging = STAGING_PASID;
    roots[0] = make_table(&guest);
    roots[1] = make_table(&guest);
    pasid_requests();
    refused_requests();
    owners();
    container();
    bindings();
    refused_bindings();
    two_files();
    granules();
    refused_invalidations();
    unmapping();
    ends();
    return checked();
}
