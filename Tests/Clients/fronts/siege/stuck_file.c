/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file whose pages arrive once and then never again: the only file of a FUSE file system that
 * a child of this process serves, in the protocol of <linux/fuse.h>. (A process that serves its own
 * files cannot be killed: it closes a file, which asks the server, before it closes the
 * connection.)
 */
#include "siege.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum { FILE_NODE = 2, BUFFER = 1 << 17 };

static int connection;
static size_t file_size;
/** In memory that the child shares. */
static volatile bool *answers_reads;

static void answer(const struct fuse_in_header *request, int error, const void *body, size_t count)
{
    static char buffer[BUFFER];
    struct fuse_out_header *header = (void *)buffer;

    header->len = (uint32_t)(sizeof(*header) + count);
    header->error = -error;
    header->unique = request->unique;
    memcpy(header + 1, body, count);
    if (write(connection, buffer, header->len) < 0 && errno != ENOENT)
        fatal("FUSE: %s", strerror(errno));
}

static struct fuse_attr attributes(uint64_t node)
{
    return (struct fuse_attr){
        .ino = node,
        .size = node == FILE_NODE ? file_size : 0,
        .mode = node == FILE_NODE ? S_IFREG | 0666 : S_IFDIR | 0777,
        .nlink = 1,
        .blksize = PAGE,
    };
}

static void serve(const struct fuse_in_header *request)
{
    static const char zeros[BUFFER / 2];

    switch (request->opcode) {
    case FUSE_INIT: {
        struct fuse_init_out out = {
            .major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = PAGE, .max_write = PAGE};
        answer(request, 0, &out, sizeof(out));
        break;
    }
    case FUSE_LOOKUP: {
        struct fuse_entry_out out = {.nodeid = FILE_NODE, .attr = attributes(FILE_NODE)};
        answer(request, 0, &out, sizeof(out));
        break;
    }
    case FUSE_GETATTR: {
        struct fuse_attr_out out = {.attr = attributes(request->nodeid)};
        answer(request, 0, &out, sizeof(out));
        break;
    }
    case FUSE_OPEN: {
        struct fuse_open_out out = {.fh = 1};
        answer(request, 0, &out, sizeof(out));
        break;
    }
    case FUSE_READ: {
        const struct fuse_read_in *in = (const void *)(request + 1);
        if (*answers_reads)
            answer(request, 0, zeros, in->size < sizeof(zeros) ? in->size : sizeof(zeros));
        break;
    }
    case FUSE_FLUSH:
    case FUSE_RELEASE:
        answer(request, 0, NULL, 0);
        break;
    case FUSE_FORGET:
    case FUSE_INTERRUPT:
        break;
    default:
        answer(request, ENOSYS, NULL, 0);
    }
}

static void serve_all(void)
{
    static char buffer[BUFFER] __attribute__((aligned(8)));

    while (read(connection, buffer, sizeof(buffer)) > 0)
        serve((const void *)buffer);
    _exit(0);
}

int open_stuck_file(size_t size)
{
    char directory[] = "/tmp/siege.XXXXXX", options[100], path[64];
    pid_t child;
    int file;

    file_size = size;
    connection = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (connection < 0 || !mkdtemp(directory))
        return -1;
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", connection);
    if (mount("siege", directory, "fuse", MS_NOSUID | MS_NODEV, options)) {
        rmdir(directory);
        return -1;
    }
    answers_reads = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (answers_reads == MAP_FAILED || (child = fork()) < 0)
        fatal("no child");
    *answers_reads = true;
    if (child == 0)
        serve_all();
    close(connection);
    snprintf(path, sizeof(path), "%s/file", directory);
    file = open(path, O_RDWR | O_CLOEXEC);
    umount2(directory, MNT_DETACH);
    rmdir(directory);
    return file;
}

void stop_stuck_file(int file)
{
    *answers_reads = false;
    /* Drops the pages that have arrived. */
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}
