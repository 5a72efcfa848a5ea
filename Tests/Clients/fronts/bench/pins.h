/* SPDX-License-Identifier: Apache-2.0 */
/* Pins of private memory that the benchmarks time. */
#ifndef PINS_H
#define PINS_H

#include <stddef.h>

enum { PINNED_SIZE = 16 << 20 };

/**
 * Prepares pins of a device's memory. Exits when the node of a device cannot be used.
 * `iommufd` is the descriptor of /dev/iommu, or -1 for pins by io_uring.
 */
void prepare_pins(int iommufd);

/** Maps `size` bytes for the device and unmaps them; or has io_uring pin and unpin them. */
void pin_and_unpin(int iommufd, size_t size);

#endif /* PINS_H */
