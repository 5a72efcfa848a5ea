/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd-sim: the ioctl interface of VFIO devices, containers and groups, level Linux 7.3.
 *
 * Names, numbers and layouts are the kernel's, so a program may be compiled with this header or
 * with the kernel's own and the result is the same bytes. scripts/dev/check/uapi proves it. The guard
 * is the one of the installed kernel header: whichever comes first in a translation unit wins.
 * Everything of the kernel's header is here; what the simulator answers with "not supported" too,
 * because clients such as QEMU name it.
 *
 * Conventions
 *
 *   Structs start with argsz, the size of the caller's buffer in bytes, and flags. Too small for
 *   the struct's oldest form is EINVAL; an unknown flag is EINVAL.
 *
 *   Requests whose name has INFO write argsz back: the size that a complete answer needs. If a
 *   capability chain exists and the buffer holds it, the CAPS flag is set and cap_offset leads to
 *   the first capability; if the buffer is too small, cap_offset is 0, and that is no error: the
 *   caller asks again with a buffer of argsz bytes.
 *
 *   [in] is set by the caller, [out] by the server, [inout] by both in turn. Offsets and sizes are
 *   in bytes. Reserved members are 0. Some numbers are shared by requests on different kinds of
 *   file.
 */
#ifndef VFIO_H
#define VFIO_H

#include <linux/ioctl.h>
#include <linux/stddef.h>
#include <linux/types.h>

/** The answer to VFIO_GET_API_VERSION. */
#define VFIO_API_VERSION 0

/* Arguments of VFIO_CHECK_EXTENSION; the *_IOMMU ones without DMA_CC also of VFIO_SET_IOMMU. */
#define VFIO_TYPE1_IOMMU 1
#define VFIO_SPAPR_TCE_IOMMU 2
#define VFIO_TYPE1v2_IOMMU 3 /**< an unmap never cuts a mapping */
#define VFIO_DMA_CC_IOMMU 4  /**< DMA is always coherent with CPU caches */
#define VFIO_EEH 5
#define __VFIO_RESERVED_TYPE1_NESTING_IOMMU 6
#define VFIO_SPAPR_TCE_v2_IOMMU 7
#define VFIO_NOIOMMU_IOMMU 8 /**< no translation, no protection */
#define VFIO_UNMAP_ALL 9     /**< VFIO_DMA_UNMAP_FLAG_ALL is understood */
#define VFIO_UPDATE_VADDR 10 /**< the two *_FLAG_VADDR are understood */

/** The "type" byte of every request number. */
#define VFIO_TYPE (';')
/** The lowest "nr" byte. */
#define VFIO_BASE 100

/** Starts every capability of a chain. */
struct vfio_info_cap_header {
    __u16 id;      /**< which one; numbered per request */
    __u16 version; /**< of this capability's layout */
    __u32 next;    /**< offset of the next one in the caller's buffer; 0 at the end */
};

/*
 * Container: /dev/vfio/vfio, or an iommufd in its place
 */

/** Returns VFIO_API_VERSION. */
#define VFIO_GET_API_VERSION _IO(VFIO_TYPE, VFIO_BASE + 0)

/** Argument: an extension from the list above. Returns 1 (or more) if it is there, else 0. */
#define VFIO_CHECK_EXTENSION _IO(VFIO_TYPE, VFIO_BASE + 1)

/** Argument: the kind of IOMMU to work with from now on. */
#define VFIO_SET_IOMMU _IO(VFIO_TYPE, VFIO_BASE + 2)

/*
 * Group: /dev/vfio/N
 */

struct vfio_group_status {
    __u32 argsz;
    __u32 flags;                                /**< [out] */
#define VFIO_GROUP_FLAGS_VIABLE (1 << 0)        /**< no device of it is in foreign hands */
#define VFIO_GROUP_FLAGS_CONTAINER_SET (1 << 1) /**< it has a container */
};
#define VFIO_GROUP_GET_STATUS _IO(VFIO_TYPE, VFIO_BASE + 3)

/** Argument: address of an __s32, the fd of a container or iommufd. */
#define VFIO_GROUP_SET_CONTAINER _IO(VFIO_TYPE, VFIO_BASE + 4)

/** Leaves the container; EBUSY while a device of the group is open. */
#define VFIO_GROUP_UNSET_CONTAINER _IO(VFIO_TYPE, VFIO_BASE + 5)

/** Argument: the device's name, a C string. Returns its fd. */
#define VFIO_GROUP_GET_DEVICE_FD _IO(VFIO_TYPE, VFIO_BASE + 6)

/*
 * Device: what it has
 */

/** Describes a device. */
struct vfio_device_info {
    __u32 argsz;
    __u32 flags;                            /**< [out] */
#define VFIO_DEVICE_FLAGS_RESET (1 << 0)    /**< VFIO_DEVICE_RESET works */
#define VFIO_DEVICE_FLAGS_PCI (1 << 1)      /**< a PCI device */
#define VFIO_DEVICE_FLAGS_PLATFORM (1 << 2) /**< a platform device */
#define VFIO_DEVICE_FLAGS_AMBA (1 << 3)     /**< an Arm AMBA device */
#define VFIO_DEVICE_FLAGS_CCW (1 << 4)      /**< an s390 channel device */
#define VFIO_DEVICE_FLAGS_AP (1 << 5)       /**< an s390 adjunct processor */
#define VFIO_DEVICE_FLAGS_FSL_MC (1 << 6)   /**< a Freescale management complex device */
#define VFIO_DEVICE_FLAGS_CAPS (1 << 7)     /**< there is a capability chain */
#define VFIO_DEVICE_FLAGS_CDX (1 << 8)      /**< an AMD CDX device */
    __u32 num_regions;                      /**< [out] region indices are below this */
    __u32 num_irqs;                         /**< [out] interrupt indices are below this */
    __u32 cap_offset;                       /**< [out] */
    __u32 pad;
};
#define VFIO_DEVICE_GET_INFO _IO(VFIO_TYPE, VFIO_BASE + 7)

/* What a mediated device's device_api attribute reads. */
#define VFIO_DEVICE_API_PCI_STRING "vfio-pci"
#define VFIO_DEVICE_API_PLATFORM_STRING "vfio-platform"
#define VFIO_DEVICE_API_AMBA_STRING "vfio-amba"
#define VFIO_DEVICE_API_CCW_STRING "vfio-ccw"
#define VFIO_DEVICE_API_AP_STRING "vfio-ap"

/* Capabilities of VFIO_DEVICE_GET_INFO. The four of s390 have their layouts in vfio_zdev.h. */
#define VFIO_DEVICE_INFO_CAP_ZPCI_BASE 1
#define VFIO_DEVICE_INFO_CAP_ZPCI_GROUP 2
#define VFIO_DEVICE_INFO_CAP_ZPCI_UTIL 3
#define VFIO_DEVICE_INFO_CAP_ZPCI_PFIP 4
#define VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP 5

/** PCIe AtomicOps that complete at the root port. */
struct vfio_device_info_cap_pci_atomic_comp {
    struct vfio_info_cap_header header;
    __u32 flags; /**< [out] widths in bits */
#define VFIO_PCI_ATOMIC_COMP32 (1 << 0)
#define VFIO_PCI_ATOMIC_COMP64 (1 << 1)
#define VFIO_PCI_ATOMIC_COMP128 (1 << 2)
    __u32 reserved;
};

/** Describes a region: where in the device file it can be read, written and mapped. */
struct vfio_region_info {
    __u32 argsz;
    __u32 flags;                             /**< [out] */
#define VFIO_REGION_INFO_FLAG_READ (1 << 0)  /**< pread works */
#define VFIO_REGION_INFO_FLAG_WRITE (1 << 1) /**< pwrite works */
#define VFIO_REGION_INFO_FLAG_MMAP (1 << 2)  /**< mmap works, perhaps for a part */
#define VFIO_REGION_INFO_FLAG_CAPS (1 << 3)  /**< there is a capability chain */
    __u32 index;                             /**< [in] */
    __u32 cap_offset;                        /**< [out] */
    __aligned_u64 size;                      /**< [out] 0: not there */
    __aligned_u64 offset;                    /**< [out] of its first byte in the device file */
};
#define VFIO_DEVICE_GET_REGION_INFO _IO(VFIO_TYPE, VFIO_BASE + 8)

/* Capabilities of VFIO_DEVICE_GET_REGION_INFO. */
#define VFIO_REGION_INFO_CAP_SPARSE_MMAP 1
#define VFIO_REGION_INFO_CAP_TYPE 2
#define VFIO_REGION_INFO_CAP_MSIX_MAPPABLE 3  /**< no data: even the MSI-X table can be mapped */
#define VFIO_REGION_INFO_CAP_NVLINK2_SSATGT 4 /**< obsolete */
#define VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD 5 /**< obsolete */

/** One part of a region. */
struct vfio_region_sparse_mmap_area {
    __aligned_u64 offset; /**< in the region */
    __aligned_u64 size;
};

/** Only these parts of the region can be mapped. */
struct vfio_region_info_cap_sparse_mmap {
    struct vfio_info_cap_header header;
    __u32 nr_areas; /**< elements of areas */
    __u32 reserved;
    struct vfio_region_sparse_mmap_area areas[];
};

/** What a region without a fixed index is. */
struct vfio_region_info_cap_type {
    struct vfio_info_cap_header header;
    __u32 type;    /**< VFIO_REGION_TYPE_*, or vendor id with PCI_VENDOR_TYPE */
    __u32 subtype; /**< VFIO_REGION_SUBTYPE_* of this type */
};

#define VFIO_REGION_TYPE_PCI_VENDOR_TYPE (1 << 31)
#define VFIO_REGION_TYPE_PCI_VENDOR_MASK (0xffff)
#define VFIO_REGION_TYPE_GFX (1)
#define VFIO_REGION_TYPE_CCW (2)
#define VFIO_REGION_TYPE_MIGRATION_DEPRECATED (3)

/* Of PCI vendor 8086. */
#define VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION (1)
#define VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG (2)
#define VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG (3)

/* Of PCI vendors 10de and 1014; obsolete. */
#define VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM (1)
#define VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD (1)

/* Of VFIO_REGION_TYPE_GFX. */
#define VFIO_REGION_SUBTYPE_GFX_EDID (1)

/**
 * Start of an EDID region: the virtual monitor. The client takes the link down, writes the new EDID
 * and its size, and takes the link up.
 */
struct vfio_region_gfx_edid {
    __u32 edid_offset;   /**< [out] where in the region the EDID lies */
    __u32 edid_max_size; /**< [out] */
    __u32 edid_size;     /**< [inout] */
    __u32 max_xres;      /**< [out] pixels; 0: any */
    __u32 max_yres;      /**< [out] pixels; 0: any */
    __u32 link_state;    /**< [inout] one of */
#define VFIO_DEVICE_GFX_LINK_STATE_UP 1
#define VFIO_DEVICE_GFX_LINK_STATE_DOWN 2
};

/* Of VFIO_REGION_TYPE_CCW. */
#define VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD (1)
#define VFIO_REGION_SUBTYPE_CCW_SCHIB (2)
#define VFIO_REGION_SUBTYPE_CCW_CRW (3)

/* Of VFIO_REGION_TYPE_MIGRATION_DEPRECATED. */
#define VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED (1)

/** Start of a region of the first migration protocol, which no kernel speaks any more. */
struct vfio_device_migration_info {
    __u32 device_state;
#define VFIO_DEVICE_STATE_V1_STOP (0)
#define VFIO_DEVICE_STATE_V1_RUNNING (1 << 0)
#define VFIO_DEVICE_STATE_V1_SAVING (1 << 1)
#define VFIO_DEVICE_STATE_V1_RESUMING (1 << 2)
#define VFIO_DEVICE_STATE_MASK \
    (VFIO_DEVICE_STATE_V1_RUNNING | VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING)
/** Resuming goes with neither of the other bits. */
#define VFIO_DEVICE_STATE_VALID(state) \
    (!((state) & VFIO_DEVICE_STATE_V1_RESUMING) || \
     ((state) & VFIO_DEVICE_STATE_MASK) == VFIO_DEVICE_STATE_V1_RESUMING)
/** Saving and resuming at once stands for an error. */
#define VFIO_DEVICE_STATE_IS_ERROR(state) \
    (((state) & VFIO_DEVICE_STATE_MASK) == \
     (VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING))
#define VFIO_DEVICE_STATE_SET_ERROR(state) \
    (((state) & ~VFIO_DEVICE_STATE_MASK) | \
     (VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING))
    __u32 reserved;
    __aligned_u64 pending_bytes;
    __aligned_u64 data_offset;
    __aligned_u64 data_size;
};

/** Obsolete. */
struct vfio_region_info_cap_nvlink2_ssatgt {
    struct vfio_info_cap_header header;
    __aligned_u64 tgt;
};

/** Obsolete. */
struct vfio_region_info_cap_nvlink2_lnkspd {
    struct vfio_info_cap_header header;
    __u32 link_speed;
    __u32 __pad;
};

/** Describes an interrupt index, which may hold several interrupts (MSI vectors). */
struct vfio_irq_info {
    __u32 argsz;
    __u32 flags;                          /**< [out] */
#define VFIO_IRQ_INFO_EVENTFD (1 << 0)    /**< can signal eventfds */
#define VFIO_IRQ_INFO_MASKABLE (1 << 1)   /**< MASK and UNMASK work */
#define VFIO_IRQ_INFO_AUTOMASKED (1 << 2) /**< masks itself at every signal: a level interrupt */
#define VFIO_IRQ_INFO_NORESIZE (1 << 3)   /**< more vectors only after disabling all */
    __u32 index;                          /**< [in] */
    __u32 count;                          /**< [out] interrupts of this index; 0: not there */
};
#define VFIO_DEVICE_GET_IRQ_INFO _IO(VFIO_TYPE, VFIO_BASE + 9)

/**
 * Does one action to the interrupts start to start + count - 1 of an index, each with one element
 * of data. Exactly one DATA and one ACTION flag are given.
 *   TRIGGER | EVENTFD  signals the eventfd from now on; -1 ends that. The first enables the index.
 *   TRIGGER | NONE     raises the interrupts, as a test; with count 0 disables the index.
 *   TRIGGER | BOOL     raises those whose element is not 0.
 *   MASK, UNMASK       at once, or whenever the eventfd is signalled.
 */
struct vfio_irq_set {
    __u32 argsz;                           /**< includes data */
    __u32 flags;                           /**< [in] */
#define VFIO_IRQ_SET_DATA_NONE (1 << 0)    /**< no data: all of them */
#define VFIO_IRQ_SET_DATA_BOOL (1 << 1)    /**< a byte each */
#define VFIO_IRQ_SET_DATA_EVENTFD (1 << 2) /**< an __s32 each */
#define VFIO_IRQ_SET_ACTION_MASK (1 << 3)
#define VFIO_IRQ_SET_ACTION_UNMASK (1 << 4)
#define VFIO_IRQ_SET_ACTION_TRIGGER (1 << 5)
    __u32 index; /**< [in] */
    __u32 start; /**< [in] */
    __u32 count; /**< [in] */
    __u8 data[]; /**< [in] */
};
#define VFIO_DEVICE_SET_IRQS _IO(VFIO_TYPE, VFIO_BASE + 10)

#define VFIO_IRQ_SET_DATA_TYPE_MASK \
    (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD)
#define VFIO_IRQ_SET_ACTION_TYPE_MASK \
    (VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER)

/** Resets the device, if VFIO_DEVICE_FLAGS_RESET says that it can be done. */
#define VFIO_DEVICE_RESET _IO(VFIO_TYPE, VFIO_BASE + 11)

/** Region indices of a PCI device; regions from 9 on say by a capability what they are. */
enum {
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_BAR1_REGION_INDEX,
    VFIO_PCI_BAR2_REGION_INDEX,
    VFIO_PCI_BAR3_REGION_INDEX,
    VFIO_PCI_BAR4_REGION_INDEX,
    VFIO_PCI_BAR5_REGION_INDEX,
    VFIO_PCI_ROM_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_VGA_REGION_INDEX, /**< ports 3b0 and 3c0, memory a0000, at these offsets */
    VFIO_PCI_NUM_REGIONS = 9,
};

/** Interrupt indices of a PCI device. */
enum {
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX, /**< the device reported an uncorrectable error */
    VFIO_PCI_REQ_IRQ_INDEX, /**< the server wants the device back */
    VFIO_PCI_NUM_IRQS,
};

/** Region indices of an s390 channel device. */
enum {
    VFIO_CCW_CONFIG_REGION_INDEX,
    VFIO_CCW_NUM_REGIONS,
};

/** Interrupt indices of an s390 channel device. */
enum {
    VFIO_CCW_IO_IRQ_INDEX,
    VFIO_CCW_CRW_IRQ_INDEX,
    VFIO_CCW_REQ_IRQ_INDEX,
    VFIO_CCW_NUM_IRQS,
};

/** Interrupt indices of an s390 adjunct processor. */
enum {
    VFIO_AP_REQ_IRQ_INDEX,
    VFIO_AP_CFG_CHG_IRQ_INDEX,
    VFIO_AP_NUM_IRQS,
};

/** A device that a hot reset would reset too. */
struct vfio_pci_dependent_device {
    union {
        __u32 group_id;             /**< its group, if the asking device was opened through one */
        __u32 devid;                /**< its id on the asking device's iommufd, or one of */
#define VFIO_PCI_DEVID_OWNED 0      /**< no id, but the same owner */
#define VFIO_PCI_DEVID_NOT_OWNED -1 /**< somebody else's: the reset is refused */
    };
    __u16 segment;
    __u8 bus;
    __u8 devfn; /**< device << 3 | function */
};

/** Lists those devices. ENOSPC: too small, count tells how many there are. ENODEV: no hot reset. */
struct vfio_pci_hot_reset_info {
    __u32 argsz;
    __u32 flags;                                      /**< [out] */
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID (1 << 0)       /**< devices have devid, not group_id */
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED (1 << 1) /**< all have the asking device's owner */
    __u32 count;                                      /**< [out] */
    struct vfio_pci_dependent_device devices[];       /**< [out] */
};
#define VFIO_DEVICE_GET_PCI_HOT_RESET_INFO _IO(VFIO_TYPE, VFIO_BASE + 12)

/**
 * Resets the bus or slot. The caller must own all devices of the list: through groups it gives
 * their fds, through iommufd it gives none.
 */
struct vfio_pci_hot_reset {
    __u32 argsz;
    __u32 flags;
    __u32 count;       /**< [in] elements of group_fds */
    __s32 group_fds[]; /**< [in] */
};
#define VFIO_DEVICE_PCI_HOT_RESET _IO(VFIO_TYPE, VFIO_BASE + 13)

/** Describes what a mediated graphics device shows. All sizes 0: nothing. */
struct vfio_device_gfx_plane_info {
    __u32 argsz;
    __u32 flags; /**< [in] PROBE with one kind: is it there? */
#define VFIO_GFX_PLANE_TYPE_PROBE (1 << 0)
#define VFIO_GFX_PLANE_TYPE_DMABUF (1 << 1) /**< as dma-buf */
#define VFIO_GFX_PLANE_TYPE_REGION (1 << 2) /**< in a region */
    __u32 drm_plane_type;                   /**< [in] primary or cursor plane, as DRM counts */
    __u32 drm_format;                       /**< [out] fourcc */
    __aligned_u64 drm_format_mod;           /**< [out] DRM format modifier */
    __u32 width;                            /**< [out] pixels */
    __u32 height;                           /**< [out] pixels */
    __u32 stride;                           /**< [out] bytes from line to line */
    __u32 size;                             /**< [out] bytes, whole pages */
    __u32 x_pos;                            /**< [out] of a cursor */
    __u32 y_pos;                            /**< [out] of a cursor */
    __u32 x_hot;                            /**< [out] of a cursor; all ones: unknown */
    __u32 y_hot;                            /**< [out] of a cursor; all ones: unknown */
    union {
        __u32 region_index; /**< [out] */
        __u32 dmabuf_id;    /**< [out] for VFIO_DEVICE_GET_GFX_DMABUF */
    };
    __u32 reserved;
};
#define VFIO_DEVICE_QUERY_GFX_PLANE _IO(VFIO_TYPE, VFIO_BASE + 14)

/** Argument: address of a __u32, a dmabuf_id. Returns a new fd. */
#define VFIO_DEVICE_GET_GFX_DMABUF _IO(VFIO_TYPE, VFIO_BASE + 15)

/** Makes a signalled eventfd write data to the device. PCI: in BARs, outside the MSI-X table. */
struct vfio_device_ioeventfd {
    __u32 argsz;
    __u32 flags; /**< [in] width, exactly one */
#define VFIO_DEVICE_IOEVENTFD_8 (1 << 0)
#define VFIO_DEVICE_IOEVENTFD_16 (1 << 1)
#define VFIO_DEVICE_IOEVENTFD_32 (1 << 2)
#define VFIO_DEVICE_IOEVENTFD_64 (1 << 3)
#define VFIO_DEVICE_IOEVENTFD_SIZE_MASK (0xf)
    __aligned_u64 offset; /**< [in] in the device file */
    __aligned_u64 data;   /**< [in] */
    __s32 fd;             /**< [in] the eventfd; -1: no longer */
    __u32 reserved;
};
#define VFIO_DEVICE_IOEVENTFD _IO(VFIO_TYPE, VFIO_BASE + 16)

/*
 * Device: its iommufd
 */

/**
 * Ties a device, opened by its own character device, to an iommufd. Nothing else works before; the
 * tie ends when the device file is closed. EINVAL: it is tied already.
 */
struct vfio_device_bind_iommufd {
    __u32 argsz;
    __u32 flags;                             /**< [in] */
#define VFIO_DEVICE_BIND_FLAG_TOKEN (1 << 0) /**< token_uuid_ptr is valid */
    __s32 iommufd;                           /**< [in] fd */
    __u32 out_devid;                         /**< [out] the device's object id there */
    __aligned_u64 token_uuid_ptr;            /**< [in] address of the 16-byte VF token */
};
#define VFIO_DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)

/**
 * Gives the device, or one PASID of it, a page table. What it had before is replaced, without a gap
 * if the hardware can. pt_id is an IOAS or a HWPT; for an IOAS the HWPT that was found or made for
 * it is written back.
 */
struct vfio_device_attach_iommufd_pt {
    __u32 argsz;
    __u32 flags;                          /**< [in] */
#define VFIO_DEVICE_ATTACH_PASID (1 << 0) /**< pasid is valid */
    __u32 pt_id;                          /**< [inout] */
    __u32 pasid;                          /**< [in] */
};
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)

/** Takes it away; DMA is blocked after. */
struct vfio_device_detach_iommufd_pt {
    __u32 argsz;
    __u32 flags;                          /**< [in] */
#define VFIO_DEVICE_DETACH_PASID (1 << 0) /**< pasid is valid */
    __u32 pasid;                          /**< [in] */
};
#define VFIO_DEVICE_DETACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 20)

/*
 * Device: features
 */

/**
 * Reads or changes a feature, or with PROBE asks whether that (both, if both are set) can be done.
 * ENOTTY: the device does not have the feature.
 */
struct vfio_device_feature {
    __u32 argsz;                          /**< includes data */
    __u32 flags;                          /**< [in] */
#define VFIO_DEVICE_FEATURE_MASK (0xffff) /**< which: VFIO_DEVICE_FEATURE_* below */
#define VFIO_DEVICE_FEATURE_GET (1 << 16)
#define VFIO_DEVICE_FEATURE_SET (1 << 17)
#define VFIO_DEVICE_FEATURE_PROBE (1 << 18) /**< needs no data */
    __u8 data[];                            /**< [inout] the feature's struct */
};
#define VFIO_DEVICE_FEATURE _IO(VFIO_TYPE, VFIO_BASE + 17)

/** SET, 16 bytes: the secret that drivers of this function's virtual functions must know. */
#define VFIO_DEVICE_FEATURE_PCI_VF_TOKEN (0)

/** GET: which migration states there are besides RUNNING and ERROR. */
struct vfio_device_feature_migration {
    __aligned_u64 flags;                  /**< [out] */
#define VFIO_MIGRATION_STOP_COPY (1 << 0) /**< STOP, STOP_COPY, RESUMING; always set */
#define VFIO_MIGRATION_P2P (1 << 1)       /**< RUNNING_P2P */
#define VFIO_MIGRATION_PRE_COPY (1 << 2)  /**< PRE_COPY, and with P2P PRE_COPY_P2P */
};
#define VFIO_DEVICE_FEATURE_MIGRATION 1

/**
 * GET: the state, with data_fd -1. SET: go there, over other states if there is no direct way.
 * After a failure the device may stand anywhere on the way: ask, or reset.
 */
struct vfio_device_feature_mig_state {
    __u32 device_state; /**< [inout] enum vfio_device_mig_state */
    __s32 data_fd;      /**< [out] stream of the device's state if one begins, else -1 */
};
#define VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE 2

/**
 * States of a device that migrates. Direct ways, in both directions unless said:
 *   RUNNING  RUNNING_P2P  STOP;  RUNNING  PRE_COPY;  RUNNING_P2P  PRE_COPY_P2P;
 *   PRE_COPY  PRE_COPY_P2P;  STOP  STOP_COPY;  STOP  RESUMING;  PRE_COPY_P2P to STOP_COPY only.
 * Without P2P those states are passed over. Entering PRE_COPY, PRE_COPY_P2P or STOP_COPY from
 * outside these three begins the outgoing stream, leaving them ends it; RESUMING has the incoming
 * one. ERROR is left by VFIO_DEVICE_RESET only.
 */
enum vfio_device_mig_state {
    VFIO_DEVICE_STATE_ERROR = 0,
    VFIO_DEVICE_STATE_STOP = 1, /**< no DMA, no interrupts, nothing changes */
    VFIO_DEVICE_STATE_RUNNING = 2,
    VFIO_DEVICE_STATE_STOP_COPY = 3,    /**< as STOP; the state can be read to its end */
    VFIO_DEVICE_STATE_RESUMING = 4,     /**< as STOP; the state can be written */
    VFIO_DEVICE_STATE_RUNNING_P2P = 5,  /**< starts no DMA to other devices, accepts theirs */
    VFIO_DEVICE_STATE_PRE_COPY = 6,     /**< as RUNNING; early state can be read */
    VFIO_DEVICE_STATE_PRE_COPY_P2P = 7, /**< as RUNNING_P2P; early state can be read */
    VFIO_DEVICE_STATE_NR,
};

/**
 * On the outgoing stream, in PRE_COPY states only (else EINVAL): how much is left. Numbers are
 * estimates; STOP_COPY is best entered when initial_bytes is 0. When both are 0, reading the stream
 * is ENOMSG and poll waits for more.
 */
struct vfio_precopy_info {
    __u32 argsz;
    __u32 flags;                          /**< [out] valid only with MIG_PRECOPY_INFOv2 */
#define VFIO_PRECOPY_INFO_REINIT (1 << 0) /**< the device started over with new initial data */
    __aligned_u64 initial_bytes;          /**< [out] of what must be sent first */
    __aligned_u64 dirty_bytes;            /**< [out] changed since it was sent */
};
#define VFIO_MIG_GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)

/** SET, no data: the device may sleep; any access wakes it. Mapped regions are out of use. */
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY 3

/** SET: as LOW_POWER_ENTRY, but the first access ends it, and the eventfd tells. */
struct vfio_device_low_power_entry_with_wakeup {
    __s32 wakeup_eventfd; /**< [in] */
    __u32 reserved;
};
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP 4

/** SET, no data: the device may no longer sleep. */
#define VFIO_DEVICE_FEATURE_LOW_POWER_EXIT 5

/** SET: the device records its writes from now on. Once at a time. */
struct vfio_device_feature_dma_logging_control {
    __aligned_u64 page_size; /**< [inout] bytes per record wanted; then what it is */
    __u32 num_ranges;        /**< [in] elements of the array; a page full always works */
    __u32 __reserved;
    __aligned_u64 ranges; /**< [in] address of vfio_device_feature_dma_logging_range */
};

/** IOVAs to watch. */
struct vfio_device_feature_dma_logging_range {
    __aligned_u64 iova;
    __aligned_u64 length;
};
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_START 6

/** SET, no data: no more records. */
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP 7

/**
 * GET: reports and clears what was written. Bit n of the bitmap stands for the page_size bytes from
 * iova + n * page_size. Bits are set, never cleared. After an error everything counts as written.
 */
struct vfio_device_feature_dma_logging_report {
    __aligned_u64 iova;      /**< [in] */
    __aligned_u64 length;    /**< [in] */
    __aligned_u64 page_size; /**< [in] bytes per bit, a power of two */
    __aligned_u64 bitmap;    /**< [in] address of the 64-bit words */
};
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT 8

/** GET, in any state: estimated length of the outgoing stream in STOP_COPY. */
struct vfio_device_feature_mig_data_size {
    __aligned_u64 stop_copy_length; /**< [out] bytes */
};
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9

/** SET: whether the device may do DMA; for buses without such a bit (CDX). */
struct vfio_device_feature_bus_master {
    __u32 op; /**< [in] one of */
#define VFIO_DEVICE_FEATURE_CLEAR_MASTER 0
#define VFIO_DEVICE_FEATURE_SET_MASTER 1
};
#define VFIO_DEVICE_FEATURE_BUS_MASTER 10

/** GET: returns the fd of a new dma-buf over parts of a region. */
#define VFIO_DEVICE_FEATURE_DMA_BUF 11

/** A part of a region. */
struct vfio_region_dma_range {
    __u64 offset; /**< in the region */
    __u64 length;
};

/** Argument of DMA_BUF. */
struct vfio_device_feature_dma_buf {
    __u32 region_index; /**< [in] */
    __u32 open_flags;   /**< [in] as of open(2), for the new fd */
    __u32 flags;
    __u32 nr_ranges; /**< [in] elements of dma_ranges */
    struct vfio_region_dma_range dma_ranges[];
};

/** SET, no data: vfio_precopy_info.flags is written. */
#define VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 12

/**
 * GET: error information of an s390 PCI device, as long as the CAP_ZPCI_BASE capability says.
 * ENOMSG: no error is pending.
 */
struct vfio_device_feature_zpci_err {
    __aligned_u64 data; /**< [in] address of the buffer */
};
#define VFIO_DEVICE_FEATURE_ZPCI_ERROR 13

/*
 * Container: type1
 */

/** Describes the IOMMU. */
struct vfio_iommu_type1_info {
    __u32 argsz;
    __u32 flags;                         /**< [out] */
#define VFIO_IOMMU_INFO_PGSIZES (1 << 0) /**< iova_pgsizes is valid */
#define VFIO_IOMMU_INFO_CAPS (1 << 1)    /**< there is a capability chain */
    __aligned_u64 iova_pgsizes;          /**< [out] bit n: pages of 2^n bytes */
    __u32 cap_offset;                    /**< [out] */
    __u32 pad;
};

/* Capabilities of VFIO_IOMMU_GET_INFO. */
#define VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE 1
#define VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION 2
#define VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL 3

struct vfio_iova_range {
    __u64 start;
    __u64 end; /**< the last IOVA, included */
};

/** Where mappings may lie. */
struct vfio_iommu_type1_info_cap_iova_range {
    struct vfio_info_cap_header header;
    __u32 nr_iovas; /**< elements of iova_ranges */
    __u32 reserved;
    struct vfio_iova_range iova_ranges[];
};

/** VFIO_IOMMU_DIRTY_PAGES works. */
struct vfio_iommu_type1_info_cap_migration {
    struct vfio_info_cap_header header;
    __u32 flags;
    __u64 pgsize_bitmap;         /**< bit n: bitmaps of 2^n-byte pages */
    __u64 max_dirty_bitmap_size; /**< bytes */
};

/** How many more mappings are allowed. */
struct vfio_iommu_type1_info_dma_avail {
    struct vfio_info_cap_header header;
    __u32 avail;
};
#define VFIO_IOMMU_GET_INFO _IO(VFIO_TYPE, VFIO_BASE + 12)

/**
 * Gives devices access to memory of the calling process. With FLAG_VADDR alone it tells the new
 * address of memory whose old one was given up by an unmap with FLAG_VADDR: same iova, same size.
 */
struct vfio_iommu_type1_dma_map {
    __u32 argsz;
    __u32 flags;                         /**< [in] */
#define VFIO_DMA_MAP_FLAG_READ (1 << 0)  /**< devices may read */
#define VFIO_DMA_MAP_FLAG_WRITE (1 << 1) /**< devices may write */
#define VFIO_DMA_MAP_FLAG_VADDR (1 << 2) /**< see above */
    __u64 vaddr;                         /**< [in] address of the caller */
    __u64 iova;                          /**< [in] */
    __u64 size;                          /**< [in] */
};
#define VFIO_IOMMU_MAP_DMA _IO(VFIO_TYPE, VFIO_BASE + 13)

/** A bitmap of pages, to be zeroed by the caller. */
struct vfio_bitmap {
    __u64 pgsize; /**< [in] bytes per bit */
    __u64 size;   /**< [in] bytes of the bitmap */
    __u64 *data;  /**< [in] address of the words */
};

/** Removes every mapping inside a range. */
struct vfio_iommu_type1_dma_unmap {
    __u32 argsz;
    __u32 flags;                                      /**< [in] */
#define VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP (1 << 0) /**< data is a vfio_bitmap to fill first */
#define VFIO_DMA_UNMAP_FLAG_ALL (1 << 1)              /**< all mappings; iova and size are 0 */
#define VFIO_DMA_UNMAP_FLAG_VADDR (1 << 2)            /**< keep the mapping, give up vaddr */
    __u64 iova;                                       /**< [in] */
    __u64 size;                                       /**< [inout] then bytes unmapped */
    __u8 data[];
};
#define VFIO_IOMMU_UNMAP_DMA _IO(VFIO_TYPE, VFIO_BASE + 14)

/* No argument; for SPAPR containers, which start disabled. */
#define VFIO_IOMMU_ENABLE _IO(VFIO_TYPE, VFIO_BASE + 15)
#define VFIO_IOMMU_DISABLE _IO(VFIO_TYPE, VFIO_BASE + 16)

/** Records which pages devices write. Exactly one flag is given. */
struct vfio_iommu_type1_dirty_bitmap {
    __u32 argsz;
    __u32 flags; /**< [in] */
#define VFIO_IOMMU_DIRTY_PAGES_FLAG_START (1 << 0)
#define VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP (1 << 1)
#define VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP (1 << 2) /**< data is the struct below */
    __u8 data[];
};

/** Range and bitmap of GET_BITMAP. Page size: the smallest there is. */
struct vfio_iommu_type1_dirty_bitmap_get {
    __u64 iova;                /**< [in] */
    __u64 size;                /**< [in] bytes of the range */
    struct vfio_bitmap bitmap; /**< [in] */
};
#define VFIO_IOMMU_DIRTY_PAGES _IO(VFIO_TYPE, VFIO_BASE + 17)

/*
 * Container: POWER (SPAPR TCE), and error handling there (EEH). For completeness of the header.
 */

/** Windows that can be made besides the fixed one. */
struct vfio_iommu_spapr_tce_ddw_info {
    __u64 pgsizes; /**< bit n: pages of 2^n bytes */
    __u32 max_dynamic_windows_supported;
    __u32 levels; /**< most levels of a table */
};

/** The window there always is, in bus addresses. */
struct vfio_iommu_spapr_tce_info {
    __u32 argsz;
    __u32 flags;                           /**< [out] */
#define VFIO_IOMMU_SPAPR_INFO_DDW (1 << 0) /**< ddw is valid */
    __u32 dma32_window_start;              /**< [out] */
    __u32 dma32_window_size;               /**< [out] */
    struct vfio_iommu_spapr_tce_ddw_info ddw;
};
#define VFIO_IOMMU_SPAPR_TCE_GET_INFO _IO(VFIO_TYPE, VFIO_BASE + 12)

/** An error to inject. */
struct vfio_eeh_pe_err {
    __u32 type;
    __u32 func;
    __u64 addr;
    __u64 mask;
};

/** Does one of the operations below to a partitionable endpoint. */
struct vfio_eeh_pe_op {
    __u32 argsz;
    __u32 flags;
    __u32 op; /**< [in] */
    union {
        struct vfio_eeh_pe_err err; /**< [in] for INJECT_ERR */
    };
};

#define VFIO_EEH_PE_DISABLE 0
#define VFIO_EEH_PE_ENABLE 1
#define VFIO_EEH_PE_UNFREEZE_IO 2
#define VFIO_EEH_PE_UNFREEZE_DMA 3
#define VFIO_EEH_PE_GET_STATE 4 /**< returns one of the states */
#define VFIO_EEH_PE_RESET_DEACTIVATE 5
#define VFIO_EEH_PE_RESET_HOT 6
#define VFIO_EEH_PE_RESET_FUNDAMENTAL 7
#define VFIO_EEH_PE_CONFIGURE 8
#define VFIO_EEH_PE_INJECT_ERR 9

#define VFIO_EEH_PE_STATE_NORMAL 0
#define VFIO_EEH_PE_STATE_RESET 1
#define VFIO_EEH_PE_STATE_STOPPED 2
#define VFIO_EEH_PE_STATE_STOPPED_DMA 4
#define VFIO_EEH_PE_STATE_UNAVAIL 5
#define VFIO_EEH_PE_OP _IO(VFIO_TYPE, VFIO_BASE + 21)

/** Pins memory once, for mappings made and undone often. */
struct vfio_iommu_spapr_register_memory {
    __u32 argsz;
    __u32 flags;
    __u64 vaddr; /**< [in] address of the caller */
    __u64 size;  /**< [in] */
};
#define VFIO_IOMMU_SPAPR_REGISTER_MEMORY _IO(VFIO_TYPE, VFIO_BASE + 17)
#define VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY _IO(VFIO_TYPE, VFIO_BASE + 18)

/** Opens another window. */
struct vfio_iommu_spapr_tce_create {
    __u32 argsz;
    __u32 flags;
    __u32 page_shift; /**< [in] */
    __u32 __resv1;
    __u64 window_size; /**< [in] */
    __u32 levels;      /**< [in] */
    __u32 __resv2;
    __u64 start_addr; /**< [out] where it is, a bus address */
};
#define VFIO_IOMMU_SPAPR_TCE_CREATE _IO(VFIO_TYPE, VFIO_BASE + 19)

/** Closes it. */
struct vfio_iommu_spapr_tce_remove {
    __u32 argsz;
    __u32 flags;
    __u64 start_addr; /**< [in] */
};
#define VFIO_IOMMU_SPAPR_TCE_REMOVE _IO(VFIO_TYPE, VFIO_BASE + 20)

#endif /* VFIO_H */
