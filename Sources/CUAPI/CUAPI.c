/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of the simulator's own numbers and structs. scripts/dev/check/uapi compares the other headers
 * with the kernel's.
 */
#include "CUAPI.h"

#include <stddef.h>

_Static_assert(IOMMUFD_SIM_FAULT_LOG_ALLOC == 0xc0103be0, "_IOWR, 16 bytes, ';', number 0xe0");
_Static_assert(sizeof(struct iommufd_sim_fault_log_alloc) == 16, "no padding");

_Static_assert(sizeof(struct iommufd_sim_fault) == 64, "no padding");
_Static_assert(_Alignof(struct iommufd_sim_fault) == 8, "the same for 32-bit clients");
_Static_assert(offsetof(struct iommufd_sim_fault, iova) == 24, "six words before it");
_Static_assert(offsetof(struct iommufd_sim_fault, raw) == 32, "the second half");

/* No number of the simulator may be a number of the kernel, of its selftest or of VFIO. */
_Static_assert(IOMMUFD_SIM_CMD_BASE > IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA, "iommufd");
_Static_assert(IOMMUFD_SIM_CMD_BASE > (IOMMU_TEST_CMD & 0xff), "selftest");
_Static_assert(IOMMUFD_SIM_CMD_BASE > (VFIO_EEH_PE_OP & 0xff), "VFIO");
