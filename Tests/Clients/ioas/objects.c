/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Object IDs and lifetimes: an object gets the lowest free ID from 1, IDs belong to one open file,
 * and the last close of the file destroys all its objects.
 */
#include "transcript/ioas.h"

static void alloc_flags(uint32_t flags)
{
    struct iommu_ioas_alloc cmd = {.size = sizeof(cmd), .flags = flags, .out_ioas_id = 77};

    run(&IOAS_ALLOC, &cmd);
}

static void test_absent_ids(void)
{
    static const uint32_t ids[] = {0, 1, 2, 1000, 0x7ffffffe, 0x7fffffff, 0x80000000, 0xffffffff};

    for (size_t i = 0; i != COUNT(ids); i++)
        destroy(ids[i]);
}

static void test_lowest_free_id(void)
{
    for (int i = 0; i != 6; i++)
        ioas_alloc();
    destroy(2);
    destroy(5);
    destroy(3);
    for (int i = 0; i != 5; i++)
        ioas_alloc();
    destroy(9);
    destroy(8);
    destroy(1);
    destroy(1);
    ioas_alloc();
    ioas_alloc();
    ioas_alloc();
}

/** A failed allocation does not use up an ID. */
static void test_failed_allocation(void)
{
    struct iommu_ioas_alloc cmd = {.size = sizeof(cmd)};
    struct iommu_ioas_alloc *page;

    alloc_flags(1);
    alloc_flags(0x80000000);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *page = cmd;
    mprotect(page, PAGE, PROT_READ);
    run(&IOAS_ALLOC, page);
    ioas_alloc();
    munmap(page, PAGE);
}

static void test_many_objects(void)
{
    unsigned allocated = 0;
    uint32_t last = 0;

    for (unsigned i = 0; i != 1000; i++) {
        struct iommu_ioas_alloc cmd = {.size = sizeof(cmd)};

        if (!ioctl(iommufd, IOMMU_IOAS_ALLOC, &cmd)) {
            allocated++;
            last = cmd.out_ioas_id;
        }
    }
    printf("allocated %u, the last has id %u\n", allocated, last);
    for (uint32_t id = 1; id <= last; id += 2) {
        struct iommu_destroy cmd = {.size = sizeof(cmd), .id = id};

        if (ioctl(iommufd, IOMMU_DESTROY, &cmd))
            printf("DESTROY %u -> %s\n", id, errno_name(errno));
    }
    ioas_alloc();
    ioas_alloc();
    destroy(999);
    destroy(1000);
    ioas_alloc();
}

static void test_two_opens(void)
{
    struct iommu_ioas_alloc cmd = {.size = sizeof(cmd)};
    struct iommu_destroy gone = {.size = sizeof(gone), .id = 1};
    int second = open_iommufd();
    int copied;

    run_on(second, &IOAS_ALLOC, &cmd);
    run_on(second, &IOAS_ALLOC, &cmd);
    ioas_alloc();
    run_on(second, &DESTROY, &gone);
    run_on(second, &DESTROY, &gone);
    destroy(1);

    section("a duplicate is the same open");
    copied = dup(second);
    run_on(copied, &IOAS_ALLOC, &cmd);
    close(second);
    run_on(copied, &IOAS_ALLOC, &cmd);
    close(copied);

    section("the last close destroyed everything");
    second = open_iommufd();
    run_on(second, &IOAS_ALLOC, &cmd);
    close(second);
    run_on(second, &IOAS_ALLOC, &cmd);
}

/**
 * A child shares the open file. An object that it allocates exists for the parent, too, and after
 * its exit.
 */
static void test_fork(void)
{
    int status = 0;
    pid_t child;

    ioas_alloc();
    fflush(stdout);
    child = fork();
    if (child == 0) {
        ioas_alloc();
        destroy(1);
        close(iommufd);
        fflush(stdout);
        _exit(7);
    }
    waitpid(child, &status, 0);
    printf("child exited with %d\n", WEXITSTATUS(status));
    destroy(1);
    destroy(2);
    ioas_alloc();
}

static void test_other_operations(void)
{
    static const int protections[] = {PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC};
    char byte = 0;
    long result;
    void *at;

    result = read(iommufd, &byte, 1);
    printf("read");
    print_result(result);
    result = write(iommufd, &byte, 1);
    printf("\nwrite");
    print_result(result);
    printf("\n");
    for (size_t i = 0; i != COUNT(protections); i++) {
        at = mmap(NULL, PAGE, protections[i], MAP_SHARED, iommufd, 0);
        printf("mmap shared, protection %d", protections[i]);
        print_result(at == MAP_FAILED ? -1 : 0);
        at = mmap(NULL, PAGE, protections[i], MAP_PRIVATE, iommufd, 0);
        printf(", private");
        print_result(at == MAP_FAILED ? -1 : 0);
        printf("\n");
    }
}

int main(void)
{
    begin("objects: nothing is allocated");
    test_absent_ids();
    reopen("the lowest free id");
    test_lowest_free_id();
    reopen("a failed allocation leaves no trace");
    test_failed_allocation();
    reopen("a thousand objects");
    test_many_objects();
    reopen("two opens");
    test_two_opens();
    reopen("fork");
    test_fork();
    part = "files";
    reopen("other file operations");
    test_other_operations();
    return 0;
}
