// SPDX-License-Identifier: Apache-2.0

// Operations of the selftest interface that read the caches of the mock unit.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum CacheOperations {
  /// MD_CHECK_IOTLB. selftest.c: iommufd_test_md_check_iotlb()
  static func checkIOTLB(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments
    let context = command.context
    try context.lock.withLock { () throws(Errno) in
      let hwpt = try context.objects.lookUp(ObjectID(arguments.id), as: NestedHWPT.self)
      guard let domain = hwpt.domain as? MockNestedDomain,
        domain.iotlbEntry(arguments.check_iotlb.id) == arguments.check_iotlb.iotlb
      else { throw Errno.invalidArgument }
    }
  }

  /// DEV_CHECK_CACHE. selftest.c: iommufd_test_dev_check_cache()
  static func checkDeviceCache(
    _ command: inout TestCommand, _ selftest: Selftest
  ) throws(Errno) {
    let arguments = command.arguments
    let context = command.context
    try context.lock.withLock { () throws(Errno) in
      let device = try context.objects.lookUp(ObjectID(arguments.id), as: BoundDevice.self).device
      let check = arguments.check_dev_cache
      guard device.driver === selftest.driver,
        selftest.driver.unit.cacheEntry(Int(check.id), of: device.requesterID) == check.cache
      else { throw Errno.invalidArgument }
    }
  }
}
