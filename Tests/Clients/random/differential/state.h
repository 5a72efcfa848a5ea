/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the client knows of the objects that it has created in its two contexts, and the arguments
 * that it draws from that. IDs are stored by kind. Some of them may be of objects that are
 * destroyed, which makes the call a near miss.
 */
#ifndef DIFFERENTIAL_STATE_H
#define DIFFERENTIAL_STATE_H

#include "mock/mock.h"
#include "mock/near_miss.h"
#include "random.h"

/**
 * An HWPT with a fault queue is FAULTY, one with dirty tracking TRACKED, beside being an HWPT,
 * PARENT or NESTED.
 */
enum kind { IOAS, IDEV, STDEV, HWPT, PARENT, NESTED, FAULTY, TRACKED, FAULT, VIOMMU, VDEVICE,
            VEVENTQ, HWQUEUE, KINDS };
enum { CONTEXTS = 2, BUFFER_PAGES = 32, SHARED_PAGES = 8, IOVA_PAGES = 16, MAX_IDS = 6 };

struct device {
    uint32_t stdev, idev;
    uint32_t pasids[8]; /* those that are attached; 0 when an entry is free */
};

/** A range that was mapped, which later calls use. */
struct mapping {
    uint64_t iova, length, memory;
};

/** An open iommufd and its objects. */
struct context {
    int fd;
    const char *name;
    uint32_t ids[KINDS][MAX_IDS];
    unsigned count[KINDS];
    struct device devices[3];
    struct mapping mappings[8];
};

/** The contexts, and the one that the current step uses. */
extern struct context contexts[CONTEXTS], *context;

/** File descriptors, or -1. */
struct named_file {
    const char *name;
    int fd;
};
enum { MEMORY, PIPE, DMABUF };
enum { ACCESSES = 3, QUEUES = 4, FILES = 4 };
extern struct named_file accesses[ACCESSES], queues[QUEUES], files[FILES];

/**
 * Large pages stay enabled. Which addresses share a page-table entry then depends on physical
 * addresses.
 */
extern bool large;

/** SHARED_PAGES pages of a memfd. */
extern unsigned char *shared_memory;

/* ---- objects ------------------------------------------------------------------------------ */

/** Names all open file descriptors. */
void name_descriptors(void);

/** Returns an ID of an object of the kind, or, seldom, of any kind or a number below 30. */
uint32_t some_id(enum kind kind);

uint32_t some_id_of_any_kind(void);

/** Stores an ID unless it is 0. */
void remember_id(enum kind kind, uint32_t id);

void forget_id(uint32_t id);

/** Returns the device with this ID, or NULL. */
struct device *device_of(uint32_t stdev);

/**
 * Returns whether the answer depends only on the calls before. Looks at fields that a near miss can
 * change.
 */
bool is_repeatable(const struct command *command, const unsigned char *bytes);

/** Maps the memory that calls use, and opens the files. */
void make_memory(void);

/* ---- arguments ---------------------------------------------------------------------------- */

uint64_t some_iova(void);

/**
 * Returns an IOVA for MOCK_FLAGS_ACCESS_SYZ: the number of an area, and in the upper half an offset
 * in units.
 */
uint64_t some_syz_iova(unsigned bound, unsigned unit);

void remember_mapping(uint64_t iova, uint64_t length, uint64_t memory);

/** Returns a mapping that was made, or an unused one. */
struct mapping some_mapping(void);

uint64_t some_length(void);

/**
 * Returns a user address to map: of private or of shared memory, seldom of memory with guard pages.
 */
uint64_t some_memory(void);

uint32_t some_permission(void);

uint32_t some_pasid(void);

/** Returns a kind of object that a device can be attached to. */
enum kind some_table(void);

/**
 * Stores `bytes` in `data_memory` and returns their address, where seldom not all of them can be
 * read.
 */
uint64_t some_data(const void *bytes, size_t length);

/**
 * Returns an address for an answer; with a probability of `odd` percent less than `bound` bytes
 * before a border.
 */
uint64_t some_output_address(unsigned odd, unsigned bound);

/** Fills `data_memory` and returns an address for an answer. */
uint64_t some_output(void);

/* ---- calls -------------------------------------------------------------------------------- */

/** Issues a command in the current context. */
struct answer call(const struct command *command, void *bytes);

/** Returns whether the call succeeded and filled in the struct up to `end`. */
bool is_answered(struct answer answer, size_t end);

#define ANSWERED(answer, type, member) is_answered(answer, ENDS(type, member))

#endif /* DIFFERENTIAL_STATE_H */
