/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that a queue stops at, and how the guest is told.
 */
#ifndef SMMU_CMDQV_ERRORS_H
#define SMMU_CMDQV_ERRORS_H

#include "commands.h"

static void check_errors(uint64_t queues, const char *what)
{
    struct queue_event event, expected = {{0, next_number++}, {{queues, 0}}};
    struct pollfd waiting = {.fd = event_queue, .events = POLLIN};

    if (poll(&waiting, 1, 10000) != 1 || read(event_queue, &event, sizeof(event)) != sizeof(event))
        exit(1);
    if (memcmp(&event, &expected, sizeof(event)))
        printf("%x %u %llx %llx\n", event.header.flags, event.header.sequence,
               (unsigned long long)event.errors.lvcmdq_err_map[0],
               (unsigned long long)event.errors.lvcmdq_err_map[1]);
    check(!memcmp(&event, &expected, sizeof(event)), "event: %s", what);
}

/** The queue stands at a command with a reason, and the guest is told. */
static void check_stopped(struct queue *queue, uint32_t reason, uint64_t queues, const char *what)
{
    uint32_t error = get(queue, GERRORN) ^ 1;
    uint32_t place = (queue->producer - 1) & (2 * queue->entries - 1);

    ring_bell(queue);
    check(becomes(queue, GERROR, ~0u, error) && get(queue, CONS_INDX) == (place | reason << 24),
          "%s: stops, reason %u", what, reason);
    check_errors(queues, "which queues");
}

/** What the guest's driver does: a CMD_SYNC in its place, and the error is acknowledged. */
static void resume(struct queue *queue)
{
    queue->ring[get(queue, CONS_INDX) & (queue->entries - 1)] = synchronize(0);
    set(queue, GERRORN, get(queue, GERROR));
    check(is_done(queue), "goes on");
}

static void refused(uint64_t lower, uint64_t upper, uint32_t reason, const char *what)
{
    push(&first, (struct smmu_command){{lower, upper}});
    check_stopped(&first, reason, 1, what);
    resume(&first);
}

static void errors(void)
{
    const uint64_t stream = (uint64_t)VIRTUAL_STREAM << 32;

    section("%s: commands that a guest may not send", chapter);
    veventq_alloc("queue errors", viommu, QUEUE_ERRORS, 2, &event_queue);
    next_number = 0;
    refused(0, 0, CERROR_ILL_OPCODE, "no operation");
    refused(0x01 | stream, 0, CERROR_ILL_OPCODE, "PREFETCH_CONFIG");
    refused(0x03 | stream, 1, CERROR_ILL_OPCODE, "CFGI_STE");
    refused(CFGI_CD | stream, 0, CERROR_ILL_OPCODE, "CFGI_CD");
    refused(NH_ALL, 0, CERROR_ILL_OPCODE, "NH_ALL");
    refused(NH_VAA, HERE, CERROR_ILL_OPCODE, "NH_VAA");
    refused(0x28, 0, CERROR_ILL_OPCODE, "S12_VMALL");
    refused(NSNH_ALL, 0, CERROR_ILL_OPCODE, "NSNH_ALL");
    refused(0x44 | stream, 0, CERROR_ILL_OPCODE, "RESUME");
    refused(NH_VA, HERE | 1 << 10, CERROR_ILL_OPCODE, "a granule without range or level");
    refused(ATC_INV | stream, 53, CERROR_ILL_OPCODE, "ATC_INV of 2^53 pages");
    refused(ATC_INV | 99ULL << 32, 52, CERROR_ILL_ACCESS, "ATC_INV of a stream that is not there");
    for (unsigned signal = 1; signal != 4; signal++)
        refused(synchronize(signal).words[0], 0, CERROR_ILL_OPCODE, "CMD_SYNC that signals");

    section("%s: what waits behind an error", chapter);
    make_stale(tlbi(NSNH_ALL, 0, 0));
    push(&first, tlbi(NH_ASID, 11, 0));
    push(&first, tlbi(NH_ALL, 0, 0));
    check_stopped(&first, CERROR_ILL_OPCODE, 1, "after a good one");
    push(&first, tlbi(NH_ASID, 12, 0));
    ring_bell(&first);
    settle();
    check(renewed() == 1, "what was before it is done, and nothing behind");
    check(enable(&first, 0) && enable(&first, 1), "disabled and enabled");
    settle();
    check(renewed() == 1 && get(&first, GERROR) != get(&first, GERRORN), "it still stands");
    push(&second, tlbi(NH_ALL, 0, 0));
    check_stopped(&second, CERROR_ILL_OPCODE, 3, "the other queue, too");
    resume(&first);
    check(renewed() == 3, "and all is done");
    resume(&second);
    push(&second, tlbi(NH_ALL, 0, 0));
    check_stopped(&second, CERROR_ILL_OPCODE, 2, "the other queue alone");
    resume(&second);
}

/** The queue of events holds two. */
static void losses(void)
{
    struct iommufd_vevent_header header;
    struct queue_event event;

    section("%s: events that are lost", chapter);
    for (int i = 0; i != 5; i++) {
        uint32_t error = get(&first, GERRORN) ^ 1;

        push(&first, tlbi(NH_ALL, 0, 0));
        ring_bell(&first);
        if (!becomes(&first, GERROR, ~0u, error))
            exit(1);
        settle();
        resume(&first);
    }
    check_errors(1, "one of two");
    check_errors(1, "the other");
    check(read(event_queue, &event, sizeof(event)) == sizeof(header), "then a header alone");
    memcpy(&header, &event, sizeof(header));
    check(header.flags == IOMMU_VEVENTQ_FLAG_LOST_EVENTS && header.sequence == next_number + 2,
          "which tells that three are lost");
}

#endif /* SMMU_CMDQV_ERRORS_H */
