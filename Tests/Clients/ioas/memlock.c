/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RLIMIT_MEMLOCK without a device: mapping pins no page, so no page is charged and the limit is not
 * reached. This holds for every user and for both modes of accounting.
 */
#include "transcript/pinned.h"
#include "transcript/ioas.h"

#include <sys/resource.h>

static void test_round_trip(void)
{
    void *buffer = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t ioas = ioas_alloc();

    name_region("buffer", buffer, 64 * PAGE);
    map(ioas, (uintptr_t)buffer, 64 * PAGE, FIXED | R | W, 0x10000);
    map(ioas, (uintptr_t)buffer, 64 * PAGE, FIXED | R | W, 0x100000);
    print_pinned();
    unmap(ioas, 0, UINT64_MAX);
    destroy(ioas);
    munmap(buffer, 64 * PAGE);
}

int main(void)
{
    struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};

    begin("memlock: privileged");
    if (setrlimit(RLIMIT_MEMLOCK, &limit))
        return 2;
    test_round_trip();
    option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, 0, 1);
    test_round_trip();
    section("nobody, accounting by user");
    option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, 0, 0);
    if (!geteuid() && setresuid(65534, 65534, 65534))
        return 2;
    test_round_trip();
    section("nobody may not choose");
    option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, 0, 1);
    option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_GET, 0, 0);
    return 0;
}
