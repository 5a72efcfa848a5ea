/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd-sim: the selftest interface of /dev/iommu, level Linux 7.3.
 *
 * One command with many operations. The kernel's own iommufd tests use it to make mock devices and
 * to check the internal state of an iommufd. The command is defined in the kernel's source only
 * (drivers/iommu/iommufd/iommufd_test.h), so no installed header has it. Names, numbers and layouts
 * are the kernel's. Without --selftest the server answers ENOTTY.
 */
#ifndef _UAPI_IOMMUFD_TEST_H
#define _UAPI_IOMMUFD_TEST_H

#include "linux/iommufd.h"
#include <linux/types.h>

/**
 * Values of iommu_test_cmd.op. The brackets contain the kind of object or fd in iommu_test_cmd.id;
 * the name that follows is the member of the union. A check that fails is EINVAL unless the comment
 * names another errno.
 */
enum {
    /** [IOAS] add_reserved: makes a range unusable, as a reserved region of a device does. */
    IOMMU_TEST_OP_ADD_RESERVED = 1,
    /** [IOAS or HWPT] mock_domain: makes a mock device, binds it and attaches it to id. */
    IOMMU_TEST_OP_MOCK_DOMAIN = 2,
    /** [HWPT] check_map: checks that iova is mapped to the pages of the caller's memory. */
    IOMMU_TEST_OP_MD_CHECK_MAP = 3,
    /** [-] check_refs: checks how often each page is pinned. If the check fails, EIO. */
    IOMMU_TEST_OP_MD_CHECK_REFS = 4,
    /** [IOAS] create_access: makes an access: a user of mappings that is no device. */
    IOMMU_TEST_OP_CREATE_ACCESS = 5,
    /** [access fd] destroy_access_pages: undoes one ACCESS_PAGES. */
    IOMMU_TEST_OP_DESTROY_ACCESS_PAGES = 6,
    /** [access fd] access_pages: pins a range; compares it with uptr unless that is 0. */
    IOMMU_TEST_OP_ACCESS_PAGES = 7,
    /** [access fd] access_rw: copies between a range and the caller's memory. */
    IOMMU_TEST_OP_ACCESS_RW = 8,
    /** [-] memory_limit: bytes of temporary memory that a call may use, for all callers. */
    IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT = 9,
    /** [mock device] mock_domain_replace: replaces the attachment. */
    IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE = 10,
    /** [access fd] access_replace_ioas: moves the access to another IOAS. */
    IOMMU_TEST_OP_ACCESS_REPLACE_IOAS = 11,
    /** [IOAS or HWPT] mock_domain_flags: as MOCK_DOMAIN, for a device with dev_flags. */
    IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS = 12,
    /** [HWPT] dirty: marks the pages of a bitmap as written. */
    IOMMU_TEST_OP_DIRTY = 13,
    /** [nested HWPT] check_iotlb: checks the value of an entry of the mock TLB. */
    IOMMU_TEST_OP_MD_CHECK_IOTLB = 14,
    /** [-] trigger_iopf: makes a page request, the last of its group. */
    IOMMU_TEST_OP_TRIGGER_IOPF = 15,
    /** [bound device] check_dev_cache: checks the value of an entry of the mock cache. */
    IOMMU_TEST_OP_DEV_CHECK_CACHE = 16,
    /** [-] trigger_vevent: makes a vIOMMU event; ENOENT without a vDEVICE. */
    IOMMU_TEST_OP_TRIGGER_VEVENT = 17,
    /** [mock device] pasid_attach */
    IOMMU_TEST_OP_PASID_ATTACH = 18,
    /** [mock device] pasid_replace */
    IOMMU_TEST_OP_PASID_REPLACE = 19,
    /** [mock device] pasid_detach */
    IOMMU_TEST_OP_PASID_DETACH = 20,
    /** [mock device] pasid_check: checks that this HWPT (0: none) is attached to the PASID. */
    IOMMU_TEST_OP_PASID_CHECK_HWPT = 21,
    /** [-] dmabuf_get: returns the fd of a new dma-buf. */
    IOMMU_TEST_OP_DMABUF_GET = 22,
    /** [-] dmabuf_revoke: revokes the memory of such a dma-buf, or restores it. */
    IOMMU_TEST_OP_DMABUF_REVOKE = 23,
};

/** Values of iommu_hwpt_selftest.pagetable_type. */
enum {
    MOCK_IOMMUPT_DEFAULT = 0,
    MOCK_IOMMUPT_HUGE = 1, /**< the table has large entries */
};

/** The IOVA range and the page sizes of the mock unit with MOCK_IOMMUPT_DEFAULT, in bytes. */
enum {
    MOCK_APERTURE_START = 1UL << 24,
    MOCK_APERTURE_LAST = (1UL << 31) - 1,
    MOCK_PAGE_SIZE = 2048,
    MOCK_HUGE_PAGE_SIZE = 512 * MOCK_PAGE_SIZE,
};

/** Flags of access_pages. The second is also a flag of access_rw and of IOMMU_IOAS_COPY. */
enum {
    MOCK_FLAGS_ACCESS_WRITE = 1 << 0, /**< pin for writing */
    MOCK_FLAGS_ACCESS_SYZ = 1 << 16,  /**< for fuzzers: iova is a mapping's number and an offset */
};

/** Flags of access_rw. */
enum {
    MOCK_ACCESS_RW_WRITE = 1 << 0,     /**< write: copy from the caller's memory */
    MOCK_ACCESS_RW_SLOW_PATH = 1 << 2, /**< page by page */
};

/** Flags of create_access. */
enum {
    MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES = 1 << 0, /**< the client will use ACCESS_PAGES */
};

/** Flags of mock_domain_flags. */
enum {
    MOCK_FLAGS_DEVICE_NO_DIRTY = 1 << 0, /**< the IOMMU cannot record its writes */
    MOCK_FLAGS_DEVICE_PASID = 1 << 2,    /**< the device has PASIDs of MOCK_PASID_WIDTH bits */
};

/** The TLB entries of a nested mock HWPT. */
enum {
    MOCK_NESTED_DOMAIN_IOTLB_ID_MAX = 3,
    MOCK_NESTED_DOMAIN_IOTLB_NUM = 4,
};

/** The cache entries of a mock device. */
enum {
    MOCK_DEV_CACHE_ID_MAX = 3,
    MOCK_DEV_CACHE_NUM = 4,
};

/** Every second attach of a domain to this PASID fails, on purpose. */
#define IOMMU_TEST_PASID_RESERVED 1024

/** The number of bits in the PASIDs of a mock device. */
#define MOCK_PASID_WIDTH 20

/** The command. Unlike in other commands, the struct must have its full length. */
struct iommu_test_cmd {
    __u32 size;
    __u32 op; /**< IOMMU_TEST_OP_* */
    __u32 id; /**< object id or fd that the operation works on */
    __u32 __reserved;
    union {
        struct {
            __aligned_u64 start;
            __aligned_u64 length;
        } add_reserved;
        struct {
            __u32 out_stdev_id; /**< the mock device; destroying it unplugs it */
            __u32 out_hwpt_id;  /**< the HWPT that it is attached to */
            __u32 out_idev_id;  /**< the bound device, a dev_id for all other commands */
        } mock_domain;
        struct {
            __u32 out_stdev_id;
            __u32 out_hwpt_id;
            __u32 out_idev_id;
            __u32 dev_flags; /**< MOCK_FLAGS_DEVICE_* */
        } mock_domain_flags;
        struct {
            __u32 pt_id; /**< [inout] as of VFIO_DEVICE_ATTACH_IOMMUFD_PT */
        } mock_domain_replace;
        struct {
            __aligned_u64 iova;
            __aligned_u64 length;
            __aligned_u64 uptr;
        } check_map;
        struct {
            __aligned_u64 length;
            __aligned_u64 uptr;
            __u32 refs;
        } check_refs;
        struct {
            __u32 out_access_fd; /**< closing it destroys the access */
            __u32 flags;         /**< MOCK_FLAGS_ACCESS_CREATE_* */
        } create_access;
        struct {
            __u32 access_pages_id;
        } destroy_access_pages;
        struct {
            __u32 flags; /**< MOCK_FLAGS_ACCESS_* */
            __u32 out_access_pages_id;
            __aligned_u64 iova;
            __aligned_u64 length;
            __aligned_u64 uptr;
        } access_pages;
        struct {
            __aligned_u64 iova;
            __aligned_u64 length;
            __aligned_u64 uptr;
            __u32 flags; /**< MOCK_ACCESS_RW_* */
        } access_rw;
        struct {
            __u32 limit;
        } memory_limit;
        struct {
            __u32 ioas_id;
        } access_replace_ioas;
        struct {
            __u32 flags;
            __aligned_u64 iova;
            __aligned_u64 length;
            __aligned_u64 page_size;    /**< bytes per bit */
            __aligned_u64 uptr;         /**< address of the bitmap */
            __aligned_u64 out_nr_dirty; /**< bits that were set in it */
        } dirty;
        struct {
            __u32 id; /**< which entry */
            __u32 iotlb;
        } check_iotlb;
        struct {
            __u32 dev_id;
            __u32 pasid; /**< 0: none */
            __u32 grpid;
            __u32 perm; /**< enum iommu_hwpt_pgfault_perm */
            __u64 addr;
        } trigger_iopf;
        struct {
            __u32 id; /**< which entry */
            __u32 cache;
        } check_dev_cache;
        struct {
            __u32 dev_id;
        } trigger_vevent;
        struct {
            __u32 pasid;
            __u32 pt_id;
        } pasid_attach;
        struct {
            __u32 pasid;
            __u32 pt_id;
        } pasid_replace;
        struct {
            __u32 pasid;
        } pasid_detach;
        struct {
            __u32 pasid;
            __u32 hwpt_id;
        } pasid_check;
        struct {
            __u32 length;     /**< rounded up to pages, 2 MiB at most */
            __u32 open_flags; /**< as of open(2) */
        } dmabuf_get;
        struct {
            __s32 dmabuf_fd;
            __u32 revoked; /**< 1: revoke, 0: restore */
        } dmabuf_revoke;
    };
    __u32 last;
};
#define IOMMU_TEST_CMD _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 32)

/* GET_HW_INFO of the mock unit: the type, and the value of test_reg. */
#define IOMMU_HW_INFO_TYPE_SELFTEST 0xfeedbeef
#define IOMMU_HW_INFO_SELFTEST_REGVAL 0xdeadbeef

struct iommu_test_hw_info {
    __u32 flags;
    __u32 test_reg;
};

/* Nested HWPTs of the mock unit: the type, and the usual values in its caches. */
#define IOMMU_HWPT_DATA_SELFTEST 0xdead
#define IOMMU_TEST_IOTLB_DEFAULT 0xbadbeef
#define IOMMU_TEST_DEV_CACHE_DEFAULT 0xbaddad

struct iommu_hwpt_selftest {
    __u32 iotlb;          /**< the value of every TLB entry at first */
    __u32 pagetable_type; /**< MOCK_IOMMUPT_*; read for HWPTs over an IOAS */
};

/* Invalidation of a nested HWPT: the type, and a type that is never valid. An invalidated entry is
 * 0. */
#define IOMMU_HWPT_INVALIDATE_DATA_SELFTEST 0xdeadbeef
#define IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID 0xdadbeef

/** For this struct and iommu_viommu_invalidate_selftest: all entries, regardless of the id. */
#define IOMMU_TEST_INVALIDATE_FLAG_ALL (1 << 0)

struct iommu_hwpt_invalidate_selftest {
    __u32 flags; /**< IOMMU_TEST_INVALIDATE_FLAG_ALL */
    __u32 iotlb_id;
};

/* The mock vIOMMU. */
#define IOMMU_VIOMMU_TYPE_SELFTEST 0xdeadbeef

struct iommu_viommu_selftest {
    __u32 in_data;
    __u32 out_data; /**< the value of in_data */
    __aligned_u64
        out_mmap_offset; /**< offset to mmap on the iommufd: two pages, the first begins with it */
    __aligned_u64 out_mmap_length; /**< length to mmap */
};

/* Invalidation of the mock devices' caches on a mock vIOMMU, as above. */
#define IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST 0xdeadbeef
#define IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST_INVALID 0xdadbeef

struct iommu_viommu_invalidate_selftest {
    __u32 flags;   /**< IOMMU_TEST_INVALIDATE_FLAG_ALL */
    __u32 vdev_id; /**< virt_id of the vDEVICE */
    __u32 cache_id;
};

/* Events of the mock vIOMMU. */
#define IOMMU_VEVENTQ_TYPE_SELFTEST 0xbeefbeef

struct iommu_viommu_event_selftest {
    __u32 virt_id; /**< virt_id of the vDEVICE */
};

/* Hardware queues of the mock vIOMMU: the type, and their number. */
#define IOMMU_HW_QUEUE_TYPE_SELFTEST 0xdeadbeef
#define IOMMU_TEST_HW_QUEUE_MAX 2

#endif /* _UAPI_IOMMUFD_TEST_H */
