/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page requests: the HWPT whose fault queue gets a request, reading and answering requests, and the
 * requests that wait when the device is attached to another HWPT.
 */
#include "mock/mock.h"

static void respond(int queue, uint32_t cookie, uint32_t code)
{
    struct iommu_hwpt_page_response response = {.cookie = cookie, .code = code};

    write_words(queue, &response, sizeof(response));
}

static void test_read_and_answer(void)
{
    struct iommu_hwpt_page_response three[3] = {{.cookie = 2}, {.cookie = 77}, {.cookie = 3}};
    unsigned char *edge = buffer + PAGE - 60; /* the next page is unmapped */
    struct mock_device device;
    uint32_t ioas = ioas_alloc(), fault, hwpt;
    int queue = -1;

    mock_domain(ioas, &device);
    fault = fault_queue_alloc("queue", &queue);
    hwpt = hwpt_alloc_with(device.idev, ioas, FAULTS, 0, NULL, 0, fault);
    section("nothing there");
    poll_queue(queue);
    read_words(queue, buffer, 0);
    read_words(queue, buffer, 39);
    read_words(queue, buffer, 40);
    trigger_iopf(device.idev, 0, 0x1000);
    trigger_iopf(99, 0, 0x1000);
    trigger_iopf(device.stdev, 0, 0x1000);
    read_words(queue, buffer, 40);
    section("requests go to what the device is attached to");
    mock_replace(device.stdev, hwpt);
    for (uint64_t address = 1; address != 4; address++)
        trigger_iopf(device.idev, 0, address);
    poll_queue(queue);
    read_words(queue, buffer, 0);
    read_words(queue, buffer, 41);
    read_words(queue, (void *)8, 40);
    read_words(queue, buffer, 40);
    read_words(queue, buffer, 120);
    poll_queue(queue);
    trigger_iopf(device.idev, 33, 4); /* this HWPT is not nested */
    read_words(queue, buffer, 40);
    section("answers");
    respond(queue, 0, 0);
    respond(queue, 4, 0);
    respond(queue, 1, 2);
    write_words(queue, three, 7);
    write_words(queue, three, 0);
    write_words(queue, NULL, 8);
    respond(queue, 1, 1);
    respond(queue, 1, 0);
    write_words(queue, three, sizeof(three));
    respond(queue, 3, 0);
    section("a read that only half succeeds");
    trigger_iopf(device.idev, 0, 5);
    trigger_iopf(device.idev, 0, 6);
    read_words(queue, edge, 80);
    read_words(queue, buffer, 80);
    section("what waits is dropped with the attachment");
    trigger_iopf(device.idev, 0, 7);
    mock_replace(device.stdev, ioas);
    read_words(queue, buffer, 40);
    respond(queue, 1, 0);
    respond(queue, 2, 0);
    section("who holds whom");
    destroy(fault);
    close(queue);
    destroy(fault);
    destroy(hwpt);
    destroy(fault);
}

static void test_through_nested(void)
{
    struct mock_device device;
    uint32_t ioas = ioas_alloc(), parent, fault, first, second;
    int queue = -1;

    mock_domain_flags(ioas, MOCK_FLAGS_DEVICE_PASID, &device);
    parent = hwpt_alloc_with(device.idev, ioas, NEST, 0, NULL, 0, 0);
    fault = fault_queue_alloc("queue", &queue);
    hwpt_alloc_with(device.idev, ioas, FAULTS | NEST, 0, NULL, 0, fault);
    hwpt_alloc_with(device.idev, ioas, FAULTS, 0, NULL, 0, ioas);
    nested_alloc(device.idev, parent, FAULTS, 0);
    first = nested_alloc(device.idev, parent, FAULTS | PASID, fault);
    second = nested_alloc(device.idev, parent, FAULTS | PASID, fault);
    mock_replace(device.stdev, first);
    section("any PASID without a table of its own");
    trigger_iopf(device.idev, 33, 1);
    read_words(queue, buffer, 40);
    section("and one with");
    pasid_attach(device.stdev, 33, second);
    trigger_iopf(device.idev, 33, 2);
    trigger_iopf(device.idev, 34, 3);
    pasid_detach(device.stdev, 33);
    read_words(queue, buffer, 80);
    mock_replace(device.stdev, second);
    poll_queue(queue);
    section("an open queue keeps everything");
    close(iommufd);
    read_words(queue, buffer, 40);
    respond(queue, 1, 0);
    close(queue);
}

int main(void)
{
    part = "mock";
    begin("page requests");
    make_buffer(2);
    munmap(buffer + PAGE, PAGE);
    test_read_and_answer();
    reopen("nested");
    test_through_nested();
    return 0;
}
