/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of VFIO devices, and a function for each of them. A function issues its command on
 * `device_fd` and prints the line.
 *
 * The transcripts were recorded with other devices than the simulator's: QEMU's nec-usb-xhci behind
 * root ports, under its intel-iommu with aw-bits=48. Nothing that is printed therefore depends on
 * the kind of device: sizes and counts are printed as "some", interrupt vectors relative to their
 * number N, and of registers only the bits that every device has.
 *
 * QEMU ran with `-M q35` and
 *
 *   -device intel-iommu,intremap=off,aw-bits=48
 *   -device pcie-root-port,id=p1,bus=pcie.0,chassis=1,slot=1   and p2, p3
 *   -device nec-usb-xhci,bus=p1   -device nec-usb-xhci,bus=p2
 *   -device nec-usb-xhci,bus=p3,addr=0.0,multifunction=on   -device nec-usb-xhci,bus=p3,addr=0.1
 *
 * and the kernel with `intel_iommu=on iommufd.allow_unsafe_interrupts=1 vfio-pci.ids=1033:0194`.
 *
 * Devices 0 and 1 are alone in their IOMMU group and on their bus. Devices 2 and 3 are functions of
 * one PCI device and share the group and the bus. All have INTx, MSI, MSI-X and a 64-bit BAR 0, and
 * no BAR 4, BAR 5 or ROM.
 */
#ifndef VFIO_CLIENT_H
#define VFIO_CLIENT_H

#include "transcript/ioas.h"

#include <sys/eventfd.h>

#include <linux/vfio.h>

/** The open device that the functions use. */
extern int device_fd;
/** The offset of region 0. Region N begins N * 2^40 after it. */
extern uint64_t first_region;

/** An address where nothing is mapped. `volatile`, or the compiler warns of an invalid pointer. */
extern volatile uintptr_t unmapped_address;

/* ---- commands --------------------------------------------------------------------------- */

extern const struct command BIND;
extern const struct command ATTACH;
extern const struct command DETACH;
extern const struct command DEVICE_INFO;
extern const struct command REGION_INFO;
extern const struct command IRQ_INFO;
extern const struct command FEATURE;
extern const struct command IOEVENTFD;

struct feature {
    struct vfio_device_feature header;
    uint64_t data[2];
};

/** Opens device 0 as `device_fd`, binds it to `iommufd` and opens the eventfds. */
void begin_bound(const char *title);

long bind_with(int fd, uint32_t argsz, uint32_t flags, int iommufd_number);

long attach_pt(uint32_t argsz, uint32_t flags, uint32_t pt_id, uint32_t pasid);

long detach_pt(uint32_t argsz, uint32_t flags, uint32_t pasid);

void device_info(uint32_t argsz);

void hot_reset_info(uint32_t argsz);

void hot_reset(uint32_t argsz, uint32_t flags, uint32_t count);

/** Issues the command with its struct on a page of memory protection `protection`. */
void run_protected(const struct command *command, const void *argument, int protection);

/** Issues the command with a struct of which only the first `accessible` bytes can be accessed. */
void run_cut(const struct command *command, const void *argument, size_t accessible);

/* ---- regions and configuration space ---------------------------------------------------- */

/** Sets `first_region` from the bound device. */
void find_regions(void);

/** Returns the offset of region `index`, also when the device has no such region. */
uint64_t region_offset(unsigned index);

#define CONFIG region_offset(VFIO_PCI_CONFIG_REGION_INDEX)

/** Issues VFIO_DEVICE_IOEVENTFD. `offset` is relative to region 0. */
void io_event(uint32_t argsz, uint32_t flags, uint64_t offset, uint64_t data, int fd);

/**
 * Stores the position of the capability `id` in `*position`, and returns 1; or returns 0 when there
 * is none.
 */
unsigned find_capability(uint8_t id, unsigned *position);

/** Returns a register of `width` bytes. */
uint64_t config_word(unsigned position, unsigned width);

/** Prints the bits `mask` of the message control register of capability `id`, MSI or MSI-X. */
void print_msi_control(uint8_t id, uint16_t mask);

/* ---- interrupts ------------------------------------------------------------------------- */

enum {
    NONE = VFIO_IRQ_SET_DATA_NONE,
    BOOL = VFIO_IRQ_SET_DATA_BOOL,
    EVENT = VFIO_IRQ_SET_DATA_EVENTFD,
    MASK = VFIO_IRQ_SET_ACTION_MASK,
    UNMASK = VFIO_IRQ_SET_ACTION_UNMASK,
    TRIGGER = VFIO_IRQ_SET_ACTION_TRIGGER,
};

/**
 * The number of vectors of the index under test. set_irqs() prints numbers near it as N, N-1 and so
 * on.
 */
extern uint32_t vector_count;
extern int eventfds[3];

void open_eventfds(void);

/** Reads the eventfds and prints the counts that are not 0. */
void print_eventfd_counts(void);

/**
 * Issues VFIO_DEVICE_SET_IRQS with `elements` values of data, which follow, and prints the
 * eventfds' counts. `argsz` 0 stands for the right one.
 */
long set_irqs(uint32_t argsz, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
              int elements, ...);

/** Returns the number of vectors of `index`. Prints nothing when `quiet`. */
uint32_t irq_info(uint32_t argsz, uint32_t index, bool quiet);

#endif /* VFIO_CLIENT_H */
