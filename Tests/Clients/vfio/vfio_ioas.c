/* SPDX-License-Identifier: Apache-2.0 */
/* VFIO_IOAS sets the compatibility IOAS, on which the VFIO type1 commands work. */
#include "transcript/ioas.h"

enum { GET = IOMMU_VFIO_IOAS_GET, SET = IOMMU_VFIO_IOAS_SET, CLEAR = IOMMU_VFIO_IOAS_CLEAR };

int main(void)
{
    struct iommu_vfio_ioas reserved = {.size = sizeof(reserved), .op = GET, .__reserved = 1};
    struct iommu_vfio_ioas *page;
    uint32_t first, second;

    begin("vfio_ioas: none yet");
    vfio_ioas(GET, 77);
    vfio_ioas(CLEAR, 77);
    vfio_ioas(SET, 1);
    vfio_ioas(SET, 0);
    vfio_ioas(3, 0);
    vfio_ioas(0xffff, 0);
    run(&VFIO_IOAS, &reserved);

    section("set, get, clear");
    first = ioas_alloc();
    second = ioas_alloc();
    vfio_ioas(GET, 0);
    vfio_ioas(SET, first);
    vfio_ioas(GET, 77);
    vfio_ioas(SET, second);
    vfio_ioas(GET, 0);
    vfio_ioas(SET, 99);
    vfio_ioas(GET, 0);
    run(&VFIO_IOAS, &reserved);
    vfio_ioas(CLEAR, 0);
    vfio_ioas(GET, 77);
    vfio_ioas(CLEAR, 0);

    section("the IOAS is destroyed");
    vfio_ioas(SET, second);
    destroy(first);
    vfio_ioas(GET, 0);
    destroy(second);
    vfio_ioas(GET, 0);
    ioas_alloc();
    ioas_alloc();
    vfio_ioas(GET, 0);

    section("an answer that cannot be stored");
    vfio_ioas(SET, 1);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *page = (struct iommu_vfio_ioas){.size = sizeof(*page), .op = GET};
    mprotect(page, PAGE, PROT_READ);
    run(&VFIO_IOAS, page);
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    page->op = CLEAR;
    mprotect(page, PAGE, PROT_READ);
    run(&VFIO_IOAS, page);
    vfio_ioas(GET, 0);

    section("every open has its own");
    vfio_ioas(SET, 2);
    reopen("another open");
    vfio_ioas(GET, 0);
    return 0;
}
