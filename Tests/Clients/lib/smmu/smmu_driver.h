/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the driver of a guest's SMMUv3, and the VMM in front of it, do for one device: a vIOMMU, nested
 * tables, context descriptors, invalidation commands and event records. Every expectation is checked; the
 * first that is not met ends the client.
 */
#ifndef SMMU_DRIVER_H
#define SMMU_DRIVER_H

#include "smmu/smmu_guest.h"

enum { SMMUV3 = IOMMU_VIOMMU_TYPE_ARM_SMMUV3, STREAM_ENTRY = IOMMU_HWPT_DATA_ARM_SMMUV3,
       COMMANDS = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3, EVENTS = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 };

static uint32_t device_id, ioas, parent, viommu;
static int event_queue = -1;

static inline void check_seen(int pasid, uint64_t address, int byte, const char *what)
{
    int found = seen(pasid, address);

    if (found != byte)
        printf("found %d, not %d\n", found, byte);
    check(found == byte, "%s", what);
}

/* ---- events ------------------------------------------------------------------------------- */

static uint32_t next_number;

static inline void check_event(struct event expected, const char *what)
{
    struct event event = {{0}, {0}};
    ssize_t length = read(event_queue, &event, sizeof(event));

    expected.header.sequence = next_number++;
    if (length != sizeof(event) || memcmp(&event, &expected, sizeof(event)))
        printf("%zd bytes: %x %u %llx %llx %llx %llx\n", length, event.header.flags,
               event.header.sequence, (unsigned long long)event.words[0],
               (unsigned long long)event.words[1], (unsigned long long)event.words[2],
               (unsigned long long)event.words[3]);
    check(length == sizeof(event) && !memcmp(&event, &expected, sizeof(event)), "event: %s", what);
}

static inline void check_no_event(const char *what)
{
    struct event event;

    check(read(event_queue, &event, sizeof(event)) == 0, "no event: %s", what);
}

/* ---- the guest's driver ------------------------------------------------------------------- */

static uint64_t descriptors;

static inline void set_context(uint32_t pasid, struct descriptor descriptor)
{
    memcpy((struct descriptor *)at(descriptors) + pasid, &descriptor, sizeof(descriptor));
}

/** An empty address space, but for the mirror. */
static inline uint64_t new_space(void)
{
    uint64_t root = take_pages(1);

    map_page(root, MIRROR, mirror, LEAF);
    return root;
}

/** A page that begins with `byte`. */
static inline uint64_t page_of(int byte)
{
    uint64_t page = take_pages(1);

    memset(at(page), byte, PAGE);
    return page;
}

static inline long send(const struct smmu_command *commands, uint32_t *count)
{
    struct iommu_hwpt_invalidate cmd =
        invalidate_arguments(viommu, COMMANDS, commands, sizeof(*commands), *count);
    long result = ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &cmd);

    *count = cmd.entry_num;
    return result;
}

static inline void command(struct smmu_command command)
{
    uint32_t count = 1;

    if (send(&command, &count) || count != 1) {
        printf("NO: command %#llx %#llx: %s\n", (unsigned long long)command.words[0],
               (unsigned long long)command.words[1], strerror(errno));
        exit(1);
    }
}

static inline void check_refused(struct smmu_command command, const char *what)
{
    uint32_t count = 1;

    check(send(&command, &count) && errno == EIO && !count, "%s: EIO", what);
}

static inline uint32_t nested(struct iommu_hwpt_arm_smmuv3 entry)
{
    struct iommu_hwpt_alloc cmd =
        hwpt_arguments(device_id, viommu, 0, STREAM_ENTRY, &entry, sizeof(entry), 0);

    return ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) ? 0 : cmd.out_hwpt_id;
}

/** Attaches; gives 0 or the error. */
static inline int attach_to(uint32_t table)
{
    struct vfio_device_attach_iommufd_pt cmd = {
        .argsz = offsetof(struct vfio_device_attach_iommufd_pt, pasid), .pt_id = table};

    return ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd) ? errno : 0;
}

static inline void attach_entry(struct iommu_hwpt_arm_smmuv3 entry)
{
    uint32_t table = nested(entry);

    if (!table || attach_to(table)) {
        printf("NO: attach: %s\n", strerror(errno));
        exit(1);
    }
}

#endif /* SMMU_DRIVER_H */
