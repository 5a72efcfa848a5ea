/* SPDX-License-Identifier: Apache-2.0 */
/* IOASes: the commands IOMMU_IOAS_…, options, RLIMIT_MEMLOCK, and VFIO's type1 commands. */
#include "steps.h"

#include <sys/resource.h>

#include "transcript/type1.h"

static const struct command TYPE1_GET_INFO = TYPE1_GET_INFO_AS("TYPE1_GET_INFO");
static const struct command TYPE1_MAP = TYPE1_MAP_AS("TYPE1_MAP");
static const struct command TYPE1_UNMAP = TYPE1_UNMAP_AS("TYPE1_UNMAP");

/* ---- IOAS --------------------------------------------------------------------------------- */

void do_ioas_alloc(void)
{
    struct iommu_ioas_alloc cmd = {.size = sizeof(cmd)};
    struct iommu_option huge = {.size = sizeof(huge), .option_id = IOMMU_OPTION_HUGE_PAGES,
                                .op = IOMMU_OPTION_OP_SET};

    if (context->count[IOAS] >= 3)
        return;
    if (!ANSWERED(call(&IOAS_ALLOC, &cmd), struct iommu_ioas_alloc, out_ioas_id))
        return;
    remember_id(IOAS, huge.object_id = cmd.out_ioas_id);
    iommufd = context->fd;
    if (!large)
        run(&OPTION, &huge);
}

void do_map(void)
{
    struct iommu_ioas_map cmd = {.size = sizeof(cmd)};

    cmd.flags = some_permission();
    cmd.ioas_id = some_id(IOAS);
    cmd.user_va = some_memory();
    cmd.length = some_length();
    cmd.iova = some_iova();
    if (chance(85))
        cmd.flags |= FIXED;
    if (ANSWERED(call(&IOAS_MAP, &cmd), struct iommu_ioas_map, iova))
        remember_mapping(cmd.iova, cmd.length, cmd.user_va);
}

void do_map_file(void)
{
    struct iommu_ioas_map_file cmd = {.size = sizeof(cmd)};

    cmd.flags = some_permission();
    cmd.ioas_id = some_id(IOAS);
    cmd.fd = files[below(3) ? 0 : below(4)].fd;
    cmd.start = below(SHARED_PAGES) * PAGE;
    cmd.length = some_length();
    cmd.iova = some_iova();
    if (chance(85))
        cmd.flags |= FIXED;
    if (chance(8))
        cmd.start += 0x800;
    if (ANSWERED(call(&IOAS_MAP_FILE, &cmd), struct iommu_ioas_map_file, iova))
        remember_mapping(cmd.iova, cmd.length, (uintptr_t)shared_memory + cmd.start);
}

void do_copy(void)
{
    struct iommu_ioas_copy cmd = {.size = sizeof(cmd)};
    struct mapping mapping;

    cmd.flags = some_permission();
    cmd.dst_ioas_id = some_id(IOAS);
    cmd.src_ioas_id = some_id(IOAS);
    cmd.length = some_length();
    cmd.dst_iova = some_iova();
    cmd.src_iova = some_iova();
    mapping = some_mapping();
    if (chance(85))
        cmd.flags |= FIXED;
    if (chance(60)) {
        cmd.src_iova = mapping.iova;
        cmd.length = below(2) ? mapping.length : PAGE;
    }
    if (chance(10)) {
        cmd.flags |= MOCK_FLAGS_ACCESS_SYZ;
        cmd.src_iova = some_syz_iova(3, 0x800);
    }
    if (ANSWERED(call(&IOAS_COPY, &cmd), struct iommu_ioas_copy, src_iova))
        remember_mapping(cmd.dst_iova, cmd.length, mapping.memory);
}

void do_unmap(void)
{
    struct iommu_ioas_unmap cmd = {.size = sizeof(cmd)};
    struct mapping mapping;

    cmd.ioas_id = some_id(IOAS);
    cmd.iova = some_iova();
    cmd.length = below(3) ? some_length() : 8 * PAGE;
    mapping = some_mapping();
    if (chance(30)) {
        cmd.iova = mapping.iova;
        cmd.length = mapping.length;
    }
    if (chance(3)) {
        cmd.iova = 0;
        cmd.length = UINT64_MAX;
    }
    call(&IOAS_UNMAP, &cmd);
}

void do_allow(void)
{
    struct iommu_iova_range list[4];
    struct iommu_ioas_allow_iovas cmd = {.size = sizeof(cmd)};
    uint64_t at;

    cmd.ioas_id = some_id(IOAS);
    cmd.num_iovas = below(4);
    at = below(2) ? 0 : MOCK_START;
    fill_guarded(&data_memory, 0);
    for (unsigned i = 0; i != COUNT(list); i++) {
        list[i].start = at + below(4) * PAGE;
        list[i].last = list[i].start + (below(2) ? 64 * PAGE : MOCK_APERTURE_LAST / 8);
        list[i].last -= below(2);
        at = list[i].last + 1 - chance(5) * PAGE;
    }
    cmd.allowed_iovas = some_data(list, sizeof(list));
    printf("list %#llx-%#llx %#llx-%#llx %#llx-%#llx:\n", (unsigned long long)list[0].start,
           (unsigned long long)list[0].last, (unsigned long long)list[1].start,
           (unsigned long long)list[1].last, (unsigned long long)list[2].start,
           (unsigned long long)list[2].last);
    call(&IOAS_ALLOW_IOVAS, &cmd);
}

void do_ranges(void)
{
    struct iommu_ioas_iova_ranges cmd = {.size = sizeof(cmd)};

    cmd.ioas_id = some_id(IOAS);
    cmd.num_iovas = below(3) ? 16 : below(4);
    cmd.allowed_iovas = some_output();
    call(&IOAS_IOVA_RANGES, &cmd);
}

void do_option(void)
{
    struct iommu_option cmd = {.size = sizeof(cmd), .option_id = IOMMU_OPTION_HUGE_PAGES};

    cmd.op = below(2);
    cmd.object_id = some_id(IOAS);
    cmd.val64 = large && below(3);
    if (chance(30)) {
        cmd.option_id = IOMMU_OPTION_RLIMIT_MODE;
        cmd.object_id = 0;
        cmd.val64 = below(3);
    }
    call(&OPTION, &cmd);
}

void do_change_process(void)
{
    struct iommu_ioas_change_process cmd = {.size = sizeof(cmd)};

    call(&IOAS_CHANGE_PROCESS, &cmd);
}

void do_noiommu(void)
{
    struct iommu_ioas_noiommu_get_pa cmd = {.size = sizeof(cmd), .length = PAGE};

    cmd.ioas_id = some_id(IOAS);
    cmd.iova = some_iova();
    call(&IOAS_NOIOMMU_GET_PA, &cmd);
}

void do_limit(void)
{
    static const rlim_t limits[] = {0, PAGE, 3 * PAGE, 5 * PAGE + 1, 16 * PAGE, 8 << 20, 8 << 20};
    struct rlimit limit;

    getrlimit(RLIMIT_MEMLOCK, &limit);
    limit.rlim_cur = limits[below(COUNT(limits))];
    if (limit.rlim_cur > limit.rlim_max)
        limit.rlim_cur = limit.rlim_max;
    printf("RLIMIT_MEMLOCK %#lx -> %d\n", (unsigned long)limit.rlim_cur,
           setrlimit(RLIMIT_MEMLOCK, &limit));
}

/* ---- type1 -------------------------------------------------------------------------------- */

void do_vfio_ioas(void)
{
    struct iommu_vfio_ioas cmd = {.size = sizeof(cmd)};

    cmd.ioas_id = some_id(IOAS);
    cmd.op = below(4) ? IOMMU_VFIO_IOAS_SET : below(4);
    if (ANSWERED(call(&VFIO_IOAS, &cmd), struct iommu_vfio_ioas, ioas_id) &&
        cmd.op == IOMMU_VFIO_IOAS_GET && !context->count[IOAS])
        remember_id(IOAS, cmd.ioas_id);
}

void do_type1_map(void)
{
    struct vfio_iommu_type1_dma_map cmd = {.argsz = sizeof(cmd)};

    cmd.flags = some_permission() >> 1;
    cmd.vaddr = some_memory();
    cmd.iova = some_iova();
    cmd.size = some_length();
    if (ANSWERED(call(&TYPE1_MAP, &cmd), struct vfio_iommu_type1_dma_map, size))
        remember_mapping(cmd.iova, cmd.size, cmd.vaddr);
}

void do_type1_unmap(void)
{
    struct vfio_iommu_type1_dma_unmap cmd = {.argsz = sizeof(cmd)};

    cmd.iova = some_iova();
    cmd.size = below(3) ? some_length() : 8 * PAGE;
    if (chance(5)) {
        cmd.flags = VFIO_DMA_UNMAP_FLAG_ALL;
        cmd.iova = cmd.size = 0;
    }
    call(&TYPE1_UNMAP, &cmd);
}

void do_type1_info(void)
{
    struct vfio_iommu_type1_info cmd = {.argsz = below(2) ? sizeof(cmd) : below(200)};

    call(&TYPE1_GET_INFO, &cmd);
}

void do_vfio_request(void)
{
    static const unsigned long requests[] = {VFIO_GET_API_VERSION, VFIO_CHECK_EXTENSION,
                                             VFIO_CHECK_EXTENSION, VFIO_SET_IOMMU};
    unsigned long request = requests[below(COUNT(requests))], value = below(14);

    iommufd = context->fd;
    if (chance(10))
        value = odd_value(value, 8);
    if (request == VFIO_SET_IOMMU && chance(60))
        value = VFIO_TYPE1v2_IOMMU - chance(30) * 2;
    run_raw(request, value, "%s VFIO request %lu %#lx", context->name, request & 0xff, value);
}

/** Issues a request that differs from those of Linux 7.3 in its number, type, direction or size. */
void do_wrong_request(void)
{
    unsigned long request = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + below(36));

    if (chance(70))
        request ^= 1UL << below(32);
    if (request == IOMMU_FAULT_QUEUE_ALLOC || request == IOMMU_TEST_CMD ||
        request == IOMMU_IOAS_ALLOC)
        return;
    iommufd = context->fd;
    fill_guarded(&argument_memory, 0);
    run_raw(request, some_address(&argument_memory, 64, 20), "%s request %#lx", context->name,
            request);
}
