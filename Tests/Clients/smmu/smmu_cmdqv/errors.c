/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that stop a queue, and the events that report it. */
#include "parts.h"

#include <poll.h>

static void require_error_event(uint64_t queues, const char *what)
{
    struct vcmdq_event event, expected = {{0, next_event_sequence++}, {{queues, 0}}};
    struct pollfd waiting = {.fd = event_queue, .events = POLLIN};

    if (poll(&waiting, 1, 10000) != 1 || read(event_queue, &event, sizeof(event)) != sizeof(event))
        exit(1);
    if (memcmp(&event, &expected, sizeof(event)))
        printf("%x %u %llx %llx\n", event.header.flags, event.header.sequence,
               (unsigned long long)event.errors.lvcmdq_err_map[0],
               (unsigned long long)event.errors.lvcmdq_err_map[1]);
    require(!memcmp(&event, &expected, sizeof(event)), "event: %s", what);
}

/**
 * Requires that the queue stops at its last command with this CONS_INDX.ERR, and that an event
 * reports it.
 */
static void require_stopped(struct vcmdq *queue, uint32_t reason, uint64_t queues, const char *what)
{
    uint32_t error = vcmdq_get(queue, GERRORN) ^ 1;
    uint32_t index = (queue->producer - 1) & (2 * queue->entries - 1);

    vcmdq_ring(queue);
    require(vcmdq_await(queue, GERROR, ~0u, error) &&
                vcmdq_get(queue, CONS_INDX) == (index | reason << 24),
            "%s: stops, reason %u", what, reason);
    require_error_event(queues, "which queues");
}

/** Replaces the command by a CMD_SYNC and acknowledges the error, as the guest's driver does. */
static void resume(struct vcmdq *queue)
{
    queue->ring[vcmdq_get(queue, CONS_INDX) & (queue->entries - 1)] = cmd_sync(0);
    vcmdq_set(queue, GERRORN, vcmdq_get(queue, GERROR));
    require(vcmdq_is_done(queue), "goes on");
}

static void require_error(uint64_t lower, uint64_t upper, uint32_t reason, const char *what)
{
    vcmdq_push(&first, (struct smmu_command){{lower, upper}});
    require_stopped(&first, reason, 1, what);
    resume(&first);
}

void test_errors(void)
{
    const uint64_t stream = (uint64_t)VIRTUAL_STREAM << 32;

    section("%s: commands that a guest may not send", section_prefix);
    veventq_alloc("queue errors", viommu, QUEUE_ERRORS, 2, &event_queue);
    next_event_sequence = 0;
    require_error(0, 0, CERROR_ILL_OPCODE, "no operation");
    require_error(0x01 | stream, 0, CERROR_ILL_OPCODE, "PREFETCH_CONFIG");
    require_error(0x03 | stream, 1, CERROR_ILL_OPCODE, "CFGI_STE");
    require_error(CFGI_CD | stream, 0, CERROR_ILL_OPCODE, "CFGI_CD");
    require_error(NH_ALL, 0, CERROR_ILL_OPCODE, "NH_ALL");
    require_error(NH_VAA, HERE, CERROR_ILL_OPCODE, "NH_VAA");
    require_error(0x28, 0, CERROR_ILL_OPCODE, "S12_VMALL");
    require_error(NSNH_ALL, 0, CERROR_ILL_OPCODE, "NSNH_ALL");
    require_error(0x44 | stream, 0, CERROR_ILL_OPCODE, "RESUME");
    require_error(NH_VA, HERE | 1 << 10, CERROR_ILL_OPCODE, "a granule without range or level");
    require_error(ATC_INV | stream, 53, CERROR_ILL_OPCODE, "ATC_INV of 2^53 pages");
    require_error(ATC_INV | 99ULL << 32, 52, CERROR_ILL_ACCESS,
                  "ATC_INV of a stream that is not there");
    for (unsigned signal = 1; signal != 4; signal++)
        require_error(cmd_sync(signal).words[0], 0, CERROR_ILL_OPCODE, "CMD_SYNC that signals");

    section("%s: what waits behind an error", section_prefix);
    make_stale(tlbi(NSNH_ALL, 0, 0));
    vcmdq_push(&first, tlbi(NH_ASID, 11, 0));
    vcmdq_push(&first, tlbi(NH_ALL, 0, 0));
    require_stopped(&first, CERROR_ILL_OPCODE, 1, "after a good one");
    vcmdq_push(&first, tlbi(NH_ASID, 12, 0));
    vcmdq_ring(&first);
    sync_registers();
    require(seen_changes() == 1, "what was before it is done, and nothing behind");
    require(vcmdq_enable(&first, 0) && vcmdq_enable(&first, 1), "disabled and enabled");
    sync_registers();
    require(seen_changes() == 1 && vcmdq_get(&first, GERROR) != vcmdq_get(&first, GERRORN),
            "it still stands");
    vcmdq_push(&second, tlbi(NH_ALL, 0, 0));
    require_stopped(&second, CERROR_ILL_OPCODE, 3, "the other queue, too");
    resume(&first);
    require(seen_changes() == 3, "and all is done");
    resume(&second);
    vcmdq_push(&second, tlbi(NH_ALL, 0, 0));
    require_stopped(&second, CERROR_ILL_OPCODE, 2, "the other queue alone");
    resume(&second);
}

/** The vEVENTQ has room for two events. */
void test_lost_events(void)
{
    struct iommufd_vevent_header header;
    struct vcmdq_event event;

    section("%s: events that are lost", section_prefix);
    for (int i = 0; i != 5; i++) {
        uint32_t error = vcmdq_get(&first, GERRORN) ^ 1;

        vcmdq_push(&first, tlbi(NH_ALL, 0, 0));
        vcmdq_ring(&first);
        if (!vcmdq_await(&first, GERROR, ~0u, error))
            exit(1);
        sync_registers();
        resume(&first);
    }
    require_error_event(1, "one of two");
    require_error_event(1, "the other");
    require(read(event_queue, &event, sizeof(event)) == sizeof(header), "then a header alone");
    memcpy(&header, &event, sizeof(header));
    require(header.flags == IOMMU_VEVENTQ_FLAG_LOST_EVENTS &&
                header.sequence == next_event_sequence + 2,
            "which tells that three are lost");
}
