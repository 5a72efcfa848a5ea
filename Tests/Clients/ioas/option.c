/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OPTION: RLIMIT_MODE selects how pinned pages are accounted, and can be set before the first
 * object exists. HUGE_PAGES enables large I/O page table entries of an IOAS; without it all
 * mappings are aligned to a page.
 */
#include "transcript/ioas.h"

#include <sys/syscall.h>
#include <linux/capability.h>

enum { SET = IOMMU_OPTION_OP_SET, GET = IOMMU_OPTION_OP_GET };
enum { MODE = IOMMU_OPTION_RLIMIT_MODE, HUGE = IOMMU_OPTION_HUGE_PAGES };

static void test_rlimit_mode(void)
{
    option(MODE, GET, 0, 0x55);
    option(MODE, SET, 0, 1);
    option(MODE, GET, 0, 0);
    option(MODE, SET, 0, 2);
    option(MODE, SET, 0, UINT64_MAX);
    option(MODE, GET, 0, 0);
    option(MODE, SET, 0, 0);
    option(MODE, GET, 0, 7);
    option(MODE, 2, 0, 0);
    option(MODE, 0xffff, 0, 0);
    option(MODE, GET, 1, 0);
    option(MODE, SET, 1, 1);
    option(MODE, 2, 1, 0);

    section("RLIMIT_MODE with objects");
    uint32_t ioas = ioas_alloc();
    option(MODE, SET, 0, 1);
    option(MODE, SET, 0, 2);
    option(MODE, GET, 0, 0);
    destroy(ioas);
    option(MODE, SET, 0, 1);
    option(MODE, GET, 0, 0);
}

static void test_huge_pages(void)
{
    uint32_t ioas = ioas_alloc();

    option(HUGE, GET, ioas, 0x55);
    print_iova_ranges(ioas);
    option(HUGE, SET, ioas, 0);
    option(HUGE, GET, ioas, 0x55);
    print_iova_ranges(ioas);
    option(HUGE, SET, ioas, 0);
    option(HUGE, SET, ioas, 2);
    option(HUGE, SET, ioas, UINT64_MAX);
    option(HUGE, SET, ioas, 1);
    option(HUGE, SET, ioas, 1);
    option(HUGE, GET, ioas, 0);
    option(HUGE, 2, ioas, 0);
    option(HUGE, GET, 0, 0);
    option(HUGE, GET, ioas + 1, 0);
    option(HUGE, SET, 99, 2);
    option(HUGE, 2, 99, 2);

    section("HUGE_PAGES with areas that are not page-aligned");
    map(ioas, 0, PAGE, FIXED | R, 0x10000);
    option(HUGE, SET, ioas, 0);
    option(HUGE, SET, ioas, 1);
    map(ioas, 0, 1, FIXED | R, 0x20000);
    option(HUGE, SET, ioas, 0);
    option(HUGE, GET, ioas, 0);
    print_iova_ranges(ioas);
    unmap(ioas, 0x20000, 1);
    map(ioas, 0, PAGE, FIXED | R, 0x20800);
    option(HUGE, SET, ioas, 0);
    unmap(ioas, 0x20800, PAGE);
    map(ioas, 0x800, PAGE, FIXED | R, 0x20000);
    option(HUGE, SET, ioas, 0);
    unmap(ioas, 0x20000, PAGE);
    option(HUGE, SET, ioas, 0);
    map(ioas, 0, 1, FIXED | R, 0x20000);
    option(HUGE, SET, ioas, 1);
    map(ioas, 0, 1, FIXED | R, 0x20000);
}

static void test_unknown_options(void)
{
    struct iommu_option cmd = {.size = sizeof(cmd), .op = GET, .__reserved = 1, .val64 = 9};

    option(2, GET, 0, 0);
    option(0xffffffff, SET, 1, 0);
    run(&OPTION, &cmd);
    cmd.option_id = HUGE;
    cmd.object_id = 99;
    run(&OPTION, &cmd);
    cmd.option_id = 77;
    run(&OPTION, &cmd);
}

/** GET writes back only the value, so only the value must be writable. */
static void test_unwritable_answer(void)
{
    unsigned char *pages = map_region_at("pages", 0x200000000000, 2 * PAGE, PROT_READ | PROT_WRITE);
    struct iommu_option *cmd = (void *)(pages + PAGE - offsetof(struct iommu_option, val64));
    uint32_t ioas = ioas_alloc();

    section("an answer that cannot be stored: the option is set all the same");
    *cmd = (struct iommu_option){
        .size = sizeof(*cmd), .option_id = HUGE, .op = SET, .object_id = ioas, .val64 = 0};
    mprotect(pages + PAGE, PAGE, PROT_READ);
    run(&OPTION, cmd);
    option(HUGE, GET, ioas, 0x55);
    section("the value can be stored, the rest could not");
    mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE);
    cmd->val64 = 0x55;
    cmd->op = GET;
    mprotect(pages, PAGE, PROT_READ);
    run(&OPTION, cmd);
}

/** Removes CAP_SYS_RESOURCE from the effective set. Returns 0, also when it was not in the set. */
static int drop_sys_resource(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data))
        return -1;
    data[0].effective &= ~(1U << CAP_SYS_RESOURCE);
    return (int)syscall(SYS_capset, &header, data);
}

int main(void)
{
    begin("option: RLIMIT_MODE");
    test_rlimit_mode();
    reopen("HUGE_PAGES");
    test_huge_pages();
    reopen("unknown options");
    test_unknown_options();
    test_unwritable_answer();
    reopen("without CAP_SYS_RESOURCE");
    printf("capset -> %d\n", drop_sys_resource());
    option(MODE, SET, 0, 1);
    option(MODE, SET, 0, 2);
    option(MODE, SET, 1, 1);
    option(MODE, GET, 0, 0x55);
    option(MODE, 2, 0, 0);
    option(HUGE, SET, ioas_alloc(), 0);
    option(MODE, SET, 0, 1);
    return 0;
}
