/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The selftest interface: IOMMU_TEST_CMD is one ioctl with many operations. Each operation is a
 * command of its own here, so that a line names the operation and prints the fields that the
 * operation has. A function issues its operation on `iommufd`, prints the line and returns the
 * ioctl's result unless its comment says otherwise.
 *
 * MOCK_DOMAIN creates a mock device, binds it and attaches it. The IOMMU of the mock devices has
 * pages of 2 KiB and the aperture [16 MiB, 2 GiB), so alignment and reserved ranges differ from
 * those of an IOAS without a device. An access is an in-kernel user of an IOAS that has no page
 * table. A file descriptor stands for an access.
 */
#ifndef MOCK_H
#define MOCK_H

#include "transcript/hwpt.h"

#include "iommufd_test.h"

enum { MOCK_START = MOCK_APERTURE_START };

extern const struct command ADD_RESERVED, MOCK_DOMAIN, MOCK_REPLACE, CHECK_MAP, CHECK_REFS,
    CREATE_ACCESS, ACCESS_PAGES, DESTROY_ACCESS_PAGES, ACCESS_RW, ACCESS_REPLACE, MEMORY_LIMIT,
    DIRTY, CHECK_IOTLB, CHECK_CACHE, TRIGGER_IOPF, TRIGGER_VEVENT, PASID_ATTACH, PASID_REPLACE,
    PASID_DETACH, PASID_CHECK, DMABUF_GET, DMABUF_REVOKE;
/** An operation that the kernel does not have. */
extern const struct command UNKNOWN_OPERATION;

/** The IDs of a mock device: of the device itself, of its page table and of the iommufd device. */
struct mock_device {
    uint32_t stdev, hwpt, idev;
};

/** Returns the argument struct of operation `op` on object `id`, with all other fields 0. */
struct iommu_test_cmd test_command(uint32_t op, uint32_t id);

/**
 * Issues an operation on an object. The variable arguments initialise the operation's own fields.
 */
#define run_test(command, operation, object, ...)                                                  \
    run(command, &(struct iommu_test_cmd){.size = sizeof(struct iommu_test_cmd),                   \
                                          .op = operation,                                         \
                                          .id = object,                                            \
                                          __VA_ARGS__})

/* ---- devices ------------------------------------------------------------------------------ */

long mock_domain(uint32_t pt, struct mock_device *device);

long mock_domain_flags(uint32_t pt, uint32_t flags, struct mock_device *device);

long mock_replace(uint32_t stdev, uint32_t pt);

long pasid_attach(uint32_t stdev, uint32_t pasid, uint32_t pt);

long pasid_replace(uint32_t stdev, uint32_t pasid, uint32_t pt);

long pasid_detach(uint32_t stdev, uint32_t pasid);

long pasid_check(uint32_t stdev, uint32_t pasid, uint32_t hwpt);

long trigger_iopf(uint32_t idev, uint32_t pasid, uint64_t address);

long trigger_vevent(uint32_t idev);

long check_cache(uint32_t idev, uint32_t entry, uint32_t value);

/* ---- page tables -------------------------------------------------------------------------- */

/**
 * Allocates a nested HWPT on a nesting parent or a vIOMMU, and returns its ID or 0. The four
 * entries of its IOTLB are 7.
 */
uint32_t nested_alloc(uint32_t device, uint32_t pt, uint32_t flags, uint32_t fault);

long check_iotlb(uint32_t hwpt, uint32_t entry, uint32_t value);

long check_map(uint32_t hwpt, uint64_t iova, uint64_t length, const void *memory);

long check_refs(const void *memory, uint64_t length, uint32_t refs);

long make_dirty(uint32_t hwpt, uint64_t iova, uint64_t length, uint64_t page_size,
                const void *bitmap);

/* ---- accesses and the rest ---------------------------------------------------------------- */

/** Returns the file descriptor of the access, which gets the name, or -1. */
int create_access(const char *name, uint32_t ioas, uint32_t flags);

/** Pins pages. Returns the ID of the pinned range, or UINT32_MAX. */
uint32_t access_pages(int access, uint64_t iova, uint64_t length, const void *memory,
                      uint32_t flags);

long destroy_access_pages(int access, uint32_t id);

long access_rw(int access, uint64_t iova, uint64_t length, void *memory, uint32_t flags);

long access_replace(int access, uint32_t ioas);

long add_reserved(uint32_t ioas, uint64_t start, uint64_t length);

long memory_limit(uint32_t limit);

#endif /* MOCK_H */
