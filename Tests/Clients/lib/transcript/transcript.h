/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transcript: one line for each call, saying what went in, what came back and every byte that the
 * call changed. Two places that answer alike (the kernel, a simulator) give the same transcript.
 *
 *   IOAS_MAP flags=0x6 ioas_id=1 user_va=buffer length=0x1000 iova=0 -> 0 | iova:0x1000
 *   IOAS_MAP flags=0x6 ioas_id=9 user_va=buffer length=0x1000 iova=0 -> ENOENT
 *
 * The part after the bar is not what the client knows to be an output; it is found by comparing the
 * struct, and every memory region that `watch()` names, before and after. So an answer written by a
 * call that failed is seen, and so is one that is missing.
 *
 * Nothing printed depends on where things happen to lie: regions have fixed addresses and names,
 * and user pointers are printed as region+offset. Object ids and IOVAs are printed as they are,
 * since a client may rely on them.
 *
 * `# ...` lines begin sections. `# part NAME: ...` begins one that belongs to a part of the interface
 * that not every front end has; the comparison can leave it out there.
 */
#ifndef TRANSCRIPT_H
#define TRANSCRIPT_H

#include "transcript/named.h"

#include "arguments.h"

/** The open /dev/iommu that `run` and `run_raw` talk to. */
static int iommufd = -1;

/** The part of the interface that the sections from now on belong to, or NULL: every one has it. */
static const char *part = NULL;

static inline void section(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("# ", stdout);
    if (part)
        printf("part %s: ", part);
    vprintf(format, arguments);
    fputs("\n", stdout);
    va_end(arguments);
}

/* ---- commands --------------------------------------------------------------------------- */

enum field_kind {
    HEX,       /* printed in hexadecimal */
    DEC,       /* printed in decimal: ids, counts */
    POINTER,   /* an address in the caller */
    FILE_IN,   /* a descriptor that the caller passes */
    FILE_OUT,  /* a descriptor that the call makes: printed as "an fd" */
    RESERVED,  /* printed only if it is not 0 */
};

struct field {
    const char *name;
    uint16_t offset;
    uint8_t width;
    uint8_t kind;
};

/** What is known of a command: enough to print any of its structs and to check its size rules. */
struct command {
    const char *name;
    unsigned long request;
    uint32_t size;    /* of the struct as it is in 7.3 */
    uint32_t minimum; /* the last mandatory field's end */
    const char *part; /* that it belongs to, or NULL */
    struct field fields[16];
};

#define FIELD(type, member, kind) \
    {#member, offsetof(type, member), sizeof(((type *)0)->member), kind}
#define ENDS(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

static inline uint64_t field_value(const void *at, unsigned width)
{
    uint64_t value = 0;

    memcpy(&value, at, width < 8 ? width : 8); /* little endian, as the machines that these clients run on */
    return value;
}

static inline void print_field(const struct field *field, uint64_t value)
{
    switch (field->kind) {
    case DEC:
        printf("%llu", (unsigned long long)value);
        break;
    case POINTER:
        print_pointer(value);
        break;
    case FILE_IN:
        print_fd((int)value);
        break;
    case FILE_OUT:
        printf((int)value >= 0 ? "an fd" : "%d", (int)value);
        break;
    default:
        printf("%#llx", (unsigned long long)value);
    }
}

static inline void print_inputs(const struct command *command, const unsigned char *bytes)
{
    uint32_t size = (uint32_t)field_value(bytes, 4);

    printf("%s", command->name);
    if (size != command->size)
        printf(" size=%u", size);
    for (const struct field *field = command->fields; field->name; field++) {
        uint64_t value = field_value(bytes + field->offset, field->width);

        if ((field->kind == RESERVED || !strncmp(field->name, "out_", 4)) && !value)
            continue;
        printf(" %s=", field->name);
        print_field(field, value);
    }
}

static inline void print_struct_changes(const struct command *command, const unsigned char *before,
                                        const unsigned char *after, const char **bar)
{
    unsigned char named[512] = {0};

    for (const struct field *field = command->fields; field->name; field++) {
        memset(named + field->offset, 1, field->width);
        if (!memcmp(before + field->offset, after + field->offset, field->width))
            continue;
        printf("%s %s:", *bar, field->name);
        print_field(field, field_value(after + field->offset, field->width));
        *bar = "";
    }
    for (uint32_t at = 0; at != command->size; at++)
        if (!named[at] && before[at] != after[at]) {
            printf("%s byte%u:%02x", *bar, at, after[at]);
            *bar = "";
        }
}

/** Makes the call on `fd` with a struct that the client can read and write in full. */
static inline long run_on(int fd, const struct command *command, void *argument)
{
    unsigned char before[512];
    const char *bar = " |";
    long result;
    int error;

    memcpy(before, argument, command->size);
    print_inputs(command, before);
    remember_watched();
    fflush(stdout);
    result = ioctl(fd, command->request, argument);
    error = errno;
    print_result(result);
    print_struct_changes(command, before, argument, &bar);
    print_watched_changes(&bar);
    printf("\n");
    errno = error;
    return result;
}

static inline long run(const struct command *command, void *argument)
{
    return run_on(iommufd, command, argument);
}

/** Makes a call whose argument need not be memory at all; prints the words of `format` for it. */
static inline long run_raw(unsigned long request, uintptr_t argument, const char *format, ...)
{
    const char *bar = " |";
    va_list arguments;
    long result;
    int error;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    remember_watched();
    fflush(stdout);
    result = ioctl(iommufd, request, argument);
    error = errno;
    print_result(result);
    print_watched_changes(&bar);
    printf("\n");
    errno = error;
    return result;
}

/* ---- beginning and end ------------------------------------------------------------------ */

static inline const char *device_path(void)
{
    const char *path = getenv("IOMMUFD");

    return path ? path : "/dev/iommu";
}

static inline int open_iommufd(void)
{
    int fd = open(device_path(), O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", device_path(), strerror(errno));
        exit(2);
    }
    return fd;
}

/** With $AS_NOBODY a client that is root does its work as uid 65534, without a capability. */
static inline void become_nobody_if_asked(void)
{
    if (!getenv("AS_NOBODY") || geteuid())
        return;
    if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) {
        perror("becoming nobody");
        exit(2);
    }
}

/** Every client begins with this: opens the node and says so. */
static inline void begin(const char *what)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    become_nobody_if_asked();
    section("%s", what);
    iommufd = name_fd("iommufd", open_iommufd());
}

/** Starts again with nothing allocated: another open of the node. */
static inline void reopen(const char *what)
{
    section("%s", what);
    close(iommufd);
    named_fd_count = 0;
    iommufd = name_fd("iommufd", open_iommufd());
}

#endif /* TRANSCRIPT_H */
