/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VFIO_DEVICE_SET_IRQS: every combination of its flags, and the effect on each kind of interrupt.
 */
#include "vfio/vfio_client.h"

static void test_arguments(void)
{
    static const uint32_t sizes[] = {0, 16, 19, 20, 23, 24, 100, UINT32_MAX};
    struct vfio_irq_set cmd = {.argsz = 24, .flags = EVENT | TRIGGER, .count = 1};
    static const struct command SET = {
        "SET_IRQS", VFIO_DEVICE_SET_IRQS, sizeof(struct vfio_irq_set), 20, NULL, {{0}}};

    vector_count = 0;
    for (size_t i = 0; i != COUNT(sizes); i++)
        set_irqs(sizes[i], EVENT | TRIGGER, 0, 0, 1, 1, 1000);
    for (uint32_t flag = 1 << 6; flag; flag <<= 1)
        set_irqs(0, flag | EVENT | TRIGGER, 0, 0, 1, 1, -1);
    for (uint32_t index = 0; index != 7; index++)
        set_irqs(0, NONE | TRIGGER, index, 0, 0, 0);
    set_irqs(0, NONE | TRIGGER, UINT32_MAX, 0, 0, 0);
    for (uint32_t start = 0; start != 3; start++)
        for (uint32_t count = 0; count != 3; count++)
            set_irqs(0, BOOL | TRIGGER, 0, start, count, 2, 0, 0);
    set_irqs(0, NONE | TRIGGER, 0, UINT32_MAX, 1, 0);
    set_irqs(0, NONE | TRIGGER, 0, 1, UINT32_MAX, 0);
    set_irqs(0, NONE | TRIGGER, 0, 0, UINT32_MAX - 1, 0);
    set_irqs(0, NONE | TRIGGER, 0, 0, UINT32_MAX, 0);
    section("data and actions");
    for (uint32_t index = 0; index != 5; index++)
        for (uint32_t action = 0; action <= (MASK | UNMASK | TRIGGER); action += MASK)
            for (uint32_t data = 0; data != 8; data++)
                set_irqs(24, action | data, index, 0, 1, 1, -1);
    run_protected(&SET, &cmd, PROT_NONE);
    run_cut(&SET, &cmd, 16);
    run_cut(&SET, &cmd, 20);
    cmd.flags = BOOL | TRIGGER;
    run_cut(&SET, &cmd, 20);
    cmd.flags = NONE | TRIGGER;
    run_cut(&SET, &cmd, 20);
}

static void test_intx(void)
{
    vector_count = 1;
    section("INTx");
    set_irqs(0, EVENT | TRIGGER, 0, 0, 1, 1, 1000);
    set_irqs(0, EVENT | TRIGGER, 0, 0, 1, 1, name_fd("iommufd", iommufd));
    set_irqs(0, NONE | MASK, 0, 0, 1, 0);
    set_irqs(0, NONE | UNMASK, 0, 0, 1, 0);
    set_irqs(0, EVENT | TRIGGER, 0, 0, 1, 1, eventfds[0]);
    set_irqs(0, NONE | TRIGGER, 0, 0, 1, 0);
    set_irqs(0, BOOL | TRIGGER, 0, 0, 1, 1, 0);
    set_irqs(0, BOOL | TRIGGER, 0, 0, 1, 1, 1);
    set_irqs(0, BOOL | TRIGGER, 0, 0, 1, 1, 255);
    set_irqs(0, EVENT | TRIGGER, 0, 0, 1, 1, eventfds[1]);
    set_irqs(0, NONE | TRIGGER, 0, 0, 1, 0);
    set_irqs(0, EVENT | TRIGGER, 0, 0, 1, 1, 1000);
    set_irqs(0, NONE | TRIGGER, 0, 0, 1, 0);
    set_irqs(0, EVENT | TRIGGER, 0, 0, 1, 1, -1);
    set_irqs(0, NONE | TRIGGER, 0, 0, 1, 0);
    set_irqs(0, EVENT | TRIGGER, 0, 0, 1, 1, INT32_MIN);
    set_irqs(0, EVENT | TRIGGER, 0, 0, 1, 1, eventfds[0]);
    set_irqs(0, NONE | MASK, 0, 0, 1, 0);
    set_irqs(0, NONE | TRIGGER, 0, 0, 1, 0);
    set_irqs(0, NONE | UNMASK, 0, 0, 1, 0);
    set_irqs(0, BOOL | MASK, 0, 0, 1, 1, 1);
    set_irqs(0, BOOL | UNMASK, 0, 0, 1, 1, 1);
    set_irqs(0, BOOL | MASK, 0, 0, 1, 1, 0);
    set_irqs(0, EVENT | MASK, 0, 0, 1, 1, eventfds[2]);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, eventfds[2]);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, eventfds[1]);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, 1000);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, iommufd);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, -1);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, -1);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, eventfds[1]);
    set_irqs(0, NONE | MASK, 0, 0, 0, 0);
    set_irqs(0, NONE | UNMASK, 0, 0, 0, 0);
    printf("an eventfd that nobody has open any more does not unmask\n");
    int unmasking = name_fd("unmasking", eventfd(0, EFD_CLOEXEC)), copy = dup(unmasking);

    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, -1);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, unmasking);
    close(unmasking);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, eventfds[1]);
    close(copy);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, eventfds[1]);
    set_irqs(0, EVENT | UNMASK, 0, 0, 1, 1, eventfds[1]);
    printf("the others while INTx is enabled\n");
    set_irqs(0, EVENT | TRIGGER, 1, 0, 1, 1, eventfds[1]);
    set_irqs(0, EVENT | TRIGGER, 2, 0, 1, 1, eventfds[1]);
    set_irqs(0, NONE | TRIGGER, 2, 0, 0, 0);
    printf("the client's interrupt disable bit\n");
    uint16_t command = 0, saved = 0;

    if (pread(device_fd, &saved, 2, CONFIG + 4) != 2)
        exit(2);
    command = saved | 0x400;
    printf("pwrite");
    print_result(pwrite(device_fd, &command, 2, CONFIG + 4));
    command = 0;
    printf(", pread");
    print_result(pread(device_fd, &command, 2, CONFIG + 4));
    printf(" | %#x\n", command & 0x406);
    set_irqs(0, NONE | TRIGGER, 0, 0, 1, 0);
    set_irqs(0, NONE | UNMASK, 0, 0, 1, 0);
    printf("pwrite");
    print_result(pwrite(device_fd, &saved, 2, CONFIG + 4));
    printf("\n");
    set_irqs(0, NONE | TRIGGER, 0, 0, 1, 0);
    set_irqs(0, BOOL | TRIGGER, 0, 0, 0, 0);
    set_irqs(0, NONE | TRIGGER, 0, 0, 0, 0);
    set_irqs(0, NONE | TRIGGER, 0, 0, 0, 0);
}

static void write_msi_control(uint8_t id, uint16_t value, uint16_t mask)
{
    unsigned position;

    if (!find_capability(id, &position))
        exit(2);
    printf("pwrite %#x", value);
    print_result(pwrite(device_fd, &value, 2, CONFIG + position + 2));
    printf(", ");
    print_msi_control(id, mask);
}

static void test_msi(uint32_t index)
{
    uint8_t id = index == 1 ? 5 : 0x11;
    uint16_t mask = index == 1 ? 0xf1 : 0xc000;

    vector_count = irq_info(16, index, true);
    section(index == 1 ? "MSI" : "MSI-X");
    print_msi_control(id, mask);
    write_msi_control(id, 0xc071, mask);
    set_irqs(0, NONE | TRIGGER, index, 0, 0, 0);
    set_irqs(0, NONE | TRIGGER, index, 0, 1, 0);
    set_irqs(0, BOOL | TRIGGER, index, 0, 1, 1, 1);
    set_irqs(0, EVENT | TRIGGER, index, 0, 0, 0);
    set_irqs(0, EVENT | TRIGGER, index, vector_count, 1, 1, eventfds[0]);
    set_irqs(0, EVENT | TRIGGER, index, vector_count - 1, 2, 2, eventfds[0], eventfds[1]);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, 1000);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, iommufd);
    print_msi_control(id, mask);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, -1);
    print_msi_control(id, mask);
    set_irqs(0, NONE | TRIGGER, index, 0, 1, 0);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, eventfds[0]);
    set_irqs(0, NONE | TRIGGER, index, 0, 1, 0);
    set_irqs(0, NONE | TRIGGER, index, 0, 1, 0);
    set_irqs(0, NONE | TRIGGER, index, 0, vector_count, 0);
    set_irqs(0, BOOL | TRIGGER, index, 0, 1, 1, 0);
    set_irqs(0, BOOL | TRIGGER, index, 0, 1, 1, 7);
    set_irqs(0, BOOL | TRIGGER, index, 0, 2, 1, 7);
    set_irqs(0, NONE | TRIGGER, index, 0, vector_count + 1, 0);
    set_irqs(0, NONE | MASK, index, 0, 1, 0);
    set_irqs(0, NONE | UNMASK, index, 0, 1, 0);
    write_msi_control(id, 0xc071, mask);
    write_msi_control(id, 0, mask);
    write_msi_control(id, 1, mask);
    printf("another vector\n");
    set_irqs(0, EVENT | TRIGGER, index, 1, 1, 1, eventfds[1]);
    set_irqs(0, NONE | TRIGGER, index, 0, 3, 0);
    set_irqs(0, EVENT | TRIGGER, index, 0, 3, 3, eventfds[0], eventfds[1], eventfds[2]);
    set_irqs(0, NONE | TRIGGER, index, 0, 3, 0);
    set_irqs(0, EVENT | TRIGGER, index, 0, 2, 2, -1, eventfds[2]);
    set_irqs(0, NONE | TRIGGER, index, 0, 3, 0);
    set_irqs(0, EVENT | TRIGGER, index, 0, 2, 2, eventfds[0], 1000);
    set_irqs(0, NONE | TRIGGER, index, 0, 3, 0);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, eventfds[0]);
    set_irqs(0, EVENT | TRIGGER, index, 0, 0, 0);
    printf("the others while it is enabled\n");
    set_irqs(0, EVENT | TRIGGER, 0, 0, 1, 1, eventfds[1]);
    set_irqs(0, EVENT | TRIGGER, 3 - index, 0, 1, 1, eventfds[1]);
    set_irqs(0, NONE | TRIGGER, 0, 0, 0, 0);
    set_irqs(0, NONE | MASK, 0, 0, 1, 0);
    set_irqs(0, NONE | TRIGGER, index, 1, 0, 0);
    print_msi_control(id, mask);
    set_irqs(0, NONE | TRIGGER, index, 0, 0, 0);
    printf("enabled from the second vector on\n");
    if (index == 2) {
        set_irqs(0, EVENT | TRIGGER, index, 1, 0, 0);
        set_irqs(0, EVENT | TRIGGER, index, vector_count - 1, 1, 1, eventfds[2]);
        set_irqs(0, NONE | TRIGGER, index, 0, vector_count, 0);
        set_irqs(0, NONE | TRIGGER, index, 0, 0, 0);
    }
}

static void test_single_vector(uint32_t index)
{
    vector_count = 1;
    section(index == VFIO_PCI_ERR_IRQ_INDEX ? "ERR" : "REQ");
    set_irqs(0, NONE | TRIGGER, index, 0, 0, 0);
    set_irqs(0, NONE | TRIGGER, index, 0, 1, 0);
    set_irqs(0, BOOL | TRIGGER, index, 0, 1, 1, 1);
    set_irqs(0, BOOL | TRIGGER, index, 0, 0, 0);
    set_irqs(0, EVENT | TRIGGER, index, 0, 0, 0);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, -1);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, -2);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, 1000);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, iommufd);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, eventfds[0]);
    set_irqs(0, NONE | TRIGGER, index, 0, 1, 0);
    set_irqs(0, BOOL | TRIGGER, index, 0, 1, 1, 1);
    set_irqs(0, BOOL | TRIGGER, index, 0, 1, 1, 0);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, 1000);
    set_irqs(0, EVENT | TRIGGER, index, 0, 1, 1, eventfds[1]);
    set_irqs(0, NONE | TRIGGER, index, 0, 1, 0);
    set_irqs(0, NONE | MASK, index, 0, 1, 0);
    set_irqs(0, NONE | TRIGGER, index, 0, 0, 0);
    set_irqs(0, NONE | TRIGGER, index, 0, 1, 0);
}

int main(void)
{
    begin_bound("SET_IRQS: the header");
    test_arguments();
    test_intx();
    test_msi(1);
    test_msi(2);
    test_single_vector(VFIO_PCI_ERR_IRQ_INDEX);
    test_single_vector(VFIO_PCI_REQ_IRQ_INDEX);
    return 0;
}
