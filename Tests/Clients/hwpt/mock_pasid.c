/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching a PASID: the HWPTs that a PASID can be attached to, the HWPT that the device itself
 * must be attached to, and a replacement that fails and changes nothing.
 */
#include "mock/mock.h"

static void test_rules(void)
{
    struct mock_device device, narrow;
    uint32_t ioas = ioas_alloc(), plain, fit, second, parent, nested;

    mock_domain_flags(ioas, MOCK_FLAGS_DEVICE_PASID, &device);
    plain = hwpt_alloc(device.idev, ioas, 0);
    fit = hwpt_alloc(device.idev, ioas, PASID);
    second = hwpt_alloc(device.idev, ioas, PASID);
    parent = hwpt_alloc(device.idev, ioas, NEST);
    nested = nested_alloc(device.idev, parent, PASID, 0);
    section("the device must be on a fit table");
    pasid_detach(device.stdev, 5);
    pasid_attach(device.stdev, 5, fit);
    mock_replace(device.stdev, fit);
    pasid_attach(device.stdev, 5, plain);
    pasid_attach(device.stdev, 5, ioas);
    pasid_attach(device.stdev, 5, 99);
    pasid_attach(device.stdev, 5, device.idev);
    pasid_attach(device.idev, 5, fit);
    pasid_attach(99, 5, fit);
    pasid_attach(device.stdev, 0, second);
    pasid_attach(device.stdev, 1 << 20, fit);
    pasid_attach(device.stdev, (1 << 20) - 1, nested);
    pasid_check(device.stdev, 5, 0);
    pasid_check(device.stdev, (1 << 20) - 1, nested);
    pasid_check(device.stdev, (1 << 20) - 1, fit);
    pasid_check(device.stdev, (1 << 20) - 1, 0);
    pasid_check(device.stdev, (1 << 20) - 1, 99);
    pasid_check(device.stdev, (1 << 20) - 1, ioas);
    pasid_check(device.stdev, 0, fit);
    section("and stay on one");
    mock_replace(device.stdev, plain);
    mock_replace(device.stdev, ioas);
    mock_replace(device.stdev, second);
    pasid_attach(device.stdev, (1 << 20) - 1, nested);
    pasid_attach(device.stdev, (1 << 20) - 1, ioas);
    section("replacing");
    pasid_replace(device.stdev, 5, fit);
    pasid_replace(device.stdev, (1 << 20) - 1, plain);
    pasid_replace(device.stdev, (1 << 20) - 1, ioas);
    pasid_check(device.stdev, (1 << 20) - 1, nested);
    destroy(nested);
    pasid_replace(device.stdev, (1 << 20) - 1, fit);
    pasid_replace(device.stdev, (1 << 20) - 1, fit);
    destroy(nested);
    destroy(fit);
    pasid_detach(device.stdev, (1 << 20) - 1);
    destroy(fit);
    section("a PASID that is made to fail");
    fit = hwpt_alloc(device.idev, ioas, PASID);
    pasid_attach(device.stdev, IOMMU_TEST_PASID_RESERVED, fit);
    for (unsigned i = 0; i != 4; i++) {
        pasid_replace(device.stdev, IOMMU_TEST_PASID_RESERVED, i % 2 ? fit : second);
        pasid_check(device.stdev, IOMMU_TEST_PASID_RESERVED, fit);
    }
    pasid_detach(device.stdev, IOMMU_TEST_PASID_RESERVED);
    section("a device without PASIDs");
    mock_domain(second, &narrow);
    pasid_attach(narrow.stdev, 1, fit);
    pasid_detach(narrow.stdev, 1);
}

static void test_automatic_tables(void)
{
    struct mock_device device, second;
    uint32_t first = ioas_alloc(), other = ioas_alloc(), hwpt;

    section("tables come and go with their last device");
    mock_domain(first, &device);
    mock_domain(first, &second);
    mock_replace(device.stdev, first);
    mock_replace(device.stdev, other);
    destroy(first);
    mock_replace(second.stdev, other);
    destroy(first);
    hwpt = hwpt_alloc(device.idev, other, 0);
    mock_replace(device.stdev, hwpt);
    mock_replace(second.stdev, hwpt);
    mock_replace(second.stdev, device.idev);
    mock_replace(second.stdev, 99);
    mock_replace(99, hwpt);
    destroy(hwpt);
    destroy(device.stdev);
    destroy(hwpt);
    destroy(second.stdev);
    destroy(hwpt);
    destroy(other);
}

int main(void)
{
    part = "mock";
    begin("PASIDs");
    test_rules();
    reopen("automatic tables");
    test_automatic_tables();
    return 0;
}
