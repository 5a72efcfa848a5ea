/* SPDX-License-Identifier: Apache-2.0 */
#include "files/file_calls.h"

#include "transcript/named.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static char bytes[8192] __attribute__((aligned(4096)));

static void line(const char *name, long result)
{
    printf("%s", name);
    print_result(result);
    printf("\n");
}

#define CALL(name, call) (fflush(stdout), line(name, call))

static void print_whole_file_calls(int fd)
{
    CALL("fsync", fsync(fd));
    CALL("fdatasync", fdatasync(fd));
    CALL("syncfs", syncfs(fd));
    CALL("sync_file_range", sync_file_range(fd, 0, 4096, SYNC_FILE_RANGE_WRITE));
    CALL("sync_file_range of bad flags", sync_file_range(fd, 0, 4096, 0xff));
    CALL("fallocate", fallocate(fd, 0, 0, 4096));
    CALL("fallocate PUNCH_HOLE",
         fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    CALL("fallocate of nothing", fallocate(fd, 0, 0, 0));
    CALL("fallocate of a bad mode", fallocate(fd, 0x4000, 0, 4096));
    CALL("ftruncate", ftruncate(fd, 0));
    CALL("ftruncate to 4096", ftruncate(fd, 4096));
    CALL("ftruncate to -1", ftruncate(fd, -1));
    CALL("readahead", readahead(fd, 0, 4096));
    CALL("posix_fadvise", syscall(SYS_fadvise64, fd, 0, 0, POSIX_FADV_WILLNEED));
    CALL("posix_fadvise of bad advice", syscall(SYS_fadvise64, fd, 0, 0, 99));
    CALL("getdents64", syscall(SYS_getdents64, fd, bytes, sizeof(bytes)));
    CALL("fchdir", fchdir(fd));
    CALL("flistxattr", flistxattr(fd, bytes, sizeof(bytes)));
    CALL("fgetxattr user.x", fgetxattr(fd, "user.x", bytes, sizeof(bytes)));
    CALL("fgetxattr security.x", fgetxattr(fd, "security.x", bytes, sizeof(bytes)));
}

static void seek_from(int fd, const char *name, long offset, int whence)
{
    CALL(name, lseek(fd, offset, whence));
}

static void print_positions(int fd)
{
    struct iovec vector = {bytes, 7};

    seek_from(fd, "lseek 0 SET", 0, SEEK_SET);
    seek_from(fd, "lseek 100000 SET", 100000, SEEK_SET);
    seek_from(fd, "lseek 0 CUR", 0, SEEK_CUR);
    seek_from(fd, "lseek 0 END", 0, SEEK_END);
    seek_from(fd, "lseek 0 DATA", 0, SEEK_DATA);
    seek_from(fd, "lseek 0 HOLE", 0, SEEK_HOLE);
    seek_from(fd, "lseek -1 SET", -1, SEEK_SET);
    seek_from(fd, "lseek from nowhere", 0, 77);
    CALL("read 7", read(fd, bytes, 7));
    CALL("readv 7", readv(fd, &vector, 1));
    CALL("write 7", write(fd, bytes, 7));
    CALL("writev 7", writev(fd, &vector, 1));
    CALL("pread 7 at 0", pread(fd, bytes, 7, 0));
    CALL("pwrite 7 at 0", pwrite(fd, bytes, 7, 0));
    CALL("pread 7 at -1", pread(fd, bytes, 7, -1));
    CALL("preadv 7 at 0", preadv(fd, &vector, 1, 0));
    CALL("pwritev 7 at 0", pwritev(fd, &vector, 1, 0));
    CALL("preadv2 7 at -1", preadv2(fd, &vector, 1, -1, 0));
}

static void print_copies(int fd)
{
    int pipes[2], memory = memfd_create("file_calls", MFD_CLOEXEC);
    struct iovec vector = {bytes, 7};
    loff_t zero = 0;

    if (pipe2(pipes, O_NONBLOCK) || memory < 0 || ftruncate(memory, 4096))
        return;
    CALL("sendfile from it", sendfile(memory, fd, NULL, 8));
    CALL("sendfile from it at 0", sendfile(memory, fd, &zero, 8));
    CALL("sendfile to it", sendfile(fd, memory, NULL, 8));
    CALL("copy_file_range from it", copy_file_range(fd, NULL, memory, NULL, 8, 0));
    CALL("copy_file_range to it", copy_file_range(memory, NULL, fd, NULL, 8, 0));
    CALL("splice from it", splice(fd, NULL, pipes[1], NULL, 8, SPLICE_F_NONBLOCK));
    CALL("splice from it at 0", splice(fd, &zero, pipes[1], NULL, 8, SPLICE_F_NONBLOCK));
    if (write(pipes[1], bytes, 8) == 8)
        CALL("splice to it", splice(pipes[0], NULL, fd, NULL, 8, SPLICE_F_NONBLOCK));
    CALL("tee from it", tee(fd, pipes[1], 8, SPLICE_F_NONBLOCK));
    CALL("vmsplice to it", vmsplice(fd, &vector, 1, SPLICE_F_NONBLOCK));
    close(pipes[0]);
    close(pipes[1]);
    close(memory);
}

static void print_locks(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct flock one = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};

    CALL("F_GETLK", fcntl(fd, F_GETLK, &whole));
    printf("  l_type=%d\n", whole.l_type);
    whole.l_type = F_WRLCK;
    CALL("F_SETLK of all", fcntl(fd, F_SETLK, &whole));
    CALL("F_SETLK of one byte", fcntl(fd, F_SETLK, &one));
    whole.l_type = F_UNLCK;
    CALL("F_SETLK unlocks", fcntl(fd, F_SETLK, &whole));
    whole.l_type = F_WRLCK;
    CALL("F_OFD_SETLK of all", fcntl(fd, F_OFD_SETLK, &whole));
    whole.l_type = F_UNLCK;
    CALL("F_OFD_SETLK unlocks", fcntl(fd, F_OFD_SETLK, &whole));
    CALL("flock EX", flock(fd, LOCK_EX | LOCK_NB));
    CALL("flock UN", flock(fd, LOCK_UN));
    CALL("F_GETLEASE", fcntl(fd, F_GETLEASE));
    CALL("F_SETLEASE", fcntl(fd, F_SETLEASE, F_RDLCK));
}

static void print_controls(int fd)
{
    unsigned long word = 0;
    int one = 1;

    CALL("F_GET_SEALS", fcntl(fd, F_GET_SEALS));
    CALL("F_ADD_SEALS", fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    CALL("F_GETPIPE_SZ", fcntl(fd, F_GETPIPE_SZ));
    CALL("F_GETOWN", fcntl(fd, F_GETOWN));
    CALL("F_GETFD", fcntl(fd, F_GETFD));
    CALL("F_SETFL O_APPEND", fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_APPEND));
    CALL("F_SETFL not O_APPEND", fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_APPEND));
    CALL("F_SETFL O_DIRECT", fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT));
    CALL("FIONREAD", ioctl(fd, FIONREAD, &word));
    CALL("FIONBIO 1", ioctl(fd, FIONBIO, &one));
    printf("  O_NONBLOCK %d\n", !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
    one = 0;
    CALL("FIONBIO 0", ioctl(fd, FIONBIO, &one));
    one = 1;
    CALL("FIOASYNC 1", ioctl(fd, FIOASYNC, &one));
    CALL("FIONCLEX", ioctl(fd, FIONCLEX));
    printf("  FD_CLOEXEC %d\n", fcntl(fd, F_GETFD));
    CALL("FIOCLEX", ioctl(fd, FIOCLEX));
    printf("  FD_CLOEXEC %d\n", fcntl(fd, F_GETFD));
    CALL("FIGETBSZ", ioctl(fd, 2, &one));
    CALL("FIBMAP", ioctl(fd, 1, &one));
    CALL("FIOQSIZE", ioctl(fd, FIOQSIZE, &word));
    CALL("TCGETS", ioctl(fd, TCGETS, bytes));
    CALL("getsockopt", getsockopt(fd, SOL_SOCKET, SO_TYPE, &one, &(socklen_t){sizeof(one)}));
    CALL("shutdown", shutdown(fd, SHUT_RDWR));
    CALL("send", send(fd, bytes, 7, MSG_DONTWAIT));
    CALL("recv", recv(fd, bytes, 7, MSG_DONTWAIT));
    CALL("getpeername", getpeername(fd, (void *)bytes, &(socklen_t){64}));
}

static void print_mappings(int fd)
{
    static const struct {
        const char *name;
        int protection, flags;
    } kinds[] = {
        {"mmap SHARED rw", PROT_READ | PROT_WRITE, MAP_SHARED},
        {"mmap SHARED r", PROT_READ, MAP_SHARED},
        {"mmap PRIVATE rw", PROT_READ | PROT_WRITE, MAP_PRIVATE},
        {"mmap SHARED rx", PROT_READ | PROT_EXEC, MAP_SHARED},
    };

    for (size_t i = 0; i != sizeof(kinds) / sizeof(*kinds); i++) {
        void *at = mmap(NULL, 4096, kinds[i].protection, kinds[i].flags, fd, 0);

        line(kinds[i].name, at == MAP_FAILED ? -1 : 0);
        if (at != MAP_FAILED)
            munmap(at, 4096);
    }
}

static void print_readiness(int fd)
{
    struct pollfd item = {.fd = fd, .events = 0x7fff};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};

    CALL("poll", poll(&item, 1, 0));
    printf("  revents=%#x\n", item.revents);
    CALL("epoll_ctl ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    event.events = 0;
    CALL("epoll_wait", epoll_wait(epoll, &event, 1, 0));
    printf("  events=%#x\n", event.events);
    close(epoll);
}

static void submit(const char *name, int fd, int opcode)
{
    aio_context_t context = 0;
    struct iocb request = {.aio_fildes = fd,
                           .aio_lio_opcode = opcode,
                           .aio_buf = opcode == IOCB_CMD_POLL ? POLLIN : (uintptr_t)bytes,
                           .aio_nbytes = opcode == IOCB_CMD_POLL || opcode == IOCB_CMD_FSYNC ? 0 : 8};
    struct iocb *list[] = {&request};

    if (syscall(SYS_io_setup, 1, &context))
        return;
    CALL(name, syscall(SYS_io_submit, context, 1, list));
    syscall(SYS_io_destroy, context);
}

static void print_changes_of_status(int fd)
{
    struct stat status;

    if (fstat(fd, &status))
        return;
    CALL("fchmod to what it is", fchmod(fd, status.st_mode & 07777));
    CALL("fchown to what it is", fchown(fd, status.st_uid, status.st_gid));
    CALL("fchown to nobody", fchown(fd, -1, -1));
    CALL("futimens", futimens(fd, NULL));
}

void print_description(int fd)
{
    char link[64], target[256] = "";
    struct stat status = {0};
    struct statx extended = {0};
    struct statfs system = {0};
    int flags = fcntl(fd, F_GETFL);

    CALL("fstat", fstat(fd, &status));
    printf("  type=%#o nlink=%lu size=%ld blksize=%ld blocks=%ld rdev=%s uid=%u gid=%u\n",
           status.st_mode & S_IFMT, (long)status.st_nlink,
           (long)status.st_size, (long)status.st_blksize, (long)status.st_blocks,
           status.st_rdev ? "some" : "none", status.st_uid, status.st_gid);
    CALL("statx", statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &extended));
    printf("  type=%#o nlink=%u mask=%#x\n", extended.stx_mode & S_IFMT, extended.stx_nlink,
           extended.stx_mask & STATX_BASIC_STATS);
    CALL("fstatfs", fstatfs(fd, &system));
    printf("  type=%#lx\n", (long)system.f_type);
    printf("F_GETFL %#o\n", flags);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    CALL("readlink", readlink(link, target, sizeof(target) - 1));
    printf("  %s\n", target);
}

void print_file_calls(int fd, bool has_memory)
{
    print_description(fd);
    print_whole_file_calls(fd);
    if (!has_memory)
        print_positions(fd);
    print_copies(fd);
    print_locks(fd);
    print_controls(fd);
    if (!has_memory)
        print_mappings(fd);
    print_readiness(fd);
    submit("io_submit PREAD", fd, IOCB_CMD_PREAD);
    submit("io_submit PWRITE", fd, IOCB_CMD_PWRITE);
    submit("io_submit FSYNC", fd, IOCB_CMD_FSYNC);
    submit("io_submit POLL", fd, IOCB_CMD_POLL);
    print_changes_of_status(fd);
}
