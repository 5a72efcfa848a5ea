/* SPDX-License-Identifier: Apache-2.0 */
#include "front_client.h"

#include <pthread.h>
#include <sys/wait.h>

int checks, failures;
const char *self;
const char *skipped;

/* ---- checks ----------------------------------------------------------------------------- */

void check(int ok, const char *format, ...)
{
    va_list arguments;

    __atomic_add_fetch(&checks, 1, __ATOMIC_RELAXED);
    if (ok)
        return;
    __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
    va_start(arguments, format);
    fputs("FAILED: ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

int print_totals(const char *name)
{
    printf("%s: %d checks, %d failed\n", name, checks, failures);
    return failures ? 1 : 0;
}

/* ---- the test device -------------------------------------------------------------------- */

enum front front(void)
{
    const char *name = getenv("FRONT");

    if (name && strcmp(name, "launcher") == 0)
        return LAUNCHER;
    if (name && strcmp(name, "cuse") == 0)
        return CUSE;
    fputs("FRONT must be launcher or cuse\n", stderr);
    exit(64);
}

const char *node_path(void)
{
    const char *path = getenv("TEST_NODE");

    return path ? path : "/dev/iommu";
}

const char *offsets_path(void)
{
    const char *path = getenv("TEST_OFFSETS_NODE");

    return path ? path : "/dev/vfio/devices/vfio0";
}

static int must_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        perror(path);
        exit(2);
    }
    return fd;
}

int open_node(void)
{
    return must_open(node_path());
}

int open_offsets_node(void)
{
    return must_open(offsets_path());
}

long request(int fd, unsigned long number, uint32_t value)
{
    struct test_argument argument = {.size = sizeof(argument), .value = value};

    if (ioctl(fd, number, &argument) < 0)
        return -1;
    return argument.value;
}

long open_id(int fd)
{
    return request(fd, TEST_OPEN_ID, 0);
}

long count_open(int fd)
{
    struct test_argument argument = {.size = sizeof(argument)};

    if (ioctl(fd, TEST_COUNT_OPEN, &argument) < 0)
        return -1;
    return (long)argument.value + (long)argument.length;
}

int make_queue(int fd, bool is_writable, uint32_t *id)
{
    struct test_argument argument = {.size = sizeof(argument), .value = is_writable};

    if (ioctl(fd, TEST_MAKE_QUEUE, &argument) < 0)
        return -1;
    if (id)
        *id = argument.length;
    return argument.value;
}

int push(int fd, uint32_t id, uint64_t count, uint64_t value)
{
    struct test_argument argument = {sizeof(argument), id, value, count};

    return ioctl(fd, TEST_PUSH, &argument);
}

/* ---- processes, threads and tests ------------------------------------------------------- */

int wait_for(pid_t child)
{
    int status = -1;

    waitpid(child, &status, 0);
    return status;
}

bool in_child(bool (*body)(int), int argument)
{
    pid_t child = fork();

    if (child == 0)
        _exit(body(argument) ? 0 : 1);
    return wait_for(child) == 0;
}

void in_threads(int count, void *(*body)(void *), void *argument)
{
    pthread_t threads[count];

    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], NULL, body, argument) == 0);
    for (int i = 0; i < count; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
}

static void run_test(const struct test *test)
{
    int before = failures;

    skipped = NULL;
    test->run();
    if (failures != before)
        printf("FAILED %s\n", test->name);
    else if (skipped)
        printf("skipped %s: %s\n", test->name, skipped);
    else
        printf("ok %s\n", test->name);
}

int run_tests(const struct test *tests, size_t count, int argc, char **argv)
{
    self = argv[0];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; argc == 1 && i < count; i++)
        run_test(&tests[i]);
    for (int argument = 1; argument < argc; argument++) {
        size_t i = 0;
        while (i < count && strcmp(argv[argument], tests[i].name) != 0)
            i++;
        if (i == count) {
            fprintf(stderr, "no such test: %s\n", argv[argument]);
            return 64;
        }
        run_test(&tests[i]);
    }
    return failures ? 1 : 0;
}
