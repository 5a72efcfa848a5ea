/* SPDX-License-Identifier: Apache-2.0 */
#include "smmu/smmu_driver.h"

uint32_t device_id, ioas, parent, viommu;
int event_queue = -1;
uint32_t next_event_sequence;
uint64_t cd_table;

void require_byte(int pasid, uint64_t address, int byte, const char *what)
{
    int found = read_byte_at(pasid, address);

    if (found != byte)
        printf("found %d, not %d\n", found, byte);
    require(found == byte, "%s", what);
}

void require_event(struct smmu_event expected, const char *what)
{
    struct smmu_event event = {{0}, {0}};
    ssize_t length = read(event_queue, &event, sizeof(event));

    expected.header.sequence = next_event_sequence++;
    if (length != sizeof(event) || memcmp(&event, &expected, sizeof(event)))
        printf("%zd bytes: %x %u %llx %llx %llx %llx\n", length, event.header.flags,
               event.header.sequence, (unsigned long long)event.words[0],
               (unsigned long long)event.words[1], (unsigned long long)event.words[2],
               (unsigned long long)event.words[3]);
    require(length == sizeof(event) && !memcmp(&event, &expected, sizeof(event)), "event: %s",
            what);
}

void require_no_event(const char *what)
{
    struct smmu_event event;

    require(read(event_queue, &event, sizeof(event)) == 0, "no event: %s", what);
}

void write_context_descriptor(uint32_t pasid, struct context_descriptor descriptor)
{
    memcpy((struct context_descriptor *)guest_at(cd_table) + pasid, &descriptor,
           sizeof(descriptor));
}

uint64_t allocate_address_space(void)
{
    uint64_t root = allocate_pages(1);

    map_4k(root, READBACK_IOVA, readback_page, LEAF);
    return root;
}

uint64_t allocate_filled_page(int byte)
{
    uint64_t page = allocate_pages(1);

    memset(guest_at(page), byte, PAGE);
    return page;
}

long send_commands(const struct smmu_command *commands, uint32_t *count)
{
    struct iommu_hwpt_invalidate cmd =
        invalidate_arguments(viommu, INVALIDATION_DATA, commands, sizeof(*commands), *count);
    long result = ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &cmd);

    *count = cmd.entry_num;
    return result;
}

void send_command(struct smmu_command command)
{
    uint32_t count = 1;

    if (send_commands(&command, &count) || count != 1) {
        printf("NO: command %#llx %#llx: %s\n", (unsigned long long)command.words[0],
               (unsigned long long)command.words[1], strerror(errno));
        exit(1);
    }
}

void require_refused(struct smmu_command command, const char *what)
{
    uint32_t count = 1;

    require(send_commands(&command, &count) && errno == EIO && !count, "%s: EIO", what);
}

uint32_t allocate_nested(struct iommu_hwpt_arm_smmuv3 entry)
{
    struct iommu_hwpt_alloc cmd =
        hwpt_arguments(device_id, viommu, 0, STREAM_ENTRY, &entry, sizeof(entry), 0);

    return ioctl(iommufd, IOMMU_HWPT_ALLOC, &cmd) ? 0 : cmd.out_hwpt_id;
}

int attach_table(uint32_t table)
{
    struct vfio_device_attach_iommufd_pt cmd = {
        .argsz = offsetof(struct vfio_device_attach_iommufd_pt, pasid), .pt_id = table};

    return ioctl(device_fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &cmd) ? errno : 0;
}

void attach_entry(struct iommu_hwpt_arm_smmuv3 entry)
{
    uint32_t table = allocate_nested(entry);

    if (!table || attach_table(table)) {
        printf("NO: attach: %s\n", strerror(errno));
        exit(1);
    }
}
