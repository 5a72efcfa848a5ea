#pragma once
#include "../../../uapi/linux/iommufd.h"
