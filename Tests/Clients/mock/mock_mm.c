/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes and address spaces. A child of clone(CLONE_VM) has the address space of its parent:
 * pages that one of them maps are pinned, charged and counted for both. And the capabilities that
 * count are the effective ones.
 */
#include "transcript/pinned.h"
#include "mock/mock.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { MODE = IOMMU_OPTION_RLIMIT_MODE, GET = IOMMU_OPTION_OP_GET, SET = IOMMU_OPTION_OP_SET };

static uint32_t ioas;
static struct mock_device device;
static int memory;

static long change_process(void)
{
    struct iommu_ioas_change_process change = {.size = sizeof(change)};

    return run(&IOAS_CHANGE_PROCESS, &change);
}

/* ---- processes ---------------------------------------------------------------------------- */

static int call(void *body)
{
    ((void (*)(void))body)();
    fflush(stdout);
    return 0;
}

static pid_t start(int flags, void (*body)(void))
{
    static unsigned char stack[1 << 16] __attribute__((aligned(16)));

    fflush(stdout);
    pid_t child = clone(call, stack + sizeof(stack), flags | SIGCHLD, (void *)body);
    if (child < 0)
        exit(2);
    return child;
}

static void await(pid_t child)
{
    int status;

    if (waitpid(child, &status, 0) != child)
        exit(2);
}

/** Calls `body` in a child that has this process's memory, and waits for the child's end. */
static void in_sharing_child(void (*body)(void))
{
    printf("in a child with the same memory:\n");
    await(start(CLONE_VM | CLONE_VFORK, body));
    printf("in the parent:\n");
}

/** Calls `body` in a child that has a copy of this process's memory. */
static void in_forked_child(void (*body)(void))
{
    printf("in a child with a copy of the memory:\n");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        body();
        fflush(stdout);
        _exit(0);
    }
    await(child);
    printf("in the parent:\n");
}

/* ---- pins of one address space ------------------------------------------------------------ */

static void map_first(void)
{
    map(ioas, (uintptr_t)buffer, 2 * PAGE, FIXED | R | W, MOCK_START);
    check_refs(buffer, 2 * PAGE, 1);
    print_pinned();
}

static void map_again(void)
{
    check_refs(buffer, 2 * PAGE, 1);
    map(ioas, (uintptr_t)buffer + PAGE, 2 * PAGE, FIXED | R | W, MOCK_START + 0x10000);
    check_refs(buffer, PAGE, 1);
    check_refs(buffer + PAGE, PAGE, 2);
    check_refs(buffer + 2 * PAGE, PAGE, 1);
    check_map(device.hwpt, MOCK_START, 2 * PAGE, buffer);
    print_pinned();
}

static void look(void)
{
    check_map(device.hwpt, MOCK_START, 2 * PAGE, buffer);
    check_refs(buffer, PAGE, 1);
    check_refs(buffer + PAGE, PAGE, 2);
    print_pinned();
}

static void copy_pages(void)
{
    copy(ioas, ioas, MOCK_START, 2 * PAGE, FIXED | R, MOCK_START + 0x20000);
    check_refs(buffer, PAGE, 1);
    print_pinned();
}

static void unmap_all(void)
{
    unmap(ioas, 0, UINT64_MAX);
    print_pinned();
}

static void map_in_first_child(void)
{
    in_sharing_child(map_first);
    map_again();
    look();
    unmap_all();
}

static void test_pins(void)
{
    section("the parent maps");
    map_first();
    in_sharing_child(map_again);
    look();
    in_sharing_child(copy_pages);
    in_forked_child(print_pinned);
    in_sharing_child(unmap_all);
    print_pinned();
    section("the child maps");
    in_sharing_child(map_first);
    map_again();
    in_sharing_child(look);
    unmap_all();
    section("one child maps, another child uses it");
    in_sharing_child(map_first);
    in_sharing_child(map_again);
    in_sharing_child(look);
    unmap_all();
    section("the first call of an address space is the child's");
    in_forked_child(map_in_first_child);
}

/* ---- a process that outlives the one that made the address space --------------------------- */

static int parent_may_exit[2], sharer_id[2];
static pid_t parent;

static void outlive_parent(void)
{
    char byte = 0;

    pid_t own = getpid();

    map_again();
    fflush(stdout);
    if (write(sharer_id[1], &own, sizeof(own)) != sizeof(own)
        || write(parent_may_exit[1], &byte, 1) != 1)
        _exit(2);
    while (getppid() == parent)
        usleep(1000);
    printf("the parent has ended\n");
    buffer[0] = 0x55;
    buffer[PAGE] = 0x66;
    look();
    int access = create_access("access", ioas, 0);
    access_rw(access, MOCK_START, 1, buffer + 8 * PAGE, 0);
    printf("%#x\n", buffer[8 * PAGE]);
    access_rw(access, MOCK_START + PAGE, 1, buffer + 8 * PAGE, MOCK_ACCESS_RW_SLOW_PATH);
    printf("%#x\n", buffer[8 * PAGE]);
    buffer[8 * PAGE] = 0x77;
    access_rw(access, MOCK_START, 1, buffer + 8 * PAGE,
              MOCK_ACCESS_RW_WRITE | MOCK_ACCESS_RW_SLOW_PATH);
    printf("%#x\n", buffer[0]);
    close(access);
    map(ioas, (uintptr_t)buffer + 4 * PAGE, PAGE, FIXED | R | W, MOCK_START + 0x30000);
    print_pinned();
    unmap(ioas, MOCK_START + 0x30000, PAGE);
}

static void test_outliving_child(void)
{
    char byte;
    int access;
    pid_t sharer;

    section("the parent ends before the child");
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (pipe(parent_may_exit) || pipe(sharer_id))
        exit(2);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        parent = getpid();
        map_first();
        start(CLONE_VM, outlive_parent);
        if (read(parent_may_exit[0], &byte, 1) != 1)
            _exit(2);
        syscall(SYS_exit_group, 0);
    }
    await(child);
    if (read(sharer_id[0], &sharer, sizeof(sharer)) != sizeof(sharer)
        || waitpid(sharer, NULL, 0) < 0)
        exit(2);
    printf("both have ended\n");
    access = create_access("access", ioas, 0);
    for (unsigned page = 0; page != 2; page++) {
        access_rw(access, MOCK_START + page * PAGE, 1, buffer + 8 * PAGE, 0);
        printf("%#x\n", buffer[8 * PAGE]);
    }
    close(access);
    unmap_all();
}

/* ---- charges ------------------------------------------------------------------------------ */

static void map_beyond_limit(void)
{
    map(ioas, (uintptr_t)buffer + 4 * PAGE, 3 * PAGE, FIXED | R | W, MOCK_START + 0x10000);
    map(ioas, (uintptr_t)buffer + 4 * PAGE, 2 * PAGE, FIXED | R | W, MOCK_START + 0x10000);
    print_pinned();
}

static long change_and_print(void)
{
    long result = change_process();

    print_pinned();
    return result;
}

static void take_over(void)
{
    change_and_print();
}

static void test_charges(void)
{
    section("4 pages for parent and child together");
    set_memlock_limit(4);
    map_first();
    in_sharing_child(map_beyond_limit);
    map(ioas, (uintptr_t)buffer + 8 * PAGE, PAGE, FIXED | R | W, MOCK_START + 0x20000);
    unmap_all();
    section("CHANGE_PROCESS by a process with the same address space");
    map_file(ioas, memory, 0, 3 * PAGE, FIXED | R | W, MOCK_START);
    print_pinned();
    in_sharing_child(take_over);
    print_pinned();
    unmap_all();
    set_memlock_limit(16);
}

static void change_and_map(void)
{
    change_and_print();
    map_file(ioas, memory, PAGE, PAGE, FIXED | R | W, MOCK_START + 0x10000);
    print_pinned();
    unmap(ioas, MOCK_START + 0x10000, PAGE);
    print_pinned();
}

static void change_and_unmap(void)
{
    change_and_print();
    unmap_all();
}

static void test_change_process(void)
{
    section("another process takes over");
    map_file(ioas, memory, 0, 4 * PAGE, FIXED | R | W, MOCK_START);
    print_pinned();
    in_forked_child(change_and_map);
    print_pinned();
    if (change_and_print())
        return; /* the counters of a mm that is gone cannot be changed, and are wrong from now on */
    in_forked_child(change_and_unmap);
    print_pinned();
    map_file(ioas, memory, 0, 4 * PAGE, FIXED | R | W, MOCK_START);
    print_pinned();
    unmap_all();
}

/* ---- capabilities -------------------------------------------------------------------------- */

static void change_capabilities(const char *what, void (*change)(struct __user_cap_data_struct *))
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    printf("capset: %s", what);
    if (syscall(SYS_capget, &header, data))
        exit(2);
    change(&data[0]);
    change(&data[1]);
    print_result(syscall(SYS_capset, &header, data));
    printf("\n");
}

static void drop_effective(struct __user_cap_data_struct *data)
{
    data->effective = 0;
}

static void raise_permitted(struct __user_cap_data_struct *data)
{
    data->effective = data->permitted;
}

static void set_mode(void)
{
    uint64_t busy = ioas_alloc();

    option(MODE, SET, 0, 1); /* EPERM comes before EBUSY */
    destroy(busy);
}

static void test_capabilities(void)
{
    if (geteuid())
        return;
    reopen("effective user ID of nobody");
    set_mode();
    if (seteuid(65534))
        exit(2);
    set_mode();
    option(MODE, GET, 0, 0);
    if (seteuid(0))
        exit(2);
    set_mode();
    section("capabilities that are permitted and not effective");
    change_capabilities("none effective", drop_effective);
    set_mode();
    change_capabilities("all permitted ones effective", raise_permitted);
    set_mode();
    section("without CAP_IPC_LOCK in the effective set pages are charged");
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    set_memlock_limit(2);
    map(ioas, (uintptr_t)buffer, 2 * PAGE, R | W, 0);
    change_capabilities("none effective", drop_effective);
    map(ioas, (uintptr_t)buffer, 3 * PAGE, R | W, 0);
    map(ioas, (uintptr_t)buffer, 2 * PAGE, R | W, 0);
    map(ioas, (uintptr_t)buffer, PAGE, R | W, 0);
    change_capabilities("all permitted ones effective", raise_permitted);
    map(ioas, (uintptr_t)buffer, 3 * PAGE, R | W, 0);
    set_memlock_limit(16);
}

static void test_accounts(const char *title)
{
    section("%s", title);
    ioas = ioas_alloc();
    mock_domain(ioas, &device);
    test_pins();
    test_outliving_child();
    test_charges();
    test_change_process();
}

int main(void)
{
    part = "mock";
    int by_user, by_process;

    make_buffer(16);
    memset(buffer, 1, 16 * PAGE);
    memory = name_fd("memfd", memfd_create("memory", 0));
    if (ftruncate(memory, 16 * PAGE))
        return 2;
    begin("a caller with CAP_IPC_LOCK");
    test_accounts("pages are not charged");
    test_capabilities();
    reopen("nobody");
    name_fd("memfd", memory);
    by_user = iommufd;
    by_process = open_iommufd();
    iommufd = by_process;
    option(MODE, SET, 0, 1);
    iommufd = by_user;
    if (!geteuid() && setresuid(65533, 65533, 65533))
        return 2;
    test_accounts("pages are charged by user");
    close(by_user);
    iommufd = by_process;
    test_accounts("pages are charged by process");
    return 0;
}
