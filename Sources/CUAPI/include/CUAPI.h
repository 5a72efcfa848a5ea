/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The headers of uapi/ as a module for Swift. They are included by relative path, because Swift
 * modules that import this module do not get its header search path.
 */
#ifndef CUAPI_H
#define CUAPI_H

#include "../../../uapi/linux/iommufd.h"
#include "../../../uapi/linux/vfio.h"

#include "../../../uapi/iommufd_sim.h"
#include "../../../uapi/iommufd_test.h"

#endif
