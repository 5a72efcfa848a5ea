/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that arrive late. While one call waits for a page of the client, the client makes other
 * calls: those that do not wait in the kernel on the main thread, which alone can supply the page,
 * those that wait there on threads of their own.
 */
#include "late/late.h"
#include "mock/mock.h"

#include "transcript/type1.h"

enum { PIN = MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES, SLOW = MOCK_ACCESS_RW_SLOW_PATH };
enum { LATE = 0x220000000000, AREA = MOCK_START + 0x10000, FREE = MOCK_START + 0x40000 };

static const struct command UNMAP_DMA = TYPE1_UNMAP_AS("UNMAP_DMA");

static void begin_map(struct background *call, uint32_t ioas, const void *memory, size_t pages,
                      uint64_t iova)
{
    struct iommu_ioas_map cmd =
        map_arguments(ioas, (uintptr_t)memory, pages * PAGE, FIXED | R | W, iova);

    begin_call(call, &IOAS_MAP, &cmd);
}

static void begin_unmap(struct background *call, uint32_t ioas, uint64_t iova, uint64_t length)
{
    struct iommu_ioas_unmap cmd = {sizeof(cmd), ioas, iova, length};

    begin_call(call, &IOAS_UNMAP, &cmd);
}

static void begin_hwpt_alloc(struct background *call, uint32_t device, uint32_t ioas)
{
    struct iommu_hwpt_alloc cmd = {.size = sizeof(cmd), .dev_id = device, .pt_id = ioas};

    begin_call(call, &HWPT_ALLOC, &cmd);
}

static void unmap_dma(uint64_t iova, uint64_t size)
{
    struct vfio_iommu_type1_dma_unmap cmd = {.argsz = sizeof(cmd), .iova = iova, .size = size};

    run(&UNMAP_DMA, &cmd);
}

static void test_map(void)
{
    uint32_t ioas = ioas_alloc(), other = ioas_alloc(), scratch;
    unsigned char *late = late_memory("late", LATE, 4);
    int access = create_access("access", ioas, 0), pins = create_access("pins", ioas, PIN);
    struct mock_device device;
    struct background call, second;

    mock_domain(ioas, &device);
    map(ioas, (uintptr_t)buffer, 2 * PAGE, FIXED | R | W, MOCK_START);
    vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas);
    begin_map(&call, ioas, late, 2, AREA);
    await_fault();
    section("the area that is being mapped");
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, AREA + PAGE);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, FREE);
    map(ioas, (uintptr_t)buffer, PAGE, R, 0);
    unmap(ioas, AREA, 2 * PAGE);
    unmap(ioas, AREA, PAGE);
    unmap(ioas, MOCK_START, AREA + PAGE - MOCK_START);
    copy(other, ioas, AREA, PAGE, FIXED | R, MOCK_START);
    copy(other, ioas, FREE, PAGE, FIXED | R, MOCK_START);
    check_map(device.hwpt, AREA, PAGE, buffer);
    check_map(device.hwpt, FREE, PAGE, buffer);
    access_rw(access, AREA, 8, buffer, 0);
    access_rw(access, FREE, 8, buffer, 0);
    access_pages(pins, AREA, PAGE, NULL, 0);
    access_pages(pins, FREE, PAGE, buffer, 0);
    unmap(ioas, FREE, PAGE);
    add_reserved(ioas, AREA, PAGE);
    add_reserved(ioas, AREA + 0x8000, PAGE);
    unmap_dma(AREA, PAGE);
    unmap_dma(AREA, 2 * PAGE);
    section("and other objects");
    destroy(ioas);
    scratch = ioas_alloc();
    map(scratch, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    unmap(scratch, 0, UINT64_MAX);
    destroy(scratch);
    print_iova_ranges(ioas);
    option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_GET, ioas, 0);
    run(&IOAS_CHANGE_PROCESS, &(struct iommu_ioas_change_process){.size = 8});
    section("the pages arrive");
    supply(late, 2);
    end_call(&call);
    check_map(device.hwpt, AREA, 2 * PAGE, late);
    check_refs(late, 2 * PAGE, 1);
    unmap(ioas, AREA, 2 * PAGE);
    check_refs(late, 2 * PAGE, 0);
    section("two calls wait for the same pages");
    begin_map(&call, ioas, late + 2 * PAGE, 2, AREA);
    await_fault();
    begin_map(&second, ioas, late + 2 * PAGE, 2, FREE);
    let_wait();
    supply(late + 2 * PAGE, 2);
    end_call(&call);
    end_call(&second);
    check_refs(late + 2 * PAGE, 2 * PAGE, 2);
    check_map(device.hwpt, AREA, 2 * PAGE, late + 2 * PAGE);
    check_map(device.hwpt, FREE, 2 * PAGE, late + 2 * PAGE);
    close(access);
    close(pins);
}

static void test_map_that_fails(void)
{
    uint32_t ioas = ioas_alloc();
    unsigned char *late = late_memory("late", LATE, 2);
    struct mock_device device;
    struct background call;

    mock_domain(ioas, &device);
    begin_map(&call, ioas, late, 2, AREA);
    await_fault();
    unmap(ioas, AREA, 2 * PAGE);
    forget(late, 2);
    end_call(&call);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R, AREA);
    unmap(ioas, AREA, PAGE);
    destroy(device.stdev);
    destroy(ioas);
}

static void test_copy(void)
{
    uint32_t from = ioas_alloc(), to = ioas_alloc();
    unsigned char *late = late_memory("late", LATE, 2);
    struct mock_device device;
    struct background call, end;
    struct iommu_ioas_copy cmd = {.size = sizeof(cmd), .flags = FIXED | R | W, .dst_ioas_id = to,
                                  .src_ioas_id = from, .length = 2 * PAGE, .dst_iova = AREA};

    mock_domain(to, &device);
    map(from, (uintptr_t)late, 2 * PAGE, FIXED | R | W, 0);
    begin_call(&call, &IOAS_COPY, &cmd);
    await_fault();
    copy(to, from, 0, PAGE, FIXED | R, AREA + PAGE);
    unmap(to, AREA, 2 * PAGE);
    destroy(to);
    begin_call(&end, &DESTROY, &(struct iommu_destroy){sizeof(struct iommu_destroy), from});
    let_wait();
    supply(late, 2);
    end_call(&call);
    end_call(&end);
    check_map(device.hwpt, AREA, 2 * PAGE, late);
    check_refs(late, 2 * PAGE, 1);
    unmap(to, AREA, 2 * PAGE);
    check_refs(late, 2 * PAGE, 0);
}

static void test_domains(void)
{
    uint32_t ioas = ioas_alloc(), home = ioas_alloc(), other;
    unsigned char *late = late_memory("late", LATE, 2);
    struct mock_device device, second;
    struct background call, mapping, unmapping;
    struct iommu_test_cmd attach = test_command(IOMMU_TEST_OP_MOCK_DOMAIN, ioas);

    mock_domain(home, &device);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    map(ioas, (uintptr_t)buffer + PAGE, PAGE, FIXED | R | W, FREE);
    map(ioas, (uintptr_t)late, 2 * PAGE, FIXED | R | W, AREA);
    section("a domain is being filled");
    begin_hwpt_alloc(&call, device.idev, ioas);
    await_fault();
    destroy(ioas);
    other = ioas_alloc();
    map(other, (uintptr_t)buffer, PAGE, FIXED | R | W, AREA);
    destroy(other);
    map(home, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    begin_map(&mapping, ioas, buffer + 2 * PAGE, 1, MOCK_START + PAGE);
    begin_unmap(&unmapping, ioas, FREE, PAGE);
    let_wait();
    supply(late, 2);
    end_call(&call);
    end_call(&mapping);
    end_call(&unmapping);
    other = ((struct iommu_hwpt_alloc *)call.argument)->out_hwpt_id;
    check_map(other, MOCK_START, PAGE, buffer);
    check_map(other, MOCK_START + PAGE, PAGE, buffer + 2 * PAGE);
    check_map(other, FREE, PAGE, buffer + PAGE);
    check_map(other, AREA, 2 * PAGE, late);
    check_refs(late, 2 * PAGE, 1);
    destroy(other);
    check_refs(late, 2 * PAGE, 0);
    section("a domain that cannot be filled");
    unmap(ioas, 0, UINT64_MAX);
    forget(late, 2);
    late = late_memory("late", LATE, 2);
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    map(ioas, (uintptr_t)late, 2 * PAGE, FIXED | R | W, AREA);
    begin_hwpt_alloc(&call, device.idev, ioas);
    await_fault();
    begin_map(&mapping, ioas, buffer + 2 * PAGE, 1, MOCK_START + PAGE);
    let_wait();
    forget(late, 2);
    end_call(&call);
    end_call(&mapping);
    check_refs(buffer, PAGE, 1);
    check_refs(buffer + 2 * PAGE, PAGE, 0);
    unmap(ioas, AREA, 2 * PAGE);
    section("two devices are attached");
    late = late_memory("late", LATE, 2);
    map(ioas, (uintptr_t)late, 2 * PAGE, FIXED | R | W, AREA);
    begin_call(&call, &MOCK_DOMAIN, &attach);
    await_fault();
    begin_call(&mapping, &MOCK_DOMAIN, &attach);
    let_wait();
    supply(late, 2);
    end_call(&call);
    end_call(&mapping);
    mock_domain(ioas, &second);
    check_map(second.hwpt, AREA, 2 * PAGE, late);
    check_refs(late, 2 * PAGE, 1);
}

static void test_accesses(void)
{
    uint32_t ioas = ioas_alloc(), other = ioas_alloc();
    unsigned char *late = late_memory("late", LATE, 6);
    int access = create_access("access", ioas, 0), pins = create_access("pins", ioas, PIN);
    struct iommu_test_cmd pin = test_command(IOMMU_TEST_OP_ACCESS_PAGES, (uint32_t)pins),
                          transfer = test_command(IOMMU_TEST_OP_ACCESS_RW, (uint32_t)access);
    struct background call, unmapping;

    pin.access_pages.iova = AREA;
    pin.access_pages.length = 2 * PAGE;
    transfer.access_rw.iova = AREA;
    transfer.access_rw.length = 2 * PAGE;
    transfer.access_rw.uptr = (uintptr_t)buffer;
    transfer.access_rw.flags = SLOW;
    map(ioas, (uintptr_t)buffer, PAGE, FIXED | R | W, MOCK_START);
    map(ioas, (uintptr_t)late, 2 * PAGE, FIXED | R | W, AREA);
    section("a pin");
    begin_call(&call, &ACCESS_PAGES, &pin);
    await_fault();
    access_rw(access, MOCK_START, 8, buffer, 0);
    copy(other, ioas, AREA, PAGE, FIXED | R, MOCK_START);
    print_iova_ranges(ioas);
    destroy(ioas);
    supply(late, 2);
    end_call(&call);
    check_refs(late, 2 * PAGE, 1);
    destroy_access_pages(pins, 0);
    section("the area is unmapped meanwhile");
    unmap(ioas, AREA, 2 * PAGE);
    unmap(other, 0, UINT64_MAX);
    map(ioas, (uintptr_t)late + 2 * PAGE, 2 * PAGE, FIXED | R | W, AREA);
    begin_call(&call, &ACCESS_PAGES, &pin);
    await_fault();
    begin_unmap(&unmapping, ioas, AREA, 2 * PAGE);
    let_wait();
    supply(late + 2 * PAGE, 2);
    end_call(&call);
    end_call(&unmapping);
    check_refs(late + 2 * PAGE, 2 * PAGE, 0);
    destroy_access_pages(pins, 1);
    section("a copy");
    map(ioas, (uintptr_t)late + 4 * PAGE, 2 * PAGE, FIXED | R | W, AREA);
    begin_call(&call, &ACCESS_RW, &transfer);
    await_fault();
    print_iova_ranges(ioas);
    begin_unmap(&unmapping, ioas, AREA, 2 * PAGE);
    let_wait();
    supply(late + 4 * PAGE, 2);
    end_call(&call);
    end_call(&unmapping);
    check_refs(late + 4 * PAGE, 2 * PAGE, 0);
}

int main(void)
{
    part = "mock";
    alarm(300);
    late_open();
    begin("a mapping");
    make_buffer(16);
    memset(buffer, 1, 16 * PAGE);
    test_map();
    forget((unsigned char *)LATE, 4);
    reopen("a mapping that fails");
    test_map_that_fails();
    reopen("a copy of a mapping");
    test_copy();
    forget((unsigned char *)LATE, 2);
    reopen("domains");
    test_domains();
    forget((unsigned char *)LATE, 2);
    reopen("accesses");
    test_accesses();
}
