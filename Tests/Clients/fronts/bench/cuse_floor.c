/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUSE server that does no more than it must to answer two commands of an iommufd and a read at
 * an offset.
 *
 *   cuse_floor NAME     serves /dev/NAME until it is killed
 *
 * The server uses the protocol of iommufd-sim, which has one message per call: process_vm_readv()
 * and _writev() access the argument struct in the caller's memory, where FUSE's own way
 * (unrestricted ioctl with retry) needs two more messages; the offset of a read, which CUSE does
 * not pass on, comes from /proc/<tid>/syscall. The server has one thread, runs libfuse's loop and
 * has no state.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 31
#include <cuse_lowlevel.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "linux/iommufd.h"

static void answer_open(fuse_req_t request, struct fuse_file_info *file)
{
    fuse_reply_open(request, file);
}

static void answer_ioctl(fuse_req_t request, int command, void *argument,
                         struct fuse_file_info *file, unsigned flags, const void *input,
                         size_t in_size, size_t out_size)
{
    union {
        struct iommu_destroy destroy;
        struct iommu_option option;
    } body;
    int gets = command == (int)IOMMU_OPTION;
    struct iovec here = {&body, gets ? sizeof body.option : sizeof body.destroy};
    struct iovec there = {argument, here.iov_len};
    pid_t task = fuse_req_ctx(request)->pid;

    (void)file, (void)flags, (void)input, (void)in_size, (void)out_size;
    if (process_vm_readv(task, &here, 1, &there, 1, 0) != (ssize_t)here.iov_len) {
        fuse_reply_err(request, EFAULT);
        return;
    }
    if (gets) {
        body.option.val64 = 0;
        process_vm_writev(task, &here, 1, &there, 1, 0);
    }
    fuse_reply_ioctl(request, gets ? 0 : -ENOENT, NULL, 0);
}

static void answer_read(fuse_req_t request, size_t size, off_t start, struct fuse_file_info *file)
{
    unsigned long long offset = 0;
    char path[64], text[256], bytes[64] = {0};

    (void)start, (void)file;
    snprintf(path, sizeof path, "/proc/%d/syscall", fuse_req_ctx(request)->pid);
    do { /* the caller may not sleep yet */
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = read(fd, text, sizeof text - 1);

        close(fd);
        text[length < 0 ? 0 : length] = 0;
    } while (!strncmp(text, "running", 7) && !sched_yield());
    if (sscanf(text, "%*d %*x %*x %*x %llx", &offset) != 1 || size > sizeof bytes) {
        fuse_reply_err(request, EINVAL);
        return;
    }
    memset(bytes, (char)offset, size);
    fuse_reply_buf(request, bytes, size);
}

int main(int count, char **arguments)
{
    static const struct cuse_lowlevel_ops operations = {
        .open = answer_open, .ioctl = answer_ioctl, .read = answer_read};
    char name[80], *options[] = {arguments[0], "-f", "-s", NULL};
    const char *lines[] = {name};
    struct cuse_info info = {
        .dev_info_argc = 1, .dev_info_argv = lines, .flags = CUSE_UNRESTRICTED_IOCTL};

    if (count != 2)
        return 2;
    snprintf(name, sizeof name, "DEVNAME=%s", arguments[1]);
    return cuse_lowlevel_main(3, options, &info, &operations, NULL);
}
