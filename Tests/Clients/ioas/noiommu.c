/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_NOIOMMU_GET_PA returns the physical address of an IOVA, for devices without an IOMMU. A
 * kernel that is built without that support, as the recorded one is, fails with EOPNOTSUPP for all
 * arguments.
 */
#include "transcript/ioas.h"

int main(void)
{
    struct iommu_ioas_noiommu_get_pa cmd = {.size = sizeof(cmd), .length = PAGE};
    uint32_t ioas;

    begin("noiommu");
    run(&IOAS_NOIOMMU_GET_PA, &cmd);
    ioas = ioas_alloc();
    map(ioas, 0, PAGE, FIXED | R, 0x10000);
    cmd.ioas_id = ioas;
    cmd.iova = 0x10000;
    run(&IOAS_NOIOMMU_GET_PA, &cmd);
    cmd.length = 0;
    run(&IOAS_NOIOMMU_GET_PA, &cmd);
    cmd.length = PAGE;
    cmd.flags = 1;
    run(&IOAS_NOIOMMU_GET_PA, &cmd);
    cmd.flags = 0;
    cmd.__reserved = 1;
    run(&IOAS_NOIOMMU_GET_PA, &cmd);
    cmd.__reserved = 0;
    cmd.iova = UINT64_MAX;
    run(&IOAS_NOIOMMU_GET_PA, &cmd);
    return 0;
}
