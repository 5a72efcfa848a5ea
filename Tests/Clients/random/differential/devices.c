/* SPDX-License-Identifier: Apache-2.0 */
/* Mock devices and their attachments, and the operations that check the kernel's state. */
#include "steps.h"

/* ---- devices ------------------------------------------------------------------------------ */

void do_device(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, some_id(IOAS));
    struct device *device = NULL;

    for (unsigned i = 0; i != COUNT(context->devices) && !device; i++)
        if (!context->devices[i].stdev)
            device = &context->devices[i];
    if (!device)
        return;
    if (chance(8))
        cmd.id = some_id(HWPT);
    cmd.mock_domain_flags.dev_flags = MOCK_FLAGS_DEVICE_PASID * (below(4) != 0);
    cmd.mock_domain_flags.dev_flags |= chance(15);
    if (chance(20))
        cmd.op = IOMMU_TEST_OP_MOCK_DOMAIN;
    if (!is_answered(call(&MOCK_DOMAIN, &cmd), sizeof(cmd)))
        return;
    *device = (struct device){.stdev = cmd.mock_domain.out_stdev_id,
                              .idev = cmd.mock_domain.out_idev_id};
    remember_id(STDEV, device->stdev);
    remember_id(IDEV, device->idev);
}

void do_replace(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, some_id(STDEV));

    cmd.mock_domain_replace.pt_id = some_id(some_table());
    call(&MOCK_REPLACE, &cmd);
}

void do_pasid_attach(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_PASID_ATTACH, some_id(STDEV));
    struct device *device;

    cmd.pasid_attach.pasid = some_pasid();
    cmd.pasid_attach.pt_id = some_id(below(4) ? (below(2) ? HWPT : NESTED) : some_table());
    if (!is_repeatable(&PASID_ATTACH, (const void *)&cmd))
        return;
    if (call(&PASID_ATTACH, &cmd).result || !cmd.pasid_attach.pasid)
        return;
    device = device_of(cmd.id);
    for (unsigned i = 0; device && i != 8; i++)
        if (!device->pasids[i]) {
            device->pasids[i] = cmd.pasid_attach.pasid;
            break;
        }
}

void do_pasid_replace(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_PASID_REPLACE, some_id(STDEV));

    cmd.pasid_replace.pasid = some_pasid();
    cmd.pasid_replace.pt_id = some_id(below(4) ? (below(2) ? HWPT : NESTED) : some_table());
    call(&PASID_REPLACE, &cmd);
}

void do_pasid_detach(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_PASID_DETACH, some_id(STDEV));
    struct device *device;

    cmd.pasid_detach.pasid = some_pasid();
    if (call(&PASID_DETACH, &cmd).result)
        return;
    device = device_of(cmd.id);
    for (unsigned i = 0; device && i != 8; i++)
        if (device->pasids[i] == cmd.pasid_detach.pasid)
            device->pasids[i] = 0;
}

void do_pasid_check(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_PASID_CHECK_HWPT, some_id(STDEV));

    cmd.pasid_check.pasid = some_pasid();
    cmd.pasid_check.hwpt_id = below(5) ? some_id(some_table()) : 0;
    call(&PASID_CHECK, &cmd);
}

void detach_pasids(struct device *device)
{
    iommufd = context->fd;
    for (unsigned i = 0; i != 8; i++)
        if (device->pasids[i])
            pasid_detach(device->stdev, device->pasids[i]);
}

void do_destroy(void)
{
    struct iommu_destroy cmd = {.size = sizeof(cmd), .id = some_id_of_any_kind()};
    struct device *device;

    if (chance(40))
        cmd.id = some_id(below(2) ? NESTED : HWPT);
    if (!is_repeatable(&DESTROY, (const void *)&cmd))
        return;
    if (call(&DESTROY, &cmd).result)
        return;
    forget_id(cmd.id);
    device = device_of(cmd.id);
    if (device) {
        forget_id(device->idev);
        *device = (struct device){0};
    }
}

void do_destroy_device(void)
{
    struct device *device = &context->devices[below(COUNT(context->devices))];

    if (!device->stdev)
        return;
    detach_pasids(device);
    iommufd = context->fd;
    if (destroy(device->stdev))
        return;
    forget_id(device->stdev);
    if (chance(80))
        forget_id(device->idev);
    *device = (struct device){0};
}

/* ---- checks ------------------------------------------------------------------------------- */

void do_reserve(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_ADD_RESERVED, some_id(IOAS));

    cmd.add_reserved.start = below(2) ? MOCK_START + 32 * PAGE + below(8) * PAGE : below(8) * PAGE;
    cmd.add_reserved.length = 1 + below(2 * PAGE);
    call(&ADD_RESERVED, &cmd);
}

void do_check_map(void)
{
    struct iommu_test_cmd cmd =
        test_command(IOMMU_TEST_OP_MD_CHECK_MAP, some_id(below(3) ? HWPT : PARENT));

    cmd.check_map.iova = some_iova();
    cmd.check_map.length = below(2) ? PAGE : 0x800;
    cmd.check_map.uptr = some_memory();
    if (chance(80)) {
        struct mapping mapping = some_mapping();

        cmd.check_map.iova = mapping.iova;
        cmd.check_map.length = mapping.length;
        cmd.check_map.uptr = mapping.memory;
    }
    call(&CHECK_MAP, &cmd);
}

void do_check_refs(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_MD_CHECK_REFS, 0);

    cmd.check_refs.length = (1 + chance(20)) * PAGE;
    cmd.check_refs.uptr = (uintptr_t)buffer + below(BUFFER_PAGES) * PAGE;
    cmd.check_refs.refs = below(3);
    call(&CHECK_REFS, &cmd);
}

void do_check_iotlb(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_MD_CHECK_IOTLB, some_id(NESTED));

    cmd.check_iotlb.id = below(5);
    cmd.check_iotlb.iotlb = below(2) * 7;
    call(&CHECK_IOTLB, &cmd);
}

void do_check_cache(void)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_DEV_CHECK_CACHE, some_id(IDEV));

    cmd.check_dev_cache.id = below(5);
    cmd.check_dev_cache.cache = below(2) ? IOMMU_TEST_DEV_CACHE_DEFAULT : 0;
    call(&CHECK_CACHE, &cmd);
}

void do_memory_limit(void)
{
    static const uint32_t limits[] = {11, 12, 13, 64, PAGE, 65536, 65536};
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT, 0);

    cmd.memory_limit.limit = limits[below(COUNT(limits))];
    call(&MEMORY_LIMIT, &cmd);
}

void do_unknown(void)
{
    static const uint32_t operations[] = {0, 24, 25, 100, 1u << 31, ~0u};
    uint32_t id = some_id_of_any_kind();
    struct iommu_test_cmd cmd = test_command(operations[below(COUNT(operations))], id);

    call(&UNKNOWN_OPERATION, &cmd);
}
