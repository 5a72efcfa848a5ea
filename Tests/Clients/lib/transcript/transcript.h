/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transcript has one line for each call: the arguments, the result, and every byte that the call
 * changed. The kernel and the simulator must produce the same transcript.
 *
 *   IOAS_MAP flags=0x6 ioas_id=1 user_va=buffer length=0x1000 iova=0 -> 0 | iova:0x1000
 *   IOAS_MAP flags=0x6 ioas_id=9 user_va=buffer length=0x1000 iova=0 -> ENOENT
 *
 * The part after the bar does not depend on what the client takes for an output: the struct and
 * every memory region that watch() names are compared with a copy from before the call. A
 * transcript therefore shows an answer that a failed call has written, and an answer that is
 * missing.
 *
 * Regions have fixed addresses and names, and user pointers are printed as REGION+OFFSET, so that a
 * transcript does not depend on where memory lies. Object IDs and IOVAs are printed as they are,
 * since clients may rely on them.
 */
#ifndef TRANSCRIPT_H
#define TRANSCRIPT_H

#include "transcript/named.h"

#include "arguments.h"
#include "nodes.h"
#include "section.h"

/** The open iommufd that run() and run_raw() use. */
extern int iommufd;

/* ---- commands --------------------------------------------------------------------------- */

enum field_kind {
    HEX,       /* printed in hexadecimal */
    DEC,       /* printed in decimal: IDs, counts */
    POINTER,   /* an address of the caller */
    FILE_IN,   /* a file descriptor that the caller passes */
    FILE_OUT,  /* a file descriptor that the call creates: printed as "an fd" */
    RESERVED,  /* printed only when it is not 0 */
};

struct field {
    const char *name;
    uint16_t offset;
    uint8_t width;
    uint8_t kind;
};

/** A command: what is needed to print its struct and to check its size rules. */
struct command {
    const char *name;
    unsigned long request;
    uint32_t size;    /* of the struct in Linux 7.3 */
    uint32_t minimum; /* the end of the last mandatory field */
    const char *part; /* the part of the interface that the command belongs to, or NULL */
    struct field fields[16];
};

#define FIELD(type, member, kind) \
    {#member, offsetof(type, member), sizeof(((type *)0)->member), kind}
#define ENDS(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

/** Returns the little-endian number of `width` bytes, at most 8, at `at`. */
uint64_t field_value(const void *at, unsigned width);

void print_field(const struct field *field, uint64_t value);

/** Prints the name of the command and the fields of the struct in `bytes`. */
void print_inputs(const struct command *command, const unsigned char *bytes);

/** Prints the line of a command that has returned, with errno of its end. */
void print_call(const struct command *command, const unsigned char *before,
                const unsigned char *after, long result);

/**
 * Issues the command on `fd` and prints its line. All of the struct must be readable and writable.
 */
long run_on(int fd, const struct command *command, void *argument);

/** Issues the command on `iommufd` and prints its line. */
long run(const struct command *command, void *argument);

/**
 * Issues a request whose argument need not be an address, and prints a line that begins with
 * `format`.
 */
long run_raw(unsigned long request, uintptr_t argument, const char *format, ...);

/* ---- opening ---------------------------------------------------------------------------- */

/**
 * Opens `iommufd` and begins the first section. With $AS_NOBODY a client that is root first becomes
 * user 65534 without capabilities.
 */
void begin(const char *title);

/**
 * Begins a section with a newly opened `iommufd`, in which no object exists. Forgets all descriptor
 * names.
 */
void reopen(const char *title);

#endif /* TRANSCRIPT_H */
