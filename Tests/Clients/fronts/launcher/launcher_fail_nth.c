/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program under `iommufd-sim run --selftest --fail-nth`: fail-nth belongs to one thread and
 * counts exactly, the files of debugfs exist, and /proc/<pid>/status shows the pinned pages. Status
 * 0 when all is right.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "iommufd_test.h"

static int failed;

static void expect(const char *what, long is, long should)
{
    if (is == should)
        return;
    printf("%s: %ld, not %ld (%s)\n", what, is, should, strerror(errno));
    failed = 1;
}

static int open_own(void)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/task/%ld/fail-nth", syscall(SYS_gettid));
    return open(path, O_RDWR);
}

static void arm(int file, unsigned count)
{
    char text[16];
    int length = snprintf(text, sizeof(text), "%u", count);

    expect("write", pwrite(file, text, length, 0), length);
}

static long remaining(int file)
{
    char text[16] = "";

    if (pread(file, text, sizeof(text) - 1, 0) < 2)
        return -1;
    return atol(text);
}

static int ioas_alloc(int iommufd, unsigned *id)
{
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    int result = ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc);

    *id = alloc.out_ioas_id;
    return result ? -errno : 0;
}

static void test_counting(int iommufd)
{
    int file = open_own();
    unsigned id;

    expect("descriptor", file >= 960, 1);
    expect("unarmed", remaining(file), 0);
    arm(file, 2);
    expect("armed", remaining(file), 2);
    expect("first step", ioas_alloc(iommufd, &id), 0);
    expect("one step to go", remaining(file), 1);
    expect("second step", ioas_alloc(iommufd, &id), -ENOMEM);
    expect("spent", remaining(file), 0);
    expect("third step", ioas_alloc(iommufd, &id), 0);
    expect("id", id, 2);

    arm(file, 1);
    pid_t child = fork();
    if (child == 0)
        _exit(-ioas_alloc(iommufd, &id));
    int status = -1;
    waitpid(child, &status, 0);
    expect("a child is not armed", status, 0);
    expect("still armed", remaining(file), 1);
    expect("open", open("/dev/iommu", O_RDWR), -1);
    expect("errno", errno, ENOMEM);

    errno = 0;
    expect("no number", pwrite(file, "x", 1, 0), -1);
    expect("errno", errno, EINVAL);
    expect("plain write", write(file, "6\n", 2), 2);
    expect("plain read at the same place", read(file, &(char[9]){0}, 9), 0);
    expect("written", remaining(file), 6);
    arm(file, 0);
    expect("close", close(file), 0);
}

static void *second_thread(void *argument)
{
    int file = open_own();
    unsigned id;

    arm(file, 1);
    expect("the thread's step", ioas_alloc(*(int *)argument, &id), -ENOMEM);
    expect("spent", remaining(file), 0);
    close(file);
    return NULL;
}

static void test_threads(int iommufd)
{
    int file = open_own();
    pthread_t thread;

    arm(file, 5);
    pthread_create(&thread, NULL, second_thread, &iommufd);
    pthread_join(thread, NULL);
    expect("other threads do not count", remaining(file), 5);
    arm(file, 0);
    close(file);
}

static void test_debugfs(void)
{
    DIR *directory = opendir("/sys/kernel/debug/");
    char text[8] = "";
    int entries = 0, knob;

    if (!directory) {
        expect("/sys/kernel/debug", 0, 1);
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory));)
        entries += !strncmp(entry->d_name, "fail", 4);
    expect("directories", entries, 3);
    knob = openat(dirfd(directory), "failslab/ignore-gfp-wait", O_WRONLY);
    expect("knob", write(knob, "N", 1), 1);
    close(knob);
    closedir(directory);
    knob = open("/sys/kernel/debug/failslab/ignore-gfp-wait", O_RDONLY);
    expect("length", read(knob, text, sizeof(text)), 2);
    expect("value", text[0], 'N');
    close(knob);
}

static long status_field(const char *name)
{
    char line[256];
    long value = -1;
    FILE *status = fopen("/proc/self/status", "r");

    while (status && fgets(line, sizeof(line), status))
        if (!strncmp(line, name, strlen(name)))
            value = atol(line + strlen(name));
    if (status)
        fclose(status);
    return value;
}

static void test_pinned(int iommufd)
{
    struct iommu_test_cmd device = {.size = sizeof(device), .op = IOMMU_TEST_OP_MOCK_DOMAIN};
    void *memory = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iommu_ioas_map map = {
        .size = sizeof(map), .flags = 6, .user_va = (unsigned long)memory, .length = 16384};
    long before = status_field("VmPin:");

    expect("IOAS", ioas_alloc(iommufd, &map.ioas_id), 0);
    device.id = map.ioas_id;
    expect("device", ioctl(iommufd, _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 32), &device), 0);
    expect("map", ioctl(iommufd, IOMMU_IOAS_MAP, &map), 0);
    expect("VmPin", status_field("VmPin:"), before + 16);
    close(iommufd);
    expect("VmPin after close", status_field("VmPin:"), before);
}

int main(void)
{
    int iommufd = open("/dev/iommu", O_RDWR);

    test_counting(iommufd);
    test_threads(iommufd);
    test_debugfs();
    test_pinned(iommufd);
    return failed;
}
