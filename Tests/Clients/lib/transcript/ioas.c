/* SPDX-License-Identifier: Apache-2.0 */
#include "transcript/ioas.h"

const struct command DESTROY = {
    "DESTROY", IOMMU_DESTROY, sizeof(struct iommu_destroy), ENDS(struct iommu_destroy, id), NULL,
    {FIELD(struct iommu_destroy, id, DEC)}};

const struct command IOAS_ALLOC = {
    "IOAS_ALLOC", IOMMU_IOAS_ALLOC, sizeof(struct iommu_ioas_alloc),
    ENDS(struct iommu_ioas_alloc, out_ioas_id), NULL,
    {FIELD(struct iommu_ioas_alloc, flags, RESERVED),
     FIELD(struct iommu_ioas_alloc, out_ioas_id, DEC)}};

const struct command IOAS_ALLOW_IOVAS = {
    "IOAS_ALLOW_IOVAS", IOMMU_IOAS_ALLOW_IOVAS, sizeof(struct iommu_ioas_allow_iovas),
    ENDS(struct iommu_ioas_allow_iovas, allowed_iovas), NULL,
    {FIELD(struct iommu_ioas_allow_iovas, ioas_id, DEC),
     FIELD(struct iommu_ioas_allow_iovas, num_iovas, DEC),
     FIELD(struct iommu_ioas_allow_iovas, __reserved, RESERVED),
     FIELD(struct iommu_ioas_allow_iovas, allowed_iovas, POINTER)}};

const struct command IOAS_COPY = {
    "IOAS_COPY", IOMMU_IOAS_COPY, sizeof(struct iommu_ioas_copy),
    ENDS(struct iommu_ioas_copy, src_iova), NULL,
    {FIELD(struct iommu_ioas_copy, flags, HEX), FIELD(struct iommu_ioas_copy, dst_ioas_id, DEC),
     FIELD(struct iommu_ioas_copy, src_ioas_id, DEC), FIELD(struct iommu_ioas_copy, length, HEX),
     FIELD(struct iommu_ioas_copy, dst_iova, HEX), FIELD(struct iommu_ioas_copy, src_iova, HEX)}};

const struct command IOAS_IOVA_RANGES = {
    "IOAS_IOVA_RANGES", IOMMU_IOAS_IOVA_RANGES, sizeof(struct iommu_ioas_iova_ranges),
    ENDS(struct iommu_ioas_iova_ranges, out_iova_alignment), NULL,
    {FIELD(struct iommu_ioas_iova_ranges, ioas_id, DEC),
     FIELD(struct iommu_ioas_iova_ranges, num_iovas, DEC),
     FIELD(struct iommu_ioas_iova_ranges, __reserved, RESERVED),
     FIELD(struct iommu_ioas_iova_ranges, allowed_iovas, POINTER),
     FIELD(struct iommu_ioas_iova_ranges, out_iova_alignment, HEX)}};

const struct command IOAS_MAP = {
    "IOAS_MAP", IOMMU_IOAS_MAP, sizeof(struct iommu_ioas_map), ENDS(struct iommu_ioas_map, iova),
    NULL,
    {FIELD(struct iommu_ioas_map, flags, HEX), FIELD(struct iommu_ioas_map, ioas_id, DEC),
     FIELD(struct iommu_ioas_map, __reserved, RESERVED),
     FIELD(struct iommu_ioas_map, user_va, POINTER), FIELD(struct iommu_ioas_map, length, HEX),
     FIELD(struct iommu_ioas_map, iova, HEX)}};

const struct command IOAS_MAP_FILE = {
    "IOAS_MAP_FILE", IOMMU_IOAS_MAP_FILE, sizeof(struct iommu_ioas_map_file),
    ENDS(struct iommu_ioas_map_file, iova), NULL,
    {FIELD(struct iommu_ioas_map_file, flags, HEX),
     FIELD(struct iommu_ioas_map_file, ioas_id, DEC), FIELD(struct iommu_ioas_map_file, fd, FILE_IN),
     FIELD(struct iommu_ioas_map_file, start, HEX), FIELD(struct iommu_ioas_map_file, length, HEX),
     FIELD(struct iommu_ioas_map_file, iova, HEX)}};

const struct command IOAS_UNMAP = {
    "IOAS_UNMAP", IOMMU_IOAS_UNMAP, sizeof(struct iommu_ioas_unmap),
    ENDS(struct iommu_ioas_unmap, length), NULL,
    {FIELD(struct iommu_ioas_unmap, ioas_id, DEC), FIELD(struct iommu_ioas_unmap, iova, HEX),
     FIELD(struct iommu_ioas_unmap, length, HEX)}};

const struct command OPTION = {
    "OPTION", IOMMU_OPTION, sizeof(struct iommu_option), ENDS(struct iommu_option, val64), NULL,
    {FIELD(struct iommu_option, option_id, DEC), FIELD(struct iommu_option, op, DEC),
     FIELD(struct iommu_option, __reserved, RESERVED), FIELD(struct iommu_option, object_id, DEC),
     FIELD(struct iommu_option, val64, HEX)}};

const struct command VFIO_IOAS = {
    "VFIO_IOAS", IOMMU_VFIO_IOAS, sizeof(struct iommu_vfio_ioas),
    ENDS(struct iommu_vfio_ioas, __reserved), NULL,
    {FIELD(struct iommu_vfio_ioas, ioas_id, DEC), FIELD(struct iommu_vfio_ioas, op, DEC),
     FIELD(struct iommu_vfio_ioas, __reserved, RESERVED)}};

const struct command IOAS_CHANGE_PROCESS = {
    "IOAS_CHANGE_PROCESS", IOMMU_IOAS_CHANGE_PROCESS, sizeof(struct iommu_ioas_change_process),
    ENDS(struct iommu_ioas_change_process, __reserved), NULL,
    {FIELD(struct iommu_ioas_change_process, __reserved, RESERVED)}};

const struct command IOAS_NOIOMMU_GET_PA = {
    "IOAS_NOIOMMU_GET_PA", IOMMU_IOAS_NOIOMMU_GET_PA, sizeof(struct iommu_ioas_noiommu_get_pa),
    ENDS(struct iommu_ioas_noiommu_get_pa, out_phys), NULL,
    {FIELD(struct iommu_ioas_noiommu_get_pa, flags, RESERVED),
     FIELD(struct iommu_ioas_noiommu_get_pa, ioas_id, DEC),
     FIELD(struct iommu_ioas_noiommu_get_pa, __reserved, RESERVED),
     FIELD(struct iommu_ioas_noiommu_get_pa, iova, HEX),
     FIELD(struct iommu_ioas_noiommu_get_pa, length, HEX),
     FIELD(struct iommu_ioas_noiommu_get_pa, out_phys, HEX)}};

uint32_t ioas_alloc(void)
{
    struct iommu_ioas_alloc cmd = {.size = sizeof(cmd)};

    run(&IOAS_ALLOC, &cmd);
    return cmd.out_ioas_id;
}

long destroy(uint32_t id)
{
    struct iommu_destroy cmd = {.size = sizeof(cmd), .id = id};

    return run(&DESTROY, &cmd);
}

uint64_t map(uint32_t ioas, uint64_t user_va, uint64_t length, uint32_t flags, uint64_t iova)
{
    struct iommu_ioas_map cmd = map_arguments(ioas, user_va, length, flags, iova);

    return run(&IOAS_MAP, &cmd) ? UINT64_MAX : cmd.iova;
}

uint64_t map_file(uint32_t ioas, int fd, uint64_t start, uint64_t length, uint32_t flags,
                  uint64_t iova)
{
    struct iommu_ioas_map_file cmd = {.size = sizeof(cmd),
                                      .flags = flags,
                                      .ioas_id = ioas,
                                      .fd = fd,
                                      .start = start,
                                      .length = length,
                                      .iova = iova};

    return run(&IOAS_MAP_FILE, &cmd) ? UINT64_MAX : cmd.iova;
}

uint64_t copy(uint32_t to, uint32_t from, uint64_t source, uint64_t length, uint32_t flags,
              uint64_t iova)
{
    struct iommu_ioas_copy cmd = {.size = sizeof(cmd),
                                  .flags = flags,
                                  .dst_ioas_id = to,
                                  .src_ioas_id = from,
                                  .length = length,
                                  .dst_iova = iova,
                                  .src_iova = source};

    return run(&IOAS_COPY, &cmd) ? UINT64_MAX : cmd.dst_iova;
}

long unmap(uint32_t ioas, uint64_t iova, uint64_t length)
{
    struct iommu_ioas_unmap cmd = unmap_arguments(ioas, iova, length);

    return run(&IOAS_UNMAP, &cmd);
}

long allow_iovas(uint32_t ioas, const struct iommu_iova_range *ranges, uint32_t count)
{
    struct iommu_ioas_allow_iovas cmd = {.size = sizeof(cmd),
                                         .ioas_id = ioas,
                                         .num_iovas = count,
                                         .allowed_iovas = (uintptr_t)ranges};

    return run(&IOAS_ALLOW_IOVAS, &cmd);
}

long allow_iova_list(uint32_t ioas, const struct iommu_iova_range *ranges, uint32_t count)
{
    static struct iommu_iova_range list[8];

    memcpy(list, ranges, count * sizeof(*ranges));
    printf("allow:");
    for (uint32_t i = 0; i != count; i++)
        printf(" %#llx-%#llx", (unsigned long long)list[i].start, (unsigned long long)list[i].last);
    printf("\n");
    name_region("list", list, sizeof(list));
    return allow_iovas(ioas, list, count);
}

long iova_ranges(uint32_t ioas, void *array, uint32_t count)
{
    struct iommu_ioas_iova_ranges cmd = {.size = sizeof(cmd),
                                         .ioas_id = ioas,
                                         .num_iovas = count,
                                         .allowed_iovas = (uintptr_t)array};

    return run(&IOAS_IOVA_RANGES, &cmd);
}

void print_iova_ranges(uint32_t ioas)
{
    static struct iommu_iova_range array[16];

    memset(array, 0xa5, sizeof(array));
    watch("ranges", array, sizeof(array));
    iova_ranges(ioas, array, COUNT(array));
    unwatch("ranges");
}

long option(uint32_t id, uint16_t op, uint32_t object, uint64_t value)
{
    struct iommu_option cmd = {
        .size = sizeof(cmd), .option_id = id, .op = op, .object_id = object, .val64 = value};

    return run(&OPTION, &cmd);
}

long vfio_ioas(uint16_t op, uint32_t ioas)
{
    struct iommu_vfio_ioas cmd = {.size = sizeof(cmd), .ioas_id = ioas, .op = op};

    return run(&VFIO_IOAS, &cmd);
}
