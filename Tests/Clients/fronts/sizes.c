/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The size rules of all commands. Every struct begins with its size, which the kernel reads first.
 * It completes a shorter struct with zeros; the bytes of a longer struct beyond the kernel's must
 * be zeros.
 *
 * The structs have a value that the command refuses with another errno than EINVAL, E2BIG and
 * EFAULT, an unknown flag or an ID that does not exist. These three errnos therefore tell about the
 * size only.
 */
#include "transcript/hwpt.h"

enum { READABLE = 1 << 16 };

static unsigned char *memory; /* READABLE bytes before a hole */

/**
 * Stores a struct of `size` bytes, as far as there is memory, at `at`, and zeros in all other
 * memory.
 */
static void write_struct(unsigned char *at, uint32_t size)
{
    const uint32_t refused = 0x80000000;

    memset(memory, 0, READABLE);
    memcpy(at, &size, sizeof(size));
    if (size >= 8 && at + 8 <= memory + READABLE)
        memcpy(at + 4, &refused, sizeof(refused));
}

static int attempt(const struct command *command, const void *at)
{
    return ioctl(iommufd, command->request, at) < 0 ? errno : 0;
}

/**
 * Calls `answer_to` for each number from `first` to `last`, and prints a line for each run of equal
 * answers.
 */
static void sweep(const struct command *command, uint32_t first, uint32_t last, const char *before,
                  const char *after, int (*answer_to)(const struct command *, uint32_t))
{
    uint32_t begun = first;
    int previous = answer_to(command, first);

    for (uint32_t at = first + 1; at <= last + 1; at++) {
        int answer = at <= last ? answer_to(command, at) : -1; /* ends the last run */

        if (answer == previous)
            continue;
        printf("%s %s%u..%u%s -> %s\n", command->name, before, begun, at - 1, after,
               previous ? errno_name(previous) : "0");
        begun = at;
        previous = answer;
    }
}

static int answer_to_size(const struct command *command, uint32_t size)
{
    write_struct(memory, size);
    return attempt(command, memory);
}

static void line(const struct command *command, const char *what, const void *at)
{
    int answer = attempt(command, at);

    printf("%s %s -> %s\n", command->name, what, answer ? errno_name(answer) : "0");
}

static void tails(const struct command *command)
{
    static const uint32_t lengths[] = {1, 2, 7, 8, 9, 64, PAGE, PAGE + 1, READABLE - 512};
    static const uint32_t beyond[] = {READABLE + 1, 0x7fffffff, 0x80000000, 0xffffffff};
    char what[64];

    for (size_t i = 0; i != COUNT(lengths); i++) {
        uint32_t size = command->size + lengths[i];

        write_struct(memory, size);
        snprintf(what, sizeof(what), "and %u zeros", lengths[i]);
        line(command, what, memory);
        memory[size - 1] = 1;
        snprintf(what, sizeof(what), "and %u zeros, the last a one", lengths[i]);
        line(command, what, memory);
        write_struct(memory, size);
        memory[command->size] = 0x80;
        snprintf(what, sizeof(what), "and %u zeros, the first a one", lengths[i]);
        line(command, what, memory);
        write_struct(memory, size);
        if (size < READABLE)
            memory[size] = 1;
        snprintf(what, sizeof(what), "and %u zeros, then a one", lengths[i]);
        line(command, what, memory);
    }
    for (size_t i = 0; i != COUNT(beyond); i++) {
        write_struct(memory, beyond[i]);
        snprintf(what, sizeof(what), "of size %#x", beyond[i]);
        line(command, what, memory);
        memory[READABLE - 1] = 1;
        snprintf(what, sizeof(what), "of size %#x with a one before the hole", beyond[i]);
        line(command, what, memory);
    }
}

/**
 * Issues the command with a struct of which only the first `readable` bytes can be read. Returns 0
 * or the errno.
 */
static int answer_to_cut(const struct command *command, uint32_t readable)
{
    unsigned char *at = memory + READABLE - readable;
    uint32_t size = command->size;

    memset(memory, 0, READABLE);
    memcpy(at, &size, readable < 4 ? readable : 4);
    if (readable >= 8)
        memcpy(at + 4, &(uint32_t){0x80000000}, 4);
    return attempt(command, at);
}

static void at_the_edge(const struct command *command)
{
    uint32_t size = command->size + 8;

    sweep(command, 1, command->size, "with ", " bytes readable", answer_to_cut);
    /* A struct that is both too short and cut off. */
    memset(memory, 0, READABLE);
    memcpy(memory + READABLE - 4, &(uint32_t){4}, 4);
    line(command, "size 4, the only bytes readable", memory + READABLE - 4);
    /* A tail that is not zero, and a struct whose last byte cannot be read. */
    memset(memory, 0, READABLE);
    memcpy(memory + READABLE - size, &size, 4);
    memory[READABLE - 1] = 1;
    line(command, "and a one at the edge", memory + READABLE - size);
    line(command, "of which the last byte is missing", memory + READABLE - size + 1);
}

static void nowhere(const struct command *command)
{
    line(command, "at NULL", NULL);
    line(command, "at 1", (void *)1);
    line(command, "beyond the mapping", memory + READABLE);
    line(command, "at the end of user space", (void *)0x7fffffffffff);
    line(command, "at a non-canonical address", (void *)0x800000000000);
    line(command, "at a kernel address", (void *)0xffff888000000000);
    line(command, "at the last address", (void *)0xffffffffffffffff);
}

/** Requests with the number of the command and another type, direction or size. */
static void other_numbers(const struct command *command)
{
    unsigned nr = _IOC_NR(command->request);
    const struct {
        const char *what;
        unsigned long request;
    } others[] = {
        {"type ':'", _IO(':', nr)},
        {"type 0", _IO(0, nr)},
        {"direction read", _IOC(_IOC_READ, IOMMUFD_TYPE, nr, 0)},
        {"direction write", _IOC(_IOC_WRITE, IOMMUFD_TYPE, nr, 0)},
        {"direction both, its size", _IOC(_IOC_READ | _IOC_WRITE, IOMMUFD_TYPE, nr, command->size)},
        {"no direction, a size", _IOC(_IOC_NONE, IOMMUFD_TYPE, nr, command->size)},
        {"bits above 32", command->request | 1UL << 32},
    };

    for (size_t i = 0; i != COUNT(others); i++) {
        write_struct(memory, command->size);
        run_raw(others[i].request, (uintptr_t)memory, "%s %s", command->name, others[i].what);
        run_raw(others[i].request, 0, "%s %s at NULL", command->name, others[i].what);
    }
}

static void test_command(const struct command *command)
{
    part = command->part;
    section("%s: minimum %u, size %u", command->name, command->minimum, command->size);
    sweep(command, 0, command->size, "size ", "", answer_to_size);
    tails(command);
    at_the_edge(command);
    nowhere(command);
    other_numbers(command);
}

int main(void)
{
    begin("sizes: how long a struct may be");
    memory = map_region_at("memory", 0x200000000000, READABLE, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i != COUNT(every_command); i++)
        test_command(every_command[i]);
    test_command(&TEST_CMD);
    part = "mock";
    section("numbers of the table that no command has");
    for (unsigned nr = 0x96; nr != 0xa0; nr++) {
        write_struct(memory, 64);
        run_raw(_IO(IOMMUFD_TYPE, nr), (uintptr_t)memory, "number %#x", nr);
        run_raw(_IO(IOMMUFD_TYPE, nr), 0, "number %#x at NULL", nr);
    }
    part = NULL;
    section("numbers beyond the table");
    for (unsigned nr = 0; nr != 256; nr++) {
        if ((nr >= 0x80 && nr <= 0xa0) || nr == 0xe0)
            continue;
        write_struct(memory, 64);
        run_raw(_IO(IOMMUFD_TYPE, nr), 0, "number %#x at NULL", nr);
    }
    return 0;
}
