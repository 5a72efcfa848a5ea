/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects that the client has created, the arguments that it draws from them, and how it
 * creates more.
 */
#ifndef MOCK_RANDOM_OBJECTS_H
#define MOCK_RANDOM_OBJECTS_H

#include "mock/mock.h"
#include "random.h"

enum kind { IOAS, STDEV, IDEV, HWPT, PARENT, NESTED, FAULT, VIOMMU, VDEVICE, VEVENTQ, KINDS };

/** IDs of objects of one kind. Some may be destroyed. */
struct objects {
    uint32_t ids[8];
    unsigned count;
};
extern struct objects objects[KINDS];

/** Queues that are open; `fd` is -1 when an entry is free. */
struct queue {
    char name[12];
    int fd;
};
enum { QUEUES = 4 };
extern struct queue queues[QUEUES];

enum { PASIDS = 5 };
extern const uint32_t pasids[PASIDS];

/** Returns an ID of the kind, or, one time in ten, of any kind, or seldom a number below 40. */
uint32_t some_id(enum kind kind);

/** Stores an ID unless it is 0. */
void remember_id(enum kind kind, uint32_t id);

void forget_id(uint32_t id);

/** Detaches all PASIDs of the device. */
void detach_pasids(uint32_t stdev);

uint64_t some_iova(void);

/** Returns `likely`, or one time in twelve a number below 32. */
uint32_t some_flags(uint32_t likely);

void make_device(void);
void make_table(void);
void make_viommu(void);
void make_vdevice(void);
void make_queue(void);

#endif /* MOCK_RANDOM_OBJECTS_H */
