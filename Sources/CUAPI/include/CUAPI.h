/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The headers of uapi/ as a module for Swift. They are included where they stand, by relative path:
 * a header search path would not reach the Swift modules that import this one.
 */
#ifndef CUAPI_H
#define CUAPI_H

#include "../../../uapi/linux/iommufd.h"
#include "../../../uapi/linux/vfio.h"

#include "../../../uapi/iommufd_sim.h"
#include "../../../uapi/iommufd_test.h"

#endif
