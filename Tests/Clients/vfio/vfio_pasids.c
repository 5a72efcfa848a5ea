/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VFIO_IOMMU_PASID_REQUEST of the extension vfio-sva: which PASID is allocated, which process it
 * belongs to, and when it is free again.
 */
#include "vfio/pasids.h"

#include <pthread.h>

#define QUOTA 1000u

static int iommufd;

static void test_pasid_requests(void)
{
    uint32_t pasid;

    section("PASIDs");
    check_errno(allocate_pasid(iommufd, 1, LAST_PASID, &pasid), 0, "any");
    check_number(pasid, 1, "is the lowest");
    check_errno(allocate_pasid(iommufd, 0, UINT32_MAX, &pasid), 0, "any, and more than there are");
    check_number(pasid, 2, "is the next");
    check_errno(allocate_pasid(iommufd, 100, 101, &pasid), 0, "one of two");
    check_number(pasid, 100, "is the first");
    check_errno(allocate_pasid(iommufd, 100, 101, &pasid), 0, "the other one");
    check_number(pasid, 101, "is the second");
    check_errno(allocate_pasid(iommufd, 100, 101, &pasid), ENOSPC, "a third");
    check_number(pasid, 0xdead, "nothing was answered");
    check_errno(allocate_pasid(iommufd, 101, 100, NULL), EINVAL,
                "a range that ends before it begins");
    check_errno(allocate_pasid(iommufd, 0, 0, NULL), ENOSPC, "PASID 0");
    check_errno(allocate_pasid(iommufd, LAST_PASID + 1, UINT32_MAX, NULL), ENOSPC,
                "beyond 20 bits");
    check_errno(allocate_pasid(iommufd, LAST_PASID, UINT32_MAX, &pasid), 0, "the last");
    check_number(pasid, LAST_PASID, "is the last");
    check_errno(free_pasid(iommufd, LAST_PASID), 0, "it is freed");
    check_errno(free_pasid(iommufd, LAST_PASID), ENOENT, "again");
    check_errno(free_pasid(iommufd, 0), ENOENT, "0 is freed");
    check_errno(free_pasid(iommufd, UINT32_MAX), ENOENT, "no PASID is freed");
    check_errno(pasid_request(iommufd, 12, VFIO_IOMMU_PASID_FREE, 100, 0, NULL), 0,
                "one is freed by the form with data[]");
    check_errno(pasid_request(iommufd, 4096, VFIO_IOMMU_PASID_FREE, 101, 0, NULL), 0,
                "by a longer one");

    section("PASIDs by range");
    check_number((uint64_t)pasid_range_request(iommufd, VFIO_IOMMU_PASID_ALLOC, 1, LAST_PASID), 3,
                 "any is the ioctl's result");
    check_number((uint64_t)pasid_range_request(iommufd, VFIO_IOMMU_PASID_ALLOC, 500, 501), 500,
                 "one of two");
    check_errno(pasid_range_request(iommufd, VFIO_IOMMU_PASID_ALLOC, 500, 500), ENOSPC, "it again");
    check_errno(pasid_range_request(iommufd, VFIO_IOMMU_PASID_ALLOC, 2, 1), EINVAL,
                "ends before it begins");
    check_errno(pasid_range_request(iommufd, VFIO_IOMMU_PASID_FREE, 2, 1), EINVAL,
                "freed: ends before it begins");
    check_errno(pasid_range_request(iommufd, VFIO_IOMMU_PASID_FREE, 2, UINT32_MAX), 0,
                "all but 1 are freed");
    check_errno(free_pasid(iommufd, 500), ENOENT, "this one, too");
    check_errno(free_pasid(iommufd, 1), 0, "not 1");
    check_errno(pasid_range_request(iommufd, VFIO_IOMMU_PASID_FREE, 0, UINT32_MAX), 0,
                "none are freed");
}

static void test_refused_requests(void)
{
    unsigned char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct vfio_iommu_type1_pasid_request *cmd;
    uint32_t pasid;

    section("requests that are refused");
    if (pages == MAP_FAILED)
        fatal("no memory");
    for (uint32_t argsz = 0; argsz <= 20; argsz += 4)
        if (argsz != 16 && argsz != 20)
            check_errno(pasid_request(iommufd, argsz, VFIO_IOMMU_PASID_ALLOC, 1, 9, NULL), EINVAL,
                        "to allocate, argsz %u", argsz);
    for (uint32_t argsz = 0; argsz < 12; argsz += 4)
        check_errno(pasid_request(iommufd, argsz, VFIO_IOMMU_PASID_FREE, 1, 0, NULL), EINVAL,
                    "to free, argsz %u", argsz);
    for (uint32_t flags = 0; flags <= 7; flags++)
        if (flags != VFIO_IOMMU_PASID_ALLOC && flags != VFIO_IOMMU_PASID_FREE)
            check_errno(pasid_request(iommufd, 20, flags, 1, 9, NULL), EINVAL, "flags %u", flags);
    check_errno(ioctl(iommufd, VFIO_IOMMU_PASID_REQUEST, NULL), EFAULT, "no struct");
    check_errno(ioctl(iommufd, VFIO_IOMMU_BIND, NULL), EFAULT, "nor to bind");
    check_errno(ioctl(iommufd, VFIO_IOMMU_CACHE_INVALIDATE, NULL), EFAULT, "nor to invalidate");

    mprotect(pages + PAGE, PAGE, PROT_NONE);
    cmd = (void *)(pages + PAGE - 12);
    *(uint32_t *)(pages + PAGE - 12) = 20;
    *(uint32_t *)(pages + PAGE - 8) = VFIO_IOMMU_PASID_ALLOC;
    *(uint32_t *)(pages + PAGE - 4) = 1;
    check_errno(ioctl(iommufd, VFIO_IOMMU_PASID_REQUEST, cmd), EFAULT, "the end is not there");
    *(uint32_t *)(pages + PAGE - 12) = 12;
    *(uint32_t *)(pages + PAGE - 8) = VFIO_IOMMU_PASID_FREE;
    check_errno(ioctl(iommufd, VFIO_IOMMU_PASID_REQUEST, cmd), ENOENT, "no end is needed");
    cmd = (void *)(pages + PAGE - 16);
    cmd->argsz = 20;
    cmd->flags = VFIO_IOMMU_PASID_ALLOC;
    cmd->range.min = 7;
    cmd->range.max = 7;
    check_errno(ioctl(iommufd, VFIO_IOMMU_PASID_REQUEST, cmd), EFAULT, "no place for the answer");
    check_errno(allocate_pasid(iommufd, 7, 7, &pasid), 0, "the PASID did not stay");
    check_errno(free_pasid(iommufd, 7), 0, "it is freed");
    munmap(pages, 2 * PAGE);

    check_errno(ioctl(iommufd, _IO(VFIO_TYPE, VFIO_BASE + 21), 0), ENOTTY, "the number before");
    check_errno(ioctl(iommufd, _IO(VFIO_TYPE, VFIO_BASE + 25), 0), ENOTTY, "the number behind");
    check_errno(ioctl(iommufd, _IOW(VFIO_TYPE, VFIO_BASE + 22, uint32_t), 0), ENOTTY,
                "the number with a direction");
}

/**
 * Frees PASID 1 of the parent, by the parent's open file and by a new one. Returns 0 or the errno.
 */
static int free_by_inherited(void) { return free_pasid(iommufd, 1) ? errno : 0; }
static int free_by_own(void) { return free_pasid(open_iommufd(), 1) ? errno : 0; }
static int free_by_range(void)
{
    return pasid_range_request(open_iommufd(), VFIO_IOMMU_PASID_FREE, 0, UINT32_MAX) ? errno : 0;
}
static int allocate_same(void)
{
    return allocate_pasid(open_iommufd(), 1, 1, NULL) ? errno : 0;
}
/** Allocates a PASID above the parent's. Returns its distance from QUOTA, or 0. */
static int allocate_own(void)
{
    uint32_t pasid = 0;

    return allocate_pasid(open_iommufd(), 1, QUOTA + 5, &pasid) ? 0 : (int)(pasid - QUOTA);
}

static void *free_in_thread(void *pasid)
{
    return (void *)(intptr_t)(free_pasid(iommufd, *(uint32_t *)pasid) ? errno : 0);
}

static void test_owners(void)
{
    int other = open_iommufd();
    uint32_t pasid, last = QUOTA;
    unsigned count = 0;
    pthread_t thread;
    void *result;

    section("whose PASIDs they are");
    while (!allocate_pasid(iommufd, 1, LAST_PASID, &pasid))
        count++;
    check_errno(-1, ENOSPC, "the quota");
    check_number(count, QUOTA, "was it");
    check_errno(allocate_pasid(other, 1, LAST_PASID, NULL), ENOSPC,
                "it is the process's, not a file's");
    check_number((uint64_t)in_other_process(free_by_inherited), EACCES,
                 "another process with this file");
    check_number((uint64_t)in_other_process(free_by_own), EACCES, "another process");
    check_number((uint64_t)in_other_process(free_by_range), 0,
                 "another process frees what is its own");
    check_number((uint64_t)in_other_process(allocate_same), ENOSPC, "it cannot have the same");
    check_number((uint64_t)in_other_process(allocate_own), 1, "it has a quota of its own");
    check_number((uint64_t)in_other_process(allocate_own), 1, "which goes with it");
    if (pthread_create(&thread, NULL, free_in_thread, &last) || pthread_join(thread, &result))
        fatal("no thread");
    check_number((uint64_t)(intptr_t)result, 0, "another thread frees one");
    check_errno(allocate_pasid(other, 1, LAST_PASID, &pasid), 0, "another file has it");
    check_number(pasid, QUOTA, "the same");
    check_errno(free_pasid(iommufd, QUOTA), 0, "it is freed by the first file");
    check_errno(allocate_pasid(other, 1, LAST_PASID, &pasid), 0, "and allocated by the other");
    check_errno(allocate_pasid(iommufd, 1, LAST_PASID, NULL), ENOSPC, "the quota is used up");
    close(other);
    check_errno(allocate_pasid(iommufd, 1, LAST_PASID, &pasid), 0, "the other file is closed");
    check_number(pasid, QUOTA, "its PASID is free");
    check_errno(pasid_range_request(iommufd, VFIO_IOMMU_PASID_FREE, 0, UINT32_MAX), 0,
                "all are freed");
}

int main(void)
{
    iommufd = open_iommufd();
    test_pasid_requests();
    test_refused_requests();
    test_owners();
    return checks_exit_status();
}
