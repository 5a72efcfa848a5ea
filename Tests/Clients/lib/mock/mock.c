/* SPDX-License-Identifier: Apache-2.0 */
#include "mock/mock.h"

#define TEST(member, name, kind) \
    {name, offsetof(struct iommu_test_cmd, member), \
     sizeof(((struct iommu_test_cmd *)0)->member), kind}
#define TEST_COMMAND(operation, ...)                                                              \
    const struct command operation = {                                                            \
        "TEST_" #operation, IOMMU_TEST_CMD, sizeof(struct iommu_test_cmd),                        \
        ENDS(struct iommu_test_cmd, last), "mock", {__VA_ARGS__}}

TEST_COMMAND(ADD_RESERVED, TEST(id, "ioas_id", DEC), TEST(add_reserved.start, "start", HEX),
             TEST(add_reserved.length, "length", HEX));
TEST_COMMAND(MOCK_DOMAIN, TEST(id, "pt_id", DEC),
             TEST(mock_domain_flags.dev_flags, "dev_flags", RESERVED),
             TEST(mock_domain.out_stdev_id, "out_stdev_id", DEC),
             TEST(mock_domain.out_hwpt_id, "out_hwpt_id", DEC),
             TEST(mock_domain.out_idev_id, "out_idev_id", DEC));
TEST_COMMAND(MOCK_REPLACE, TEST(id, "stdev_id", DEC),
             TEST(mock_domain_replace.pt_id, "pt_id", DEC));
TEST_COMMAND(CHECK_MAP, TEST(id, "hwpt_id", DEC), TEST(check_map.iova, "iova", HEX),
             TEST(check_map.length, "length", HEX), TEST(check_map.uptr, "uptr", POINTER));
TEST_COMMAND(CHECK_REFS, TEST(check_refs.length, "length", HEX),
             TEST(check_refs.uptr, "uptr", POINTER), TEST(check_refs.refs, "refs", DEC));
TEST_COMMAND(CREATE_ACCESS, TEST(id, "ioas_id", DEC), TEST(create_access.flags, "flags", HEX),
             TEST(create_access.out_access_fd, "out_access_fd", FILE_OUT));
TEST_COMMAND(ACCESS_PAGES, TEST(id, "access", FILE_IN), TEST(access_pages.flags, "flags", HEX),
             TEST(access_pages.iova, "iova", HEX), TEST(access_pages.length, "length", HEX),
             TEST(access_pages.uptr, "uptr", POINTER),
             TEST(access_pages.out_access_pages_id, "out_access_pages_id", DEC));
TEST_COMMAND(DESTROY_ACCESS_PAGES, TEST(id, "access", FILE_IN),
             TEST(destroy_access_pages.access_pages_id, "access_pages_id", DEC));
TEST_COMMAND(ACCESS_RW, TEST(id, "access", FILE_IN), TEST(access_rw.iova, "iova", HEX),
             TEST(access_rw.length, "length", HEX), TEST(access_rw.uptr, "uptr", POINTER),
             TEST(access_rw.flags, "flags", HEX));
TEST_COMMAND(ACCESS_REPLACE, TEST(id, "access", FILE_IN),
             TEST(access_replace_ioas.ioas_id, "ioas_id", DEC));
TEST_COMMAND(MEMORY_LIMIT, TEST(memory_limit.limit, "limit", DEC));
TEST_COMMAND(DIRTY, TEST(id, "hwpt_id", DEC), TEST(dirty.flags, "flags", HEX),
             TEST(dirty.iova, "iova", HEX), TEST(dirty.length, "length", HEX),
             TEST(dirty.page_size, "page_size", HEX), TEST(dirty.uptr, "uptr", POINTER),
             TEST(dirty.out_nr_dirty, "out_nr_dirty", DEC));
TEST_COMMAND(CHECK_IOTLB, TEST(id, "hwpt_id", DEC), TEST(check_iotlb.id, "entry", DEC),
             TEST(check_iotlb.iotlb, "value", HEX));
TEST_COMMAND(CHECK_CACHE, TEST(id, "idev_id", DEC), TEST(check_dev_cache.id, "entry", DEC),
             TEST(check_dev_cache.cache, "value", HEX));
TEST_COMMAND(TRIGGER_IOPF, TEST(trigger_iopf.dev_id, "dev_id", DEC),
             TEST(trigger_iopf.pasid, "pasid", DEC), TEST(trigger_iopf.grpid, "grpid", DEC),
             TEST(trigger_iopf.perm, "perm", HEX), TEST(trigger_iopf.addr, "addr", HEX));
TEST_COMMAND(TRIGGER_VEVENT, TEST(trigger_vevent.dev_id, "dev_id", DEC));
TEST_COMMAND(PASID_ATTACH, TEST(id, "stdev_id", DEC), TEST(pasid_attach.pasid, "pasid", DEC),
             TEST(pasid_attach.pt_id, "pt_id", DEC));
TEST_COMMAND(PASID_REPLACE, TEST(id, "stdev_id", DEC), TEST(pasid_replace.pasid, "pasid", DEC),
             TEST(pasid_replace.pt_id, "pt_id", DEC));
TEST_COMMAND(PASID_DETACH, TEST(id, "stdev_id", DEC), TEST(pasid_detach.pasid, "pasid", DEC));
TEST_COMMAND(PASID_CHECK, TEST(id, "stdev_id", DEC), TEST(pasid_check.pasid, "pasid", DEC),
             TEST(pasid_check.hwpt_id, "hwpt_id", DEC));
TEST_COMMAND(UNKNOWN_OPERATION, TEST(op, "op", DEC), TEST(id, "id", DEC));
TEST_COMMAND(DMABUF_GET, TEST(dmabuf_get.length, "length", HEX),
             TEST(dmabuf_get.open_flags, "open_flags", HEX));
TEST_COMMAND(DMABUF_REVOKE, TEST(dmabuf_revoke.dmabuf_fd, "dmabuf_fd", FILE_IN),
             TEST(dmabuf_revoke.revoked, "revoked", DEC));

struct iommu_test_cmd test_command(uint32_t op, uint32_t id)
{
    struct iommu_test_cmd cmd = {.size = sizeof(cmd), .op = op, .id = id};

    return cmd;
}

static long mock_domain_by(uint32_t op, uint32_t pt, uint32_t flags, struct mock_device *device)
{
    struct iommu_test_cmd cmd = test_command(op, pt);
    long result;

    cmd.mock_domain_flags.dev_flags = flags;
    result = run(&MOCK_DOMAIN, &cmd);
    *device = (struct mock_device){cmd.mock_domain.out_stdev_id, cmd.mock_domain.out_hwpt_id,
                                   cmd.mock_domain.out_idev_id};
    return result;
}

long mock_domain(uint32_t pt, struct mock_device *device)
{
    return mock_domain_by(IOMMU_TEST_OP_MOCK_DOMAIN, pt, 0, device);
}

long mock_domain_flags(uint32_t pt, uint32_t flags, struct mock_device *device)
{
    return mock_domain_by(IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, pt, flags, device);
}

long mock_replace(uint32_t stdev, uint32_t pt)
{
    return run_test(&MOCK_REPLACE, IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, stdev,
                    .mock_domain_replace = {.pt_id = pt});
}

long add_reserved(uint32_t ioas, uint64_t start, uint64_t length)
{
    return run_test(&ADD_RESERVED, IOMMU_TEST_OP_ADD_RESERVED, ioas,
                    .add_reserved = {.start = start, .length = length});
}

long check_map(uint32_t hwpt, uint64_t iova, uint64_t length, const void *memory)
{
    return run_test(&CHECK_MAP, IOMMU_TEST_OP_MD_CHECK_MAP, hwpt,
                    .check_map = {.iova = iova, .length = length, .uptr = (uintptr_t)memory});
}

long check_refs(const void *memory, uint64_t length, uint32_t refs)
{
    return run_test(&CHECK_REFS, IOMMU_TEST_OP_MD_CHECK_REFS, 0,
                    .check_refs = {.length = length, .uptr = (uintptr_t)memory, .refs = refs});
}

int create_access(const char *name, uint32_t ioas, uint32_t flags)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_CREATE_ACCESS, ioas);

    cmd.create_access.flags = flags;
    if (run(&CREATE_ACCESS, &cmd))
        return -1;
    return name_fd(name, (int)cmd.create_access.out_access_fd);
}

uint32_t access_pages(int access, uint64_t iova, uint64_t length, const void *memory,
                      uint32_t flags)
{
    struct iommu_test_cmd cmd = test_command(IOMMU_TEST_OP_ACCESS_PAGES, (uint32_t)access);

    cmd.access_pages.flags = flags;
    cmd.access_pages.iova = iova;
    cmd.access_pages.length = length;
    cmd.access_pages.uptr = (uintptr_t)memory;
    return run(&ACCESS_PAGES, &cmd) ? UINT32_MAX : cmd.access_pages.out_access_pages_id;
}

long destroy_access_pages(int access, uint32_t id)
{
    return run_test(&DESTROY_ACCESS_PAGES, IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, (uint32_t)access,
                    .destroy_access_pages = {.access_pages_id = id});
}

long access_rw(int access, uint64_t iova, uint64_t length, void *memory, uint32_t flags)
{
    return run_test(&ACCESS_RW, IOMMU_TEST_OP_ACCESS_RW, (uint32_t)access,
                    .access_rw = {.iova = iova, .length = length, .uptr = (uintptr_t)memory,
                                  .flags = flags});
}

long access_replace(int access, uint32_t ioas)
{
    return run_test(&ACCESS_REPLACE, IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, (uint32_t)access,
                    .access_replace_ioas = {.ioas_id = ioas});
}

long memory_limit(uint32_t limit)
{
    return run_test(&MEMORY_LIMIT, IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT, 0,
                    .memory_limit = {.limit = limit});
}

uint32_t nested_alloc(uint32_t device, uint32_t pt, uint32_t flags, uint32_t fault)
{
    static const struct iommu_hwpt_selftest data = {.iotlb = 7};

    name_region("seven", (void *)&data, sizeof(data));
    return hwpt_alloc_with(device, pt, flags, IOMMU_HWPT_DATA_SELFTEST, &data, sizeof(data), fault);
}

long make_dirty(uint32_t hwpt, uint64_t iova, uint64_t length, uint64_t page_size,
                const void *bitmap)
{
    return run_test(&DIRTY, IOMMU_TEST_OP_DIRTY, hwpt,
                    .dirty = {.iova = iova, .length = length, .page_size = page_size,
                              .uptr = (uintptr_t)bitmap});
}

long check_iotlb(uint32_t hwpt, uint32_t entry, uint32_t value)
{
    return run_test(&CHECK_IOTLB, IOMMU_TEST_OP_MD_CHECK_IOTLB, hwpt,
                    .check_iotlb = {.id = entry, .iotlb = value});
}

long check_cache(uint32_t idev, uint32_t entry, uint32_t value)
{
    return run_test(&CHECK_CACHE, IOMMU_TEST_OP_DEV_CHECK_CACHE, idev,
                    .check_dev_cache = {.id = entry, .cache = value});
}

long trigger_iopf(uint32_t idev, uint32_t pasid, uint64_t address)
{
    return run_test(&TRIGGER_IOPF, IOMMU_TEST_OP_TRIGGER_IOPF, 0,
                    .trigger_iopf = {.dev_id = idev, .pasid = pasid, .grpid = 2,
                                     .perm = IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE,
                                     .addr = address});
}

long trigger_vevent(uint32_t idev)
{
    return run_test(&TRIGGER_VEVENT, IOMMU_TEST_OP_TRIGGER_VEVENT, 0,
                    .trigger_vevent = {.dev_id = idev});
}

long pasid_attach(uint32_t stdev, uint32_t pasid, uint32_t pt)
{
    return run_test(&PASID_ATTACH, IOMMU_TEST_OP_PASID_ATTACH, stdev,
                    .pasid_attach = {.pasid = pasid, .pt_id = pt});
}

long pasid_replace(uint32_t stdev, uint32_t pasid, uint32_t pt)
{
    return run_test(&PASID_REPLACE, IOMMU_TEST_OP_PASID_REPLACE, stdev,
                    .pasid_replace = {.pasid = pasid, .pt_id = pt});
}

long pasid_detach(uint32_t stdev, uint32_t pasid)
{
    return run_test(&PASID_DETACH, IOMMU_TEST_OP_PASID_DETACH, stdev,
                    .pasid_detach = {.pasid = pasid});
}

long pasid_check(uint32_t stdev, uint32_t pasid, uint32_t hwpt)
{
    return run_test(&PASID_CHECK, IOMMU_TEST_OP_PASID_CHECK_HWPT, stdev,
                    .pasid_check = {.pasid = pasid, .hwpt_id = hwpt});
}
