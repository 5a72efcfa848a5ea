/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd-sim: the ioctl interface of /dev/iommu, level Linux 7.3.
 *
 * Names, numbers and layouts are the kernel's. A program that is compiled with this header is the
 * same, byte for byte, as one that is compiled with the kernel's header; scripts/dev/check/uapi checks
 * that. The include guard is the one of the kernel's header, so of the two headers the one that is
 * included first in a translation unit is used.
 *
 * Conventions of every command
 *
 *   The argument points to the command's struct, whose first member the caller sets to its sizeof.
 *   A struct that is longer than the server's is accepted if its surplus is zero. A shorter struct
 *   is accepted if it is as long as the command's oldest form; it is read as if followed by zeros.
 *   Members named out_* are written by the server; all others are read, unless marked [inout].
 *   Members named __reserved* and flags without a flag enum must be 0.
 *   Objects have ids greater than 0, which are valid on the file that made the object. IOVAs,
 *   addresses and lengths are in bytes. A range that is given by start and last includes last.
 *
 *   ENOTTY      no such command
 *   EINVAL      size is too small, or members contradict each other
 *   E2BIG       the surplus of a longer struct is not zero
 *   EOPNOTSUPP  unknown flag, non-zero reserved member, type or option not supported here
 *   ENOENT      no such object (or it is of another kind), no such IOVA
 *   EOVERFLOW   a start plus its length exceeds 64 bits
 *   EFAULT      memory named by the caller cannot be read or written
 *   ENOMEM      out of memory or over the lock limit
 *
 * Only errors beyond these are listed with a command.
 */
#ifndef _IOMMUFD_H
#define _IOMMUFD_H

#include <linux/ioctl.h>
#include <linux/types.h>

/** The "type" byte of every request number. */
#define IOMMUFD_TYPE (';')

/** The "nr" byte of each request number. */
enum {
    IOMMUFD_CMD_BASE = 0x80,
    IOMMUFD_CMD_DESTROY = IOMMUFD_CMD_BASE,
    IOMMUFD_CMD_IOAS_ALLOC = 0x81,
    IOMMUFD_CMD_IOAS_ALLOW_IOVAS = 0x82,
    IOMMUFD_CMD_IOAS_COPY = 0x83,
    IOMMUFD_CMD_IOAS_IOVA_RANGES = 0x84,
    IOMMUFD_CMD_IOAS_MAP = 0x85,
    IOMMUFD_CMD_IOAS_UNMAP = 0x86,
    IOMMUFD_CMD_OPTION = 0x87,
    IOMMUFD_CMD_VFIO_IOAS = 0x88,
    IOMMUFD_CMD_HWPT_ALLOC = 0x89,
    IOMMUFD_CMD_GET_HW_INFO = 0x8a,
    IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING = 0x8b,
    IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP = 0x8c,
    IOMMUFD_CMD_HWPT_INVALIDATE = 0x8d,
    IOMMUFD_CMD_FAULT_QUEUE_ALLOC = 0x8e,
    IOMMUFD_CMD_IOAS_MAP_FILE = 0x8f,
    IOMMUFD_CMD_VIOMMU_ALLOC = 0x90,
    IOMMUFD_CMD_VDEVICE_ALLOC = 0x91,
    IOMMUFD_CMD_IOAS_CHANGE_PROCESS = 0x92,
    IOMMUFD_CMD_VEVENTQ_ALLOC = 0x93,
    IOMMUFD_CMD_HW_QUEUE_ALLOC = 0x94,
    IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA = 0x95,
};

/*
 * Objects
 */

/**
 * Destroys an object that the client made.
 * EBUSY: another object uses it, or it is a bound device or an access. Closing their fd destroys
 * those.
 */
struct iommu_destroy {
    __u32 size;
    __u32 id; /**< the object */
};
#define IOMMU_DESTROY _IO(IOMMUFD_TYPE, IOMMUFD_CMD_DESTROY)

/*
 * I/O address spaces (IOAS): mappings of IOVAs to memory
 */

/** Makes an empty IOAS. */
struct iommu_ioas_alloc {
    __u32 size;
    __u32 flags;
    __u32 out_ioas_id; /**< the new IOAS */
};
#define IOMMU_IOAS_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOC)

/** An element of the arrays below. */
struct iommu_iova_range {
    __aligned_u64 start; /**< first IOVA */
    __aligned_u64 last;  /**< last IOVA, included */
};

/**
 * Lists the IOVA ranges that can be mapped. In a new IOAS that is the whole space. The ranges
 * change with every device that is attached or detached, so a client should list them again then.
 * EMSGSIZE: the array is too short. num_iovas is the length needed, and as many ranges as fit have
 * been stored.
 */
struct iommu_ioas_iova_ranges {
    __u32 size;
    __u32 ioas_id;
    __u32 num_iovas; /**< [inout] elements in the array; then the number of ranges */
    __u32 __reserved;
    __aligned_u64 allowed_iovas;      /**< address of an iommu_iova_range array to fill */
    __aligned_u64 out_iova_alignment; /**< start and length of mappings are multiples of it */
};
#define IOMMU_IOAS_IOVA_RANGES _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_IOVA_RANGES)

/**
 * Reserves ranges for mappings. Afterwards an attach of a device that cannot use all of them fails,
 * and the server chooses IOVAs from these ranges only. Each call replaces the former list; an empty
 * list ends the restriction.
 * EADDRINUSE: a range is not available now.
 */
struct iommu_ioas_allow_iovas {
    __u32 size;
    __u32 ioas_id;
    __u32 num_iovas; /**< elements in the array */
    __u32 __reserved;
    __aligned_u64 allowed_iovas; /**< address of an iommu_iova_range array to read */
};
#define IOMMU_IOAS_ALLOW_IOVAS _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOW_IOVAS)

/** Flags of MAP, MAP_FILE and COPY. At least one of the two permissions is required. */
enum iommufd_ioas_map_flags {
    IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0, /**< iova is given; otherwise the server chooses it */
    IOMMU_IOAS_MAP_WRITEABLE = 1 << 1,  /**< devices may write */
    IOMMU_IOAS_MAP_READABLE = 1 << 2,   /**< devices may read */
};

/**
 * Maps memory of the calling process.
 * EEXIST: a part of a fixed range is mapped. ENOSPC: no range of this length is free. EINVAL: a
 * fixed range is not aligned or overlaps a reserved range.
 */
struct iommu_ioas_map {
    __u32 size;
    __u32 flags; /**< enum iommufd_ioas_map_flags */
    __u32 ioas_id;
    __u32 __reserved;
    __aligned_u64 user_va; /**< address of the first byte in the caller's memory */
    __aligned_u64 length;
    __aligned_u64 iova; /**< [inout] first IOVA; read only with FIXED_IOVA */
};
#define IOMMU_IOAS_MAP _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_MAP)

/**
 * Reads the physical address behind an IOVA, for devices without an IOMMU. The IOVA must be mapped.
 * EOPNOTSUPP on a server that does not support such devices. EPERM without CAP_SYS_RAWIO.
 */
struct iommu_ioas_noiommu_get_pa {
    __u32 size;
    __u32 flags;
    __u32 ioas_id;
    __u32 __reserved;
    __aligned_u64 iova;
    __aligned_u64 length; /**< [inout] most bytes wanted, not 0; then contiguous bytes */
    __aligned_u64 out_phys; /**< physical address of the first byte */
};
#define IOMMU_IOAS_NOIOMMU_GET_PA _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA)

/**
 * Maps the pages of a file: a memfd, or a dma-buf of a type that the server supports. The mapping
 * stays when the fd is closed, and does not depend on the caller's address space.
 */
struct iommu_ioas_map_file {
    __u32 size;
    __u32 flags; /**< enum iommufd_ioas_map_flags */
    __u32 ioas_id;
    __s32 fd;
    __aligned_u64 start; /**< offset of the first byte in the file */
    __aligned_u64 length;
    __aligned_u64 iova; /**< [inout] as in iommu_ioas_map */
};
#define IOMMU_IOAS_MAP_FILE _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_MAP_FILE)

/**
 * Maps pages once more that an IOAS maps already, in another IOAS or in the same one. The pages are
 * pinned and accounted once for both mappings. The source range must be mapped without gaps.
 * Errors as of MAP, and EPERM: the copy is writeable and the source is not.
 */
struct iommu_ioas_copy {
    __u32 size;
    __u32 flags; /**< enum iommufd_ioas_map_flags, for the new mapping */
    __u32 dst_ioas_id;
    __u32 src_ioas_id;
    __aligned_u64 length;
    __aligned_u64 dst_iova; /**< [inout] as iova in iommu_ioas_map */
    __aligned_u64 src_iova;
};
#define IOMMU_IOAS_COPY _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_COPY)

/**
 * Removes the mappings in a range, each as a whole. ENOENT: the range contains a part of a mapping,
 * or no mapping. iova 0 with length UINT64_MAX removes all mappings, and succeeds on an empty IOAS.
 */
struct iommu_ioas_unmap {
    __u32 size;
    __u32 ioas_id;
    __aligned_u64 iova;
    __aligned_u64 length; /**< [inout] bytes of the range; then bytes that were mapped */
};
#define IOMMU_IOAS_UNMAP _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_UNMAP)

/** Values of iommu_option.option_id. */
enum iommufd_option {
    /** The account of pinned pages: 0 the user (default), 1 the process. object_id is 0.
     *  EPERM without CAP_SYS_RESOURCE; EBUSY once the file has objects. */
    IOMMU_OPTION_RLIMIT_MODE = 0,
    /** Whether adjacent pages may share a large page-table entry: 1 yes (default), 0 no.
     *  object_id is an IOAS. */
    IOMMU_OPTION_HUGE_PAGES = 1,
};

/** Values of iommu_option.op. */
enum iommufd_option_ops {
    IOMMU_OPTION_OP_SET = 0,
    IOMMU_OPTION_OP_GET = 1,
};

/** Reads or sets an option. */
struct iommu_option {
    __u32 size;
    __u32 option_id; /**< enum iommufd_option */
    __u16 op;        /**< enum iommufd_option_ops */
    __u16 __reserved;
    __u32 object_id;     /**< the object of the option; 0 for the whole file */
    __aligned_u64 val64; /**< [inout] value to set, or the value read */
};
#define IOMMU_OPTION _IO(IOMMUFD_TYPE, IOMMUFD_CMD_OPTION)

/** Values of iommu_vfio_ioas.op. */
enum iommufd_vfio_ioas_op {
    IOMMU_VFIO_IOAS_GET = 0,
    IOMMU_VFIO_IOAS_SET = 1,
    IOMMU_VFIO_IOAS_CLEAR = 2,
};

/**
 * Chooses the IOAS that the VFIO container commands on this file work on. Without a choice GET is
 * ENODEV, and a kernel makes an IOAS when a VFIO group gets this file as its container.
 */
struct iommu_vfio_ioas {
    __u32 size;
    __u32 ioas_id; /**< [inout] read by SET, written by GET */
    __u16 op;      /**< enum iommufd_vfio_ioas_op */
    __u16 __reserved;
};
#define IOMMU_VFIO_IOAS _IO(IOMMUFD_TYPE, IOMMUFD_CMD_VFIO_IOAS)

/**
 * Accounts all pinned memory of this file to the calling process, or on failure none of it. For a
 * program that hands its devices over to another process.
 * EINVAL: a mapping of the file was not made with MAP_FILE.
 */
struct iommu_ioas_change_process {
    __u32 size;
    __u32 __reserved;
};
#define IOMMU_IOAS_CHANGE_PROCESS _IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_CHANGE_PROCESS)

/*
 * Hardware page tables (HWPT): the tables that an IOMMU walks
 */

/** Flags of HWPT_ALLOC. */
enum iommufd_hwpt_alloc_flags {
    IOMMU_HWPT_ALLOC_NEST_PARENT = 1 << 0, /**< nested HWPTs can use it as their stage 2 */
    /** Only a device whose IOMMU records writes can be attached. */
    IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1,
    IOMMU_HWPT_FAULT_ID_VALID = 1 << 2, /**< page requests arrive on the queue fault_id */
    /** Can be attached to a PASID. The HWPT of the device's other DMA must have the flag too. */
    IOMMU_HWPT_ALLOC_PASID = 1 << 3,
};

/** Flags of a VT-d stage 1, named after the bits of the PASID-table entry. */
enum iommu_hwpt_vtd_s1_flags {
    IOMMU_VTD_S1_SRE = 1 << 0,  /**< supervisor requests are allowed */
    IOMMU_VTD_S1_EAFE = 1 << 1, /**< the hardware sets the extended-accessed bit */
    IOMMU_VTD_S1_WPE = 1 << 2,  /**< supervisor writes honour read-only entries */
};

/** IOMMU_HWPT_DATA_VTD_S1: a first stage in the guest's tables. */
struct iommu_hwpt_vtd_s1 {
    __aligned_u64 flags;      /**< enum iommu_hwpt_vtd_s1_flags */
    __aligned_u64 pgtbl_addr; /**< root table, a guest physical address */
    __u32 addr_width;         /**< bits of input address: 48 or 57 */
    __u32 __reserved;
};

/**
 * IOMMU_HWPT_DATA_ARM_SMMUV3: the part of a stream table entry that a guest decides, little-endian.
 * Allowed: in the first double word V, Config, S1Fmt, S1ContextPtr, S1CDMax; in the second S1DSS,
 * S1CIR, S1COR, S1CSH, S1STALLD, EATS. Any other bit, or an illegal combination, is EIO.
 * Config selects translation, bypass or abort. A HWPT that translates can be attached only to a
 * device that has a vDEVICE, because invalidations and events name the device by the guest's stream
 * id.
 */
struct iommu_hwpt_arm_smmuv3 {
    __aligned_le64 ste[2];
};

/** IOMMU_HWPT_DATA_AMD_GUEST: the guest's device table entry. */
struct iommu_hwpt_amd_guest {
    __aligned_u64 dte[4];
};

/** Values of iommu_hwpt_alloc.data_type: what data_uptr points to. */
enum iommu_hwpt_data_type {
    IOMMU_HWPT_DATA_NONE = 0,       /**< no data; the server fills the tables */
    IOMMU_HWPT_DATA_VTD_S1 = 1,     /**< struct iommu_hwpt_vtd_s1 */
    IOMMU_HWPT_DATA_ARM_SMMUV3 = 2, /**< struct iommu_hwpt_arm_smmuv3 */
    IOMMU_HWPT_DATA_AMD_GUEST = 3,  /**< struct iommu_hwpt_amd_guest */
};

/**
 * Makes a page table for the IOMMU of a device. If pt_id is an IOAS and there is no data, the
 * server fills the table with the mappings of the IOAS. If pt_id is a NEST_PARENT HWPT, or a vIOMMU
 * over one, and there is data, the HWPT is nested: its stage 1 is in guest memory, and its stage 2
 * is the parent.
 */
struct iommu_hwpt_alloc {
    __u32 size;
    __u32 flags;  /**< enum iommufd_hwpt_alloc_flags */
    __u32 dev_id; /**< a bound device */
    __u32 pt_id;  /**< IOAS, HWPT or vIOMMU */
    __u32 out_hwpt_id;
    __u32 __reserved;
    __u32 data_type;         /**< enum iommu_hwpt_data_type */
    __u32 data_len;          /**< bytes at data_uptr */
    __aligned_u64 data_uptr; /**< address of the data; 0 without data */
    __u32 fault_id;          /**< fault queue, with IOMMU_HWPT_FAULT_ID_VALID */
    __u32 __reserved2;
};
#define IOMMU_HWPT_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_ALLOC)

/*
 * Capabilities of the hardware
 */

/** Flags of iommu_hw_info_vtd. */
enum iommu_hw_info_vtd_flags {
    /** Erratum: a parent HWPT must not have read-only mappings. */
    IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 = 1 << 0,
};

/** IOMMU_HW_INFO_TYPE_INTEL_VTD: the unit's registers as read. */
struct iommu_hw_info_vtd {
    __u32 flags; /**< enum iommu_hw_info_vtd_flags */
    __u32 __reserved;
    __aligned_u64 cap_reg;  /**< CAP_REG */
    __aligned_u64 ecap_reg; /**< ECAP_REG */
};

/** Flags of iommu_hw_info_arm_smmuv3. */
enum iommu_hw_info_arm_smmuv3_flags {
    /** Erratum: TLB and configuration invalidations must be sent, with a sync, twice. */
    IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI = 1 << 0,
};

/**
 * IOMMU_HW_INFO_TYPE_ARM_SMMUV3: the unit's identification registers as read. They describe the
 * hardware, of which the client may not be able to use everything. Useful to a client are
 *   idr[0] ST_LEVEL TERM_MODEL STALL_MODEL TTENDIAN CD2L ASID16 TTF
 *   idr[1] SIDSIZE SSIDSIZE
 *   idr[3] BBML RIL
 *   idr[5] VAX GRAN64K GRAN16K GRAN4K DS
 */
struct iommu_hw_info_arm_smmuv3 {
    __u32 flags; /**< enum iommu_hw_info_arm_smmuv3_flags */
    __u32 __reserved;
    __u32 idr[6]; /**< SMMU_IDR0 to SMMU_IDR5 */
    __u32 iidr;   /**< SMMU_IIDR */
    __u32 aidr;   /**< SMMU_AIDR */
};

/** IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV: fields of the PARAM register. */
struct iommu_hw_info_tegra241_cmdqv {
    __u32 flags;
    __u8 version;    /**< PARAM[3:0] */
    __u8 log2vcmdqs; /**< PARAM[7:4], log2 of the number of virtual command queues */
    __u8 log2vsids;  /**< PARAM[15:12], log2 of the number of stream id replacements */
    __u8 __reserved;
};

/**
 * IOMMU_HW_INFO_TYPE_AMD: the unit's registers as read. A guest may be shown GTSup, GASup, GioSup,
 * PPRSup, EPHSup, GATS, GLX and PASmax of EFR.
 */
struct iommu_hw_info_amd {
    __aligned_u64 efr;  /**< Extended Feature Register, MMIO 0030h */
    __aligned_u64 efr2; /**< Extended Feature 2 Register, MMIO 01A0h */
};

/** Values of in_data_type and out_data_type: what data_uptr points to. */
enum iommu_hw_info_type {
    IOMMU_HW_INFO_TYPE_NONE = 0,    /**< as an answer: there is no data */
    IOMMU_HW_INFO_TYPE_DEFAULT = 0, /**< as in_data_type: the type of the unit */
    IOMMU_HW_INFO_TYPE_INTEL_VTD = 1,
    IOMMU_HW_INFO_TYPE_ARM_SMMUV3 = 2,
    IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV = 3,
    IOMMU_HW_INFO_TYPE_AMD = 4,
};

/** Bits of iommu_hw_info.out_capabilities. */
enum iommufd_hw_capabilities {
    IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0,        /**< the dirty tracking commands work */
    IOMMU_HW_CAP_PCI_PASID_EXEC = 1 << 1,        /**< the PASID capability has execute permission */
    IOMMU_HW_CAP_PCI_PASID_PRIV = 1 << 2,        /**< the PASID capability has privileged mode */
    IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED = 1 << 3, /**< the device cannot use ATS; unset: it may */
};

/** Flags of GET_HW_INFO. */
enum iommufd_hw_info_flags {
    IOMMU_HW_INFO_FLAG_INPUT_TYPE = 1 << 0, /**< in_data_type is the type to return */
};

/**
 * Describes the IOMMU in front of a device. If the buffer is shorter than the data, the first bytes
 * are stored; if it is longer, zeros follow the data. Both PASID capability bits are valid only
 * when out_max_pasid_log2 is not 0.
 */
struct iommu_hw_info {
    __u32 size;
    __u32 flags;             /**< enum iommufd_hw_info_flags */
    __u32 dev_id;            /**< a bound device */
    __u32 data_len;          /**< [inout] bytes of the buffer, or 0; then bytes of the data */
    __aligned_u64 data_uptr; /**< address of the buffer to fill */
    union {
        __u32 in_data_type;  /**< enum iommu_hw_info_type, with IOMMU_HW_INFO_FLAG_INPUT_TYPE */
        __u32 out_data_type; /**< enum iommu_hw_info_type */
    };
    __u8 out_max_pasid_log2; /**< bits of the largest PASID; 0 if the device has none */
    __u8 __reserved[3];
    __aligned_u64 out_capabilities; /**< enum iommufd_hw_capabilities */
};
#define IOMMU_GET_HW_INFO _IO(IOMMUFD_TYPE, IOMMUFD_CMD_GET_HW_INFO)

/*
 * Dirty tracking: the pages that devices have written
 */

/** Flags of HWPT_SET_DIRTY_TRACKING. */
enum iommufd_hwpt_set_dirty_tracking_flags {
    IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1, /**< start; unset: stop */
};

/** Starts or stops dirty tracking of a HWPT. Starting clears the records. */
struct iommu_hwpt_set_dirty_tracking {
    __u32 size;
    __u32 flags; /**< enum iommufd_hwpt_set_dirty_tracking_flags */
    __u32 hwpt_id;
    __u32 __reserved;
};
#define IOMMU_HWPT_SET_DIRTY_TRACKING _IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING)

/** Flags of HWPT_GET_DIRTY_BITMAP. */
enum iommufd_hwpt_get_dirty_bitmap_flags {
    /** Keep the records. That is cheaper when the range is unmapped next. */
    IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1,
};

/**
 * Reports and clears the recorded writes. Bit n of the bitmap (bit n % 64 of word n / 64) stands
 * for the page_size bytes from iova + n * page_size. Bits are set and never cleared, so the caller
 * fills the bitmap with zeros first.
 */
struct iommu_hwpt_get_dirty_bitmap {
    __u32 size;
    __u32 hwpt_id;
    __u32 flags; /**< enum iommufd_hwpt_get_dirty_bitmap_flags */
    __u32 __reserved;
    __aligned_u64 iova;
    __aligned_u64 length;
    __aligned_u64 page_size; /**< bytes per bit */
    __aligned_u64 data;      /**< address of the 64-bit words */
};
#define IOMMU_HWPT_GET_DIRTY_BITMAP _IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP)

/*
 * Invalidation, which a client must do after it has changed guest tables
 */

/** Values of iommu_hwpt_invalidate.data_type: the element of the array. */
enum iommu_hwpt_invalidate_data_type {
    IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0, /**< on a HWPT: struct iommu_hwpt_vtd_s1_invalidate */
    /** On a vIOMMU: struct iommu_viommu_arm_smmuv3_invalidate. */
    IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 = 1,
};

/** Flags of iommu_hwpt_vtd_s1_invalidate. */
enum iommu_hwpt_vtd_s1_invalidate_flags {
    IOMMU_VTD_INV_FLAGS_LEAF = 1 << 0, /**< only leaf entries have changed */
};

/** One range of a VT-d first stage. Device TLBs are invalidated as well. */
struct iommu_hwpt_vtd_s1_invalidate {
    __aligned_u64 addr;   /**< first address, a multiple of 4 KiB */
    __aligned_u64 npages; /**< 4 KiB pages; UINT64_MAX with addr 0: all */
    __u32 flags;          /**< enum iommu_hwpt_vtd_s1_invalidate_flags */
    __u32 __reserved;
};

/**
 * One command as in the SMMU's command queue, little-endian. Allowed are TLBI_NSNH_ALL, TLBI_NH_VA,
 * TLBI_NH_VAA, TLBI_NH_ALL, TLBI_NH_ASID, ATC_INV, CFGI_CD and CFGI_CD_ALL. Any other command, and
 * a field that the unit does not have, is EIO. VMIDs and stream ids are the guest's.
 */
struct iommu_viommu_arm_smmuv3_invalidate {
    __aligned_le64 cmd[2];
};

/**
 * Invalidates cached translations of guest tables, element by element. On failure entry_num is the
 * number of elements that were done. With no elements, the call checks whether the type is
 * supported.
 */
struct iommu_hwpt_invalidate {
    __u32 size;
    __u32 hwpt_id;           /**< nested HWPT or vIOMMU */
    __aligned_u64 data_uptr; /**< address of the array */
    __u32 data_type;         /**< enum iommu_hwpt_invalidate_data_type */
    __u32 entry_len;         /**< bytes per element */
    __u32 entry_num;         /**< [inout] elements; then elements done */
    __u32 __reserved;
};
#define IOMMU_HWPT_INVALIDATE _IO(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_INVALIDATE)

/*
 * Page requests of devices (PCIe PRI, SMMU stall)
 */

/** Flags of iommu_hwpt_pgfault. */
enum iommu_hwpt_pgfault_flags {
    IOMMU_PGFAULT_FLAGS_PASID_VALID = (1 << 0),
    IOMMU_PGFAULT_FLAGS_LAST_PAGE = (1 << 1), /**< the group is complete and needs its response */
};

/** Access bits of iommu_hwpt_pgfault. */
enum iommu_hwpt_pgfault_perm {
    IOMMU_PGFAULT_PERM_READ = (1 << 0),
    IOMMU_PGFAULT_PERM_WRITE = (1 << 1),
    IOMMU_PGFAULT_PERM_EXEC = (1 << 2), /**< only with a PASID */
    IOMMU_PGFAULT_PERM_PRIV = (1 << 3), /**< only with a PASID */
};

/** A page request, as it is read from the fd of a fault queue. */
struct iommu_hwpt_pgfault {
    __u32 flags;  /**< enum iommu_hwpt_pgfault_flags */
    __u32 dev_id; /**< the bound device that makes the request */
    __u32 pasid;
    __u32 grpid; /**< page request group index */
    __u32 perm;  /**< enum iommu_hwpt_pgfault_perm */
    __u32 __reserved;
    __aligned_u64 addr;
    __u32 length; /**< bytes that the device expects to need; 0 if unknown */
    __u32 cookie; /**< the same in all requests of a group; names it in the response */
};

/** Values of iommu_hwpt_page_response.code, those of PCIe. */
enum iommufd_page_response_code {
    IOMMUFD_PAGE_RESP_SUCCESS = 0, /**< the page is there: the device repeats its access */
    IOMMUFD_PAGE_RESP_INVALID = 1, /**< there is no such page: the access fails */
};

/** The response to a page request group, as it is written to the fd of a fault queue. */
struct iommu_hwpt_page_response {
    __u32 cookie;
    __u32 code; /**< enum iommufd_page_response_code */
};

/**
 * Makes a fault queue, on which the page requests of HWPTs arrive. Reads of its fd return whole
 * iommu_hwpt_pgfault, and writes take whole iommu_hwpt_page_response; another length is ESPIPE. A
 * read does not split a group (EINVAL if the first group does not fit) and does not block: without
 * page requests it returns 0. poll reports POLLIN while there are page requests. A response with an
 * unknown cookie is EINVAL.
 */
struct iommu_fault_alloc {
    __u32 size;
    __u32 flags;
    __u32 out_fault_id;
    __u32 out_fault_fd;
};
#define IOMMU_FAULT_QUEUE_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_FAULT_QUEUE_ALLOC)

/*
 * Virtual IOMMUs (vIOMMU): the part of a unit that one guest sees
 */

/** Values of iommu_viommu_alloc.type. */
enum iommu_viommu_type {
    IOMMU_VIOMMU_TYPE_DEFAULT = 0,
    IOMMU_VIOMMU_TYPE_ARM_SMMUV3 = 1,
    /** An SMMU with NVIDIA's command queue extension. The guest must see HYP_OWN as 0. */
    IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV = 2,
};

/** IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: the mapping of page 0 of the virtual interface. */
struct iommu_viommu_tegra241_cmdqv {
    __aligned_u64 out_vintf_mmap_offset; /**< offset to mmap on the iommufd */
    __aligned_u64 out_vintf_mmap_length; /**< length to mmap */
};

/**
 * Makes a vIOMMU on the unit of a device. A vIOMMU has the ids that the guest gives its devices,
 * the event queues and the hardware queues of the guest, and invalidations that are not limited to
 * one page table.
 */
struct iommu_viommu_alloc {
    __u32 size;
    __u32 flags;
    __u32 type;    /**< enum iommu_viommu_type */
    __u32 dev_id;  /**< a bound device behind the unit */
    __u32 hwpt_id; /**< a NEST_PARENT HWPT: the guest's memory */
    __u32 out_viommu_id;
    __u32 data_len; /**< bytes at data_uptr */
    __u32 __reserved;
    __aligned_u64 data_uptr; /**< address of the type's struct, if it has one; [inout] */
};
#define IOMMU_VIOMMU_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_VIOMMU_ALLOC)

/**
 * Makes a vDEVICE: the id that a guest gives a device, in a vIOMMU. The client should destroy the
 * vDEVICE before it closes the device. If the device is closed first, the object id of the vDEVICE
 * is not used again until the iommufd is closed.
 * EEXIST: the id is in use in this vIOMMU, or the device has a vDEVICE.
 */
struct iommu_vdevice_alloc {
    __u32 size;
    __u32 viommu_id;
    __u32 dev_id;
    __u32 out_vdevice_id;
    __aligned_u64 virt_id; /**< SMMUv3: stream id; AMD: device id; VT-d: requester id */
};
#define IOMMU_VDEVICE_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_VDEVICE_ALLOC)

/** Flags of iommufd_vevent_header. */
enum iommu_veventq_flag {
    IOMMU_VEVENTQ_FLAG_LOST_EVENTS = (1U << 0), /**< the queue was full; no event follows */
};

/**
 * Precedes every event that is read from a vEVENTQ. Events are numbered from 0 to INT_MAX and then
 * from 0 again. Lost events are numbered too, so a step of more than one between two headers shows
 * how many are missing. When events were lost after the last event in the queue, a header with
 * LOST_EVENTS and no event is the last that is read.
 */
struct iommufd_vevent_header {
    __u32 flags;    /**< enum iommu_veventq_flag */
    __u32 sequence; /**< number of the event that follows */
};

/** Values of iommu_veventq_alloc.type: what follows the header. */
enum iommu_veventq_type {
    IOMMU_VEVENTQ_TYPE_DEFAULT = 0,
    IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 = 1,     /**< struct iommu_vevent_arm_smmuv3 */
    IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV = 2, /**< struct iommu_vevent_tegra241_cmdqv */
};

/**
 * An SMMUv3 event record, little-endian, with the guest's stream id. Reported are the events
 * C_BAD_STE 0x04, F_STREAM_DISABLED 0x06, C_BAD_SUBSTREAMID 0x08, C_BAD_CD 0x0a, F_TRANSLATION
 * 0x10, F_ADDR_SIZE 0x11, F_ACCESS 0x12 and F_PERMISSION 0x13 of devices that have a vDEVICE.
 */
struct iommu_vevent_arm_smmuv3 {
    __aligned_le64 evt[4];
};

/** Error bits of the virtual command queues, LVCMDQ_ERR_MAP, little-endian. */
struct iommu_vevent_tegra241_cmdqv {
    __aligned_le64 lvcmdq_err_map[2];
};

/**
 * Makes an event queue of a vIOMMU, at most one of each type (EEXIST). A read of its fd returns as
 * many pairs of header and event as fit. A buffer that is too short for the first pair is EINVAL. A
 * read does not block: without events it returns 0. poll reports POLLIN while there are events.
 */
struct iommu_veventq_alloc {
    __u32 size;
    __u32 flags;
    __u32 viommu_id;
    __u32 type;          /**< enum iommu_veventq_type */
    __u32 veventq_depth; /**< events that the queue can hold; 1 to 524288 */
    __u32 out_veventq_id;
    __u32 out_veventq_fd; /**< the caller must close it */
    __u32 __reserved;
};
#define IOMMU_VEVENTQ_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_VEVENTQ_ALLOC)

/** Values of iommu_hw_queue_alloc.type. */
enum iommu_hw_queue_type {
    IOMMU_HW_QUEUE_TYPE_DEFAULT = 0,
    /**
     * A virtual command queue. Indices are allocated from 0 upwards and freed from the last
     * downwards. length is a power of two from 32 bytes to 16 << IDR1.CMDQS and the base is a
     * multiple of it. The memory must be physically contiguous: best one huge page.
     */
    IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV = 1,
};

/** Lets the hardware execute a queue in guest memory, pinned until the queue is destroyed. */
struct iommu_hw_queue_alloc {
    __u32 size;
    __u32 flags;
    __u32 viommu_id;
    __u32 type;  /**< enum iommu_hw_queue_type */
    __u32 index; /**< index among the queues of its type in the vIOMMU, each index once */
    __u32 out_hw_queue_id;
    __aligned_u64 nesting_parent_iova; /**< base, a guest physical address */
    __aligned_u64 length;              /**< bytes */
};
#define IOMMU_HW_QUEUE_ALLOC _IO(IOMMUFD_TYPE, IOMMUFD_CMD_HW_QUEUE_ALLOC)

#endif /* _IOMMUFD_H */
