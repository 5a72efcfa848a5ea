/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_CHANGE_PROCESS moves the accounting of all mappings to the caller. It fails when a mapping
 * is not of a file.
 */
#include "transcript/ioas.h"

static long change(void)
{
    struct iommu_ioas_change_process cmd = {.size = sizeof(cmd)};

    return run(&IOAS_CHANGE_PROCESS, &cmd);
}

int main(void)
{
    struct iommu_ioas_change_process reserved = {.size = sizeof(reserved), .__reserved = 1};
    uint32_t files, memory;
    int fd, status;
    pid_t child;

    begin("change_process: nothing mapped");
    fd = name_fd("memfd", memfd_create("memory", 0));
    if (ftruncate(fd, 4 * PAGE))
        return 2;
    run(&IOAS_CHANGE_PROCESS, &reserved);
    change();
    files = ioas_alloc();
    memory = ioas_alloc();
    change();

    section("a file");
    map_file(files, fd, 0, PAGE, FIXED | R | W, 0x10000);
    change();
    section("a child takes it");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        change();
        map_file(files, fd, PAGE, PAGE, FIXED | R | W, 0x20000);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    printf("child exited with %d\n", WEXITSTATUS(status));
    change();

    section("memory, in another IOAS");
    map(memory, 0, PAGE, FIXED | R, 0x10000);
    change();
    unmap(memory, 0x10000, PAGE);
    change();
    section("memory, copied beside a file");
    map(memory, 0, PAGE, FIXED | R, 0x10000);
    copy(files, memory, 0x10000, PAGE, FIXED | R, 0x90000);
    destroy(memory);
    change();
    unmap(files, 0x90000, PAGE);
    change();
    run(&IOAS_CHANGE_PROCESS, &reserved);
    return 0;
}
