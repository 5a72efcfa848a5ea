/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 32-bit caller. Linux's /dev/iommu has no compat_ioctl, so every request fails with ENOTTY;
 * open() and close() work. The client has no C library, so that the machine needs no 32-bit one.
 */
#define O_RDWR 2
#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_PRIVATE 2
#define MAP_ANONYMOUS 0x20

#include <linux/iommufd.h>
#include <linux/vfio.h>

static long syscall3(long number, long a, long b, long c)
{
    long result;

    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

enum { SYS_EXIT = 1, SYS_WRITE = 4, SYS_OPEN = 5, SYS_CLOSE = 6, SYS_IOCTL = 54 };

static unsigned length(const char *text)
{
    unsigned count = 0;

    while (text[count])
        count++;
    return count;
}

static void print(const char *text)
{
    syscall3(SYS_WRITE, 1, (long)text, length(text));
}

static void print_result(const char *what, long result)
{
    static const struct {
        long value;
        const char *name;
    } names[] = {{0, "0"},          {-1, "EPERM"},   {-2, "ENOENT"},  {-9, "EBADF"},
                 {-14, "EFAULT"},   {-22, "EINVAL"}, {-25, "ENOTTY"}, {-38, "ENOSYS"},
                 {-95, "EOPNOTSUPP"}};

    print(what);
    print(" -> ");
    for (unsigned i = 0; i != sizeof(names) / sizeof(names[0]); i++)
        if (names[i].value == result) {
            print(names[i].name);
            print("\n");
            return;
        }
    print("another value\n");
}

static const char *environment(char **variables, const char *name)
{
    for (; *variables; variables++) {
        unsigned i = 0;

        while (name[i] && (*variables)[i] == name[i])
            i++;
        if (!name[i] && (*variables)[i] == '=')
            return *variables + i + 1;
    }
    return 0;
}

__attribute__((used)) void run(long *stack)
{
    char **variables = (char **)(stack + 1 + *stack + 1);
    const char *node = environment(variables, "IOMMUFD");
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    struct iommu_ioas_map map = {.size = sizeof(map), .flags = 4, .ioas_id = 1, .length = 4096};
    struct iommu_destroy destroy = {.size = sizeof(destroy), .id = 1};
    long fd = syscall3(SYS_OPEN, (long)(node ? node : "/dev/iommu"), O_RDWR, 0);

    print("# a 32-bit caller\n");
    print_result("open", fd < 0 ? fd : 0);
    if (fd < 0)
        syscall3(SYS_EXIT, 2, 0, 0);
    print_result("IOAS_ALLOC", syscall3(SYS_IOCTL, fd, IOMMU_IOAS_ALLOC, (long)&alloc));
    print_result("IOAS_ALLOC at NULL", syscall3(SYS_IOCTL, fd, IOMMU_IOAS_ALLOC, 0));
    print_result("IOAS_MAP", syscall3(SYS_IOCTL, fd, IOMMU_IOAS_MAP, (long)&map));
    print_result("DESTROY", syscall3(SYS_IOCTL, fd, IOMMU_DESTROY, (long)&destroy));
    print_result("GET_API_VERSION", syscall3(SYS_IOCTL, fd, VFIO_GET_API_VERSION, 0));
    print_result("number 0", syscall3(SYS_IOCTL, fd, _IO(';', 0), 0));
    print_result("close", syscall3(SYS_CLOSE, fd, 0, 0));
    print_result("IOAS_ALLOC, closed", syscall3(SYS_IOCTL, fd, IOMMU_IOAS_ALLOC, (long)&alloc));
    syscall3(SYS_EXIT, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %esp, %eax\n\tpush %eax\n\tcall run\n");
