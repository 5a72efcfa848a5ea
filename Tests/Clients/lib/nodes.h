/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device nodes that a client opens. $IOMMUFD names another node than /dev/iommu, and
 * $VFIO_DEVICES another prefix of the VFIO devices than /dev/vfio/devices/vfio (beside a node whose
 * name has "-sim" in it: /dev/vfio-sim/devices/vfio).
 */
#ifndef NODES_H
#define NODES_H

/** Returns the path of the iommufd. */
const char *iommufd_path(void);

/** Opens the iommufd. Exits with status 2 when it cannot be opened. */
int open_iommufd(void);

/** Opens VFIO device `index`. Returns -1 and errno when it cannot be opened. */
int open_vfio_device(int index);

/** Opens VFIO device `index`. Exits with status 2 when it cannot be opened. */
int must_open_vfio_device(int index);

#endif /* NODES_H */
