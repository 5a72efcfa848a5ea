/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structs across two pages, cut at every byte by a hole, in read-only memory, in a shared file, in
 * untouched memory, and at unaligned addresses.
 *
 * A struct that cannot be read is refused before the command has an effect. A struct that cannot be
 * written is noticed when the answer is stored, after the effect.
 */
#include "transcript/ioas.h"

static unsigned char *pages; /* two pages */
static uint32_t ioas;

struct valid {
    const struct command *command;
    unsigned char bytes[64];
};

/** Fills in a struct for each command with which it succeeds. Returns their number. */
static size_t fill(struct valid *list)
{
    size_t count = 0;
#define VALID(name, type, ...)                                                            \
    do {                                                                                  \
        struct type cmd = {.size = sizeof(cmd), __VA_ARGS__};                             \
        list[count].command = &name;                                                      \
        memcpy(list[count++].bytes, &cmd, sizeof(cmd));                                   \
    } while (0)
    VALID(IOAS_ALLOC, iommu_ioas_alloc, .flags = 0);
    VALID(DESTROY, iommu_destroy, .id = 2);
    VALID(IOAS_MAP, iommu_ioas_map, .flags = R, .ioas_id = ioas, .length = PAGE);
    VALID(IOAS_COPY, iommu_ioas_copy, .flags = R, .dst_ioas_id = ioas, .src_ioas_id = ioas,
          .length = PAGE, .src_iova = 0x1000);
    VALID(IOAS_UNMAP, iommu_ioas_unmap, .ioas_id = ioas, .iova = 0, .length = UINT64_MAX);
    VALID(IOAS_IOVA_RANGES, iommu_ioas_iova_ranges, .ioas_id = ioas);
    VALID(IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, .ioas_id = ioas);
    VALID(OPTION, iommu_option, .option_id = IOMMU_OPTION_HUGE_PAGES, .op = 1, .object_id = ioas);
    VALID(VFIO_IOAS, iommu_vfio_ioas, .op = IOMMU_VFIO_IOAS_SET, .ioas_id = ioas);
    VALID(VFIO_IOAS, iommu_vfio_ioas, .op = IOMMU_VFIO_IOAS_GET);
    VALID(IOAS_CHANGE_PROCESS, iommu_ioas_change_process, .__reserved = 0);
#undef VALID
    return count;
}

static void run_at(const struct valid *valid, unsigned char *where, const char *what)
{
    memcpy(where, valid->bytes, valid->command->size);
    printf("%s: ", what);
    run(valid->command, where);
}

static void test_everywhere(struct valid *list, size_t count, unsigned char *base, const char *what)
{
    section("%s", what);
    for (size_t i = 0; i != count; i++)
        run_at(&list[i], base, "aligned");
    for (size_t i = 0; i != count; i++)
        run_at(&list[i], base + 1, "unaligned");
}

static void test_across_pages(struct valid *list, size_t count)
{
    char what[32];

    section("across two pages, split at every byte");
    for (size_t i = 0; i != count; i++)
        for (unsigned first = 1; first < list[i].command->size; first += 3) {
            snprintf(what, sizeof(what), "%u bytes in the first", first);
            run_at(&list[i], pages + PAGE - first, what);
        }
}

/** Structs on two pages of which one is read-only. */
static void test_half_writable(struct valid *list, size_t count)
{
    section("the second page is read-only");
    for (size_t i = 0; i != count; i++) {
        const struct command *command = list[i].command;

        for (unsigned first = 1; first <= command->size; first += command->size / 4) {
            unsigned char *where = pages + PAGE - first;

            memcpy(where, list[i].bytes, command->size);
            mprotect(pages + PAGE, PAGE, PROT_READ);
            printf("%u bytes writable: ", first);
            run(command, where);
            mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE);
        }
    }
    section("the first page is read-only");
    for (size_t i = 0; i != count; i++) {
        const struct command *command = list[i].command;
        unsigned char *where = pages + PAGE - 8;

        memcpy(where, list[i].bytes, command->size);
        mprotect(pages, PAGE, PROT_READ);
        run(command, where);
        mprotect(pages, PAGE, PROT_READ | PROT_WRITE);
    }
}

static void test_cut_off(struct valid *list, size_t count)
{
    section("cut off by a hole");
    for (size_t i = 0; i != count; i++) {
        const struct command *command = list[i].command;

        for (unsigned there = 0; there < command->size; there++) {
            unsigned char *where = pages + PAGE - there;

            memcpy(where, list[i].bytes, there);
            mprotect(pages + PAGE, PAGE, PROT_NONE);
            run_raw(command->request, (uintptr_t)where, "%s, %u of %u bytes", command->name, there,
                    command->size);
            mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE);
        }
    }
}

static void *shared_file(void)
{
    int fd = memfd_create("struct", 0);

    if (fd < 0 || ftruncate(fd, PAGE))
        exit(2);
    return mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

int main(void)
{
    struct valid list[16];
    unsigned char *file;
    size_t count;

    begin("pointers");
    pages = map_region_at("pages", 0x200000000000, 2 * PAGE, PROT_READ | PROT_WRITE);
    ioas = ioas_alloc();
    count = fill(list);
    map(ioas, 0, PAGE, FIXED | R, 0x1000);
    test_everywhere(list, count, pages, "in private memory");
    file = shared_file();
    test_everywhere(list, count, file, "in a shared file");
    test_everywhere(list, count,
                    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
                    "in shared anonymous memory");
    test_across_pages(list, count);
    test_half_writable(list, count);
    test_cut_off(list, count);

    section("beyond the end of a file");
    for (size_t i = 0; i != count; i++)
        run_raw(list[i].command->request, (uintptr_t)file + PAGE, "%s", list[i].command->name);
    section("in memory that was never touched, on the stack");
    pages = map_region_at("untouched", 0x230000000000, PAGE, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i != count; i++)
        run_raw(list[i].command->request, (uintptr_t)pages, "%s", list[i].command->name);
    unsigned char stack[64];
    for (size_t i = 0; i != count; i++)
        run_at(&list[i], stack, "stack");
    return 0;
}
