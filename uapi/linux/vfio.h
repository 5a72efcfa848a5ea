/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd-sim: the ioctl interface of VFIO devices, containers and groups, level Linux 7.3.
 *
 * Names, numbers and layouts are the kernel's. A program that is compiled with this header is the
 * same, byte for byte, as one that is compiled with the kernel's header; scripts/dev/check/uapi checks
 * that. The include guard is the one of the kernel's header, so of the two headers the one that is
 * included first in a translation unit is used. Everything in the kernel's header is here,
 * including what the simulator does not support, because clients such as QEMU name it.
 *
 * Conventions
 *
 *   A struct starts with argsz, the size of the caller's buffer in bytes, and flags. An argsz that
 *   is smaller than the oldest form of the struct is EINVAL. An unknown flag is EINVAL.
 *
 *   A request whose name contains INFO writes argsz back: the size that a complete answer needs. If
 *   a capability chain exists and the buffer holds it, the CAPS flag is set and cap_offset is the
 *   offset of the first capability. If the buffer is too small, cap_offset is 0. That is no error:
 *   the caller repeats the request with a buffer of argsz bytes.
 *
 *   The caller sets [in] members, the server sets [out] members, and [inout] members are set by the
 *   caller and then by the server. Offsets and sizes are in bytes. Reserved members are 0. Requests
 *   on different kinds of files can have the same number.
 */
#ifndef VFIO_H
#define VFIO_H

#include <linux/ioctl.h>
#include <linux/stddef.h>
#include <linux/types.h>

/** The answer to VFIO_GET_API_VERSION. */
#define VFIO_API_VERSION 0

/* Arguments of VFIO_CHECK_EXTENSION. Those named *_IOMMU, except DMA_CC, are also arguments of
 * VFIO_SET_IOMMU. */
#define VFIO_TYPE1_IOMMU 1
#define VFIO_SPAPR_TCE_IOMMU 2
#define VFIO_TYPE1v2_IOMMU 3 /**< an unmap removes only whole mappings */
#define VFIO_DMA_CC_IOMMU 4  /**< DMA is always coherent with CPU caches */
#define VFIO_EEH 5
#define __VFIO_RESERVED_TYPE1_NESTING_IOMMU 6
#define VFIO_SPAPR_TCE_v2_IOMMU 7
#define VFIO_NOIOMMU_IOMMU 8 /**< no translation, no protection */
#define VFIO_UNMAP_ALL 9     /**< VFIO_DMA_UNMAP_FLAG_ALL is supported */
#define VFIO_UPDATE_VADDR 10 /**< the two *_FLAG_VADDR are supported */

/** The "type" byte of every request number. */
#define VFIO_TYPE (';')
/** The lowest "nr" byte. */
#define VFIO_BASE 100

/** The header of a capability in a chain. */
struct vfio_info_cap_header {
    __u16 id;      /**< which capability; each request has its own numbers */
    __u16 version; /**< version of the capability's layout */
    __u32 next;    /**< offset of the next capability in the caller's buffer; 0 in the last one */
};

/*
 * Container: /dev/vfio/vfio, or an iommufd in its place
 */

/** Returns VFIO_API_VERSION. */
#define VFIO_GET_API_VERSION _IO(VFIO_TYPE, VFIO_BASE + 0)

/** Argument: an extension from the list above. Returns 1 or more if it is supported, else 0. */
#define VFIO_CHECK_EXTENSION _IO(VFIO_TYPE, VFIO_BASE + 1)

/** Argument: the type of the container, a *_IOMMU from the list above. */
#define VFIO_SET_IOMMU _IO(VFIO_TYPE, VFIO_BASE + 2)

/*
 * Group: /dev/vfio/N
 */

struct vfio_group_status {
    __u32 argsz;
    __u32 flags;                                /**< [out] */
#define VFIO_GROUP_FLAGS_VIABLE (1 << 0)        /**< the host uses no device of it */
#define VFIO_GROUP_FLAGS_CONTAINER_SET (1 << 1) /**< it has a container */
};
#define VFIO_GROUP_GET_STATUS _IO(VFIO_TYPE, VFIO_BASE + 3)

/** Argument: address of an __s32, the fd of a container or iommufd. */
#define VFIO_GROUP_SET_CONTAINER _IO(VFIO_TYPE, VFIO_BASE + 4)

/** Removes the group from its container. EBUSY while a device of the group is open. */
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
    __u32 num_regions;                      /**< [out] region indices are below this number */
    __u32 num_irqs;                         /**< [out] interrupt indices are below this number */
    __u32 cap_offset;                       /**< [out] */
    __u32 pad;
};
#define VFIO_DEVICE_GET_INFO _IO(VFIO_TYPE, VFIO_BASE + 7)

/* The contents of the device_api attribute of a mediated device. */
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

/** Describes a region, which pread, pwrite and mmap of the device file access. */
struct vfio_region_info {
    __u32 argsz;
    __u32 flags;                             /**< [out] */
#define VFIO_REGION_INFO_FLAG_READ (1 << 0)  /**< pread works */
#define VFIO_REGION_INFO_FLAG_WRITE (1 << 1) /**< pwrite works */
#define VFIO_REGION_INFO_FLAG_MMAP (1 << 2)  /**< mmap works, perhaps for a part */
#define VFIO_REGION_INFO_FLAG_CAPS (1 << 3)  /**< there is a capability chain */
    __u32 index;                             /**< [in] */
    __u32 cap_offset;                        /**< [out] */
    __aligned_u64 size;                      /**< [out] 0: the region does not exist */
    __aligned_u64 offset;                    /**< [out] offset of the region in the device file */
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

/** The type of a region whose index has no fixed meaning. */
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

/* Subtypes of PCI vendor 8086. */
#define VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION (1)
#define VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG (2)
#define VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG (3)

/* Subtypes of PCI vendors 10de and 1014; obsolete. */
#define VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM (1)
#define VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD (1)

/* Subtypes of VFIO_REGION_TYPE_GFX. */
#define VFIO_REGION_SUBTYPE_GFX_EDID (1)

/**
 * The start of an EDID region, which describes the virtual monitor. The client sets the link state
 * to down, writes the new EDID and its size, and sets the link state to up.
 */
struct vfio_region_gfx_edid {
    __u32 edid_offset;   /**< [out] offset of the EDID in the region */
    __u32 edid_max_size; /**< [out] */
    __u32 edid_size;     /**< [inout] */
    __u32 max_xres;      /**< [out] pixels; 0: any */
    __u32 max_yres;      /**< [out] pixels; 0: any */
    __u32 link_state;    /**< [inout] one of */
#define VFIO_DEVICE_GFX_LINK_STATE_UP 1
#define VFIO_DEVICE_GFX_LINK_STATE_DOWN 2
};

/* Subtypes of VFIO_REGION_TYPE_CCW. */
#define VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD (1)
#define VFIO_REGION_SUBTYPE_CCW_SCHIB (2)
#define VFIO_REGION_SUBTYPE_CCW_CRW (3)

/* Subtypes of VFIO_REGION_TYPE_MIGRATION_DEPRECATED. */
#define VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED (1)

/** The start of a region of the first migration protocol, which no kernel supports any more. */
struct vfio_device_migration_info {
    __u32 device_state;
#define VFIO_DEVICE_STATE_V1_STOP (0)
#define VFIO_DEVICE_STATE_V1_RUNNING (1 << 0)
#define VFIO_DEVICE_STATE_V1_SAVING (1 << 1)
#define VFIO_DEVICE_STATE_V1_RESUMING (1 << 2)
#define VFIO_DEVICE_STATE_MASK \
    (VFIO_DEVICE_STATE_V1_RUNNING | VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING)
/** Resuming cannot be combined with the other bits. */
#define VFIO_DEVICE_STATE_VALID(state) \
    (!((state) & VFIO_DEVICE_STATE_V1_RESUMING) || \
     ((state) & VFIO_DEVICE_STATE_MASK) == VFIO_DEVICE_STATE_V1_RESUMING)
/** Saving together with resuming means an error. */
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
#define VFIO_IRQ_INFO_AUTOMASKED (1 << 2) /**< is masked at every signal: a level interrupt */
#define VFIO_IRQ_INFO_NORESIZE (1 << 3)   /**< more vectors only after disabling all */
    __u32 index;                          /**< [in] */
    __u32 count;                          /**< [out] interrupts of the index; 0: it is absent */
};
#define VFIO_DEVICE_GET_IRQ_INFO _IO(VFIO_TYPE, VFIO_BASE + 9)

/**
 * Does one action with the interrupts start to start + count - 1 of an index. Each interrupt has
 * one element of data. The caller gives exactly one DATA flag and one ACTION flag.
 *   TRIGGER | EVENTFD  Each interrupt signals its eventfd from now on; -1 ends that. The first such
 *                      call enables the index.
 *   TRIGGER | NONE     Raises the interrupts, as a test. With count 0, disables the index.
 *   TRIGGER | BOOL     Raises the interrupts whose element is not 0.
 *   MASK, UNMASK       At once, or with EVENTFD whenever the eventfd is signalled.
 */
struct vfio_irq_set {
    __u32 argsz;                           /**< includes data */
    __u32 flags;                           /**< [in] */
#define VFIO_IRQ_SET_DATA_NONE (1 << 0)    /**< no data: the action is for all interrupts */
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

/** Resets the device. Works when VFIO_DEVICE_FLAGS_RESET is set. */
#define VFIO_DEVICE_RESET _IO(VFIO_TYPE, VFIO_BASE + 11)

/** Region indices of a PCI device. A capability gives the type of a region from index 9 on. */
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
    VFIO_PCI_REQ_IRQ_INDEX, /**< the server asks the client to release the device */
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

/** A device that a hot reset resets. */
struct vfio_pci_dependent_device {
    union {
        __u32 group_id;             /**< its group, if the caller's device was opened through one */
        __u32 devid;                /**< its object id in the caller's iommufd, or one of */
#define VFIO_PCI_DEVID_OWNED 0      /**< it has no object id, but the same owner */
#define VFIO_PCI_DEVID_NOT_OWNED -1 /**< it has another owner: the reset is refused */
    };
    __u16 segment;
    __u8 bus;
    __u8 devfn; /**< device << 3 | function */
};

/**
 * Lists the devices that a hot reset of this device resets.
 * ENOSPC: the buffer is too small for count devices. ENODEV: the device has no hot reset.
 */
struct vfio_pci_hot_reset_info {
    __u32 argsz;
    __u32 flags;                                      /**< [out] */
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID (1 << 0)       /**< devices have devid, not group_id */
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED (1 << 1) /**< all have the same owner as this device */
    __u32 count;                                      /**< [out] */
    struct vfio_pci_dependent_device devices[];       /**< [out] */
};
#define VFIO_DEVICE_GET_PCI_HOT_RESET_INFO _IO(VFIO_TYPE, VFIO_BASE + 12)

/**
 * Resets the bus or slot. The caller must own all devices of the list. A caller that uses groups
 * gives their fds as proof; a caller that uses an iommufd gives none.
 */
struct vfio_pci_hot_reset {
    __u32 argsz;
    __u32 flags;
    __u32 count;       /**< [in] elements of group_fds */
    __s32 group_fds[]; /**< [in] */
};
#define VFIO_DEVICE_PCI_HOT_RESET _IO(VFIO_TYPE, VFIO_BASE + 13)

/** Describes the picture of a mediated graphics device. All sizes are 0 when it has none. */
struct vfio_device_gfx_plane_info {
    __u32 argsz;
    __u32 flags; /**< [in] PROBE with one type: is the type supported? */
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

/**
 * Lets the signals of an eventfd write data to the device. On a PCI device, offset is in a BAR and
 * outside the MSI-X table.
 */
struct vfio_device_ioeventfd {
    __u32 argsz;
    __u32 flags; /**< [in] the width in bits; exactly one flag */
#define VFIO_DEVICE_IOEVENTFD_8 (1 << 0)
#define VFIO_DEVICE_IOEVENTFD_16 (1 << 1)
#define VFIO_DEVICE_IOEVENTFD_32 (1 << 2)
#define VFIO_DEVICE_IOEVENTFD_64 (1 << 3)
#define VFIO_DEVICE_IOEVENTFD_SIZE_MASK (0xf)
    __aligned_u64 offset; /**< [in] in the device file */
    __aligned_u64 data;   /**< [in] */
    __s32 fd;             /**< [in] the eventfd; -1 ends the writes */
    __u32 reserved;
};
#define VFIO_DEVICE_IOEVENTFD _IO(VFIO_TYPE, VFIO_BASE + 16)

/*
 * Device: its iommufd
 */

/**
 * Binds a device that was opened through its own node to an iommufd. Every other request on the
 * device file is EINVAL before. The binding ends when the device file is closed.
 * EINVAL: the device is bound already.
 */
struct vfio_device_bind_iommufd {
    __u32 argsz;
    __u32 flags;                             /**< [in] */
#define VFIO_DEVICE_BIND_FLAG_TOKEN (1 << 0) /**< token_uuid_ptr is valid */
    __s32 iommufd;                           /**< [in] fd */
    __u32 out_devid;                         /**< [out] the device's object id in the iommufd */
    __aligned_u64 token_uuid_ptr;            /**< [in] address of the 16-byte VF token */
};
#define VFIO_DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)

/**
 * Attaches the device, or one PASID of it, to a page table. A former attachment is replaced,
 * without a gap if the hardware can do that. pt_id is an IOAS or a HWPT. For an IOAS, the server
 * finds or makes a HWPT of it. The id of the HWPT is written back.
 */
struct vfio_device_attach_iommufd_pt {
    __u32 argsz;
    __u32 flags;                          /**< [in] */
#define VFIO_DEVICE_ATTACH_PASID (1 << 0) /**< pasid is valid */
    __u32 pt_id;                          /**< [inout] */
    __u32 pasid;                          /**< [in] */
};
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)

/** Detaches the device, or one PASID of it, from its page table. Its DMA is blocked afterwards. */
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
 * Reads (GET) or changes (SET) a feature. With PROBE it only checks whether the operations whose
 * flags are set can be done.
 * ENOTTY: the device does not have the feature.
 */
struct vfio_device_feature {
    __u32 argsz;                          /**< includes data */
    __u32 flags;                          /**< [in] */
#define VFIO_DEVICE_FEATURE_MASK (0xffff) /**< the feature, VFIO_DEVICE_FEATURE_* below */
#define VFIO_DEVICE_FEATURE_GET (1 << 16)
#define VFIO_DEVICE_FEATURE_SET (1 << 17)
#define VFIO_DEVICE_FEATURE_PROBE (1 << 18) /**< needs no data */
    __u8 data[];                            /**< [inout] the feature's struct */
};
#define VFIO_DEVICE_FEATURE _IO(VFIO_TYPE, VFIO_BASE + 17)

/** SET, 16 bytes: the VF token. A driver of a virtual function of this device must give it. */
#define VFIO_DEVICE_FEATURE_PCI_VF_TOKEN (0)

/** GET: the migration states that the device has besides RUNNING and ERROR. */
struct vfio_device_feature_migration {
    __aligned_u64 flags;                  /**< [out] */
#define VFIO_MIGRATION_STOP_COPY (1 << 0) /**< STOP, STOP_COPY, RESUMING; always set */
#define VFIO_MIGRATION_P2P (1 << 1)       /**< RUNNING_P2P */
#define VFIO_MIGRATION_PRE_COPY (1 << 2)  /**< PRE_COPY, and with P2P PRE_COPY_P2P */
};
#define VFIO_DEVICE_FEATURE_MIGRATION 1

/**
 * GET: the state, with data_fd -1. SET: change to the state, through other states if there is no
 * direct transition. After a failure the device can be in any state of that path; GET reads it, and
 * a reset leaves it.
 */
struct vfio_device_feature_mig_state {
    __u32 device_state; /**< [inout] enum vfio_device_mig_state */
    __s32 data_fd;      /**< [out] the stream of the device's state if one begins, else -1 */
};
#define VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE 2

/**
 * States of a device that migrates. Direct transitions, in both directions unless said otherwise:
 *   RUNNING  RUNNING_P2P  STOP;  RUNNING  PRE_COPY;  RUNNING_P2P  PRE_COPY_P2P;
 *   PRE_COPY  PRE_COPY_P2P;  STOP  STOP_COPY;  STOP  RESUMING;  PRE_COPY_P2P to STOP_COPY only.
 * A device without P2P skips the P2P states. The outgoing stream begins when the device enters
 * PRE_COPY, PRE_COPY_P2P or STOP_COPY from another state than these three, and ends when it leaves
 * them. RESUMING has the incoming stream. Only VFIO_DEVICE_RESET leaves ERROR.
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
 * Estimates how much of the outgoing stream is left. The file is the stream; EINVAL unless the
 * device is in a PRE_COPY state. Enter STOP_COPY when initial_bytes is 0. When both numbers are 0,
 * reading the stream is ENOMSG, and poll waits for more data.
 */
struct vfio_precopy_info {
    __u32 argsz;
    __u32 flags;                          /**< [out] valid only with MIG_PRECOPY_INFOv2 */
#define VFIO_PRECOPY_INFO_REINIT (1 << 0) /**< the device started over with new initial data */
    __aligned_u64 initial_bytes;          /**< [out] left of the data that must be sent first */
    __aligned_u64 dirty_bytes;            /**< [out] changed since it was sent */
};
#define VFIO_MIG_GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)

/** SET, no data: the device may sleep; any access wakes it. Mapped regions cannot be accessed. */
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY 3

/** SET: as LOW_POWER_ENTRY, but the first access ends low power and signals the eventfd. */
struct vfio_device_low_power_entry_with_wakeup {
    __s32 wakeup_eventfd; /**< [in] */
    __u32 reserved;
};
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP 4

/** SET, no data: the device may no longer sleep. */
#define VFIO_DEVICE_FEATURE_LOW_POWER_EXIT 5

/** SET: starts to record the writes of the device. There is one recording at a time. */
struct vfio_device_feature_dma_logging_control {
    __aligned_u64 page_size; /**< [inout] bytes per record: wanted by the caller, then real */
    __u32 num_ranges;        /**< [in] elements of the array; a page of them always works */
    __u32 __reserved;
    __aligned_u64 ranges; /**< [in] address of vfio_device_feature_dma_logging_range */
};

/** A range of IOVAs whose writes are recorded. */
struct vfio_device_feature_dma_logging_range {
    __aligned_u64 iova;
    __aligned_u64 length;
};
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_START 6

/** SET, no data: stops to record writes. */
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP 7

/**
 * GET: reports and clears the recorded writes. Bit n of the bitmap stands for the page_size bytes
 * from iova + n * page_size. Bits are set and never cleared. After an error the whole range counts
 * as written.
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

/** SET: lets the device do DMA, or not; for buses without a bus master bit (CDX). */
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

/** SET, no data: VFIO_MIG_GET_PRECOPY_INFO writes vfio_precopy_info.flags from now on. */
#define VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 12

/**
 * GET: error information of an s390 PCI device. The CAP_ZPCI_BASE capability has its length.
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

/** The IOVA ranges that can be mapped. */
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

/** The number of mappings that can still be made. */
struct vfio_iommu_type1_info_dma_avail {
    struct vfio_info_cap_header header;
    __u32 avail;
};
#define VFIO_IOMMU_GET_INFO _IO(VFIO_TYPE, VFIO_BASE + 12)

/**
 * Maps memory of the calling process. With FLAG_VADDR alone, sets the new address of memory whose
 * mapping lost its address by an unmap with FLAG_VADDR; iova and size are those of that mapping.
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

/** A bitmap of pages. The caller fills it with zeros. */
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
#define VFIO_DMA_UNMAP_FLAG_VADDR (1 << 2)            /**< keep the mapping without its vaddr */
    __u64 iova;                                       /**< [in] */
    __u64 size;                                       /**< [inout] bytes; then bytes unmapped */
    __u8 data[];
};
#define VFIO_IOMMU_UNMAP_DMA _IO(VFIO_TYPE, VFIO_BASE + 14)

/* For SPAPR containers, which are disabled at first. No argument. */
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

/** Range and bitmap of GET_BITMAP. The page size must be the smallest that the IOMMU has. */
struct vfio_iommu_type1_dirty_bitmap_get {
    __u64 iova;                /**< [in] */
    __u64 size;                /**< [in] bytes of the range */
    struct vfio_bitmap bitmap; /**< [in] */
};
#define VFIO_IOMMU_DIRTY_PAGES _IO(VFIO_TYPE, VFIO_BASE + 17)

/*
 * Container: POWER (SPAPR TCE) and its error handling (EEH), so that the header is complete
 */

/** The windows that can be made besides the fixed window. */
struct vfio_iommu_spapr_tce_ddw_info {
    __u64 pgsizes; /**< bit n: pages of 2^n bytes */
    __u32 max_dynamic_windows_supported;
    __u32 levels; /**< the most levels that a table can have */
};

/** Describes the fixed window, in bus addresses. */
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

/** Pins memory once, for mappings that are made and removed often. */
struct vfio_iommu_spapr_register_memory {
    __u32 argsz;
    __u32 flags;
    __u64 vaddr; /**< [in] address of the caller */
    __u64 size;  /**< [in] */
};
#define VFIO_IOMMU_SPAPR_REGISTER_MEMORY _IO(VFIO_TYPE, VFIO_BASE + 17)
#define VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY _IO(VFIO_TYPE, VFIO_BASE + 18)

/** Makes a further window. */
struct vfio_iommu_spapr_tce_create {
    __u32 argsz;
    __u32 flags;
    __u32 page_shift; /**< [in] */
    __u32 __resv1;
    __u64 window_size; /**< [in] */
    __u32 levels;      /**< [in] */
    __u32 __resv2;
    __u64 start_addr; /**< [out] bus address of the window */
};
#define VFIO_IOMMU_SPAPR_TCE_CREATE _IO(VFIO_TYPE, VFIO_BASE + 19)

/** Removes a window that TCE_CREATE made. */
struct vfio_iommu_spapr_tce_remove {
    __u32 argsz;
    __u32 flags;
    __u64 start_addr; /**< [in] */
};
#define VFIO_IOMMU_SPAPR_TCE_REMOVE _IO(VFIO_TYPE, VFIO_BASE + 20)

#endif /* VFIO_H */
