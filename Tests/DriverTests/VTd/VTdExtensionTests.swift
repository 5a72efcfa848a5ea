// SPDX-License-Identifier: Apache-2.0

import CUAPI
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// Functions of a VT-d unit for the extensions, with checks of its caches. The C clients
/// vtd_inv_errors and vfio_sva_caches test the rest.
@Suite struct VTdExtensionTests {
  // MARK: Planned failures

  private static func failures(
    _ unit: VTdUnit, _ operations: VTdQueuedInvalidation...
  ) -> [VTdInvalidationError?] {
    operations.map { unit.plannedFailure(of: $0)?.error }
  }

  @Test("a planned failure counts the operations of its own function")
  func operationsOfAFunction() throws {
    let unit = try VTdFixture().unit
    let (mine, others) = (RequesterID.test(1), RequesterID.test(2))
    #expect(unit.planFailure(.timeout, of: mine, after: 2, deviceTLBOnly: true))
    #expect(
      Self.failures(
        unit, .deviceTLB(mine), .deviceTLB(others), .iotlb([mine]), .deviceTLB(mine),
        .deviceTLB(mine)) == [nil, nil, nil, .timeout, nil])
    #expect(unit.planFailure(.queue, of: mine, after: 3, deviceTLBOnly: false))
    #expect(
      Self.failures(
        unit, .iotlb([others]), .iotlb([others, mine]), .deviceTLB(mine), .iotlb([mine]))
        == [nil, nil, nil, .queue])
  }

  @Test("the oldest of several planned failures of one operation is reported")
  func oldestPlannedFailure() throws {
    let unit = try VTdFixture().unit
    let (mine, others) = (RequesterID.test(1), RequesterID.test(2))
    #expect(unit.planFailure(.queue, of: others, after: 1, deviceTLBOnly: false))
    #expect(unit.planFailure(.queue, of: mine, after: 1, deviceTLBOnly: false))
    #expect(unit.plannedFailure(of: .iotlb([mine, others]))?.requester == others)
    #expect(unit.plannedFailure(of: .iotlb([mine, others])) == nil, "both are used up")
  }

  @Test("the number of planned failures of a function is limited until they are removed")
  func plannedFailureLimit() throws {
    let unit = try VTdFixture().unit
    let (mine, others) = (RequesterID.test(1), RequesterID.test(2))
    for _ in 0..<VTdUnit.plannedFailureLimit {
      #expect(unit.planFailure(.completion, of: mine, after: .max, deviceTLBOnly: true))
    }
    #expect(!unit.planFailure(.completion, of: mine, after: 1, deviceTLBOnly: true))
    #expect(unit.planFailure(.completion, of: others, after: 1, deviceTLBOnly: true))
    unit.removePlannedFailures(of: mine)
    #expect(unit.planFailure(.timeout, of: mine, after: 1, deviceTLBOnly: true))
    #expect(Self.failures(unit, .deviceTLB(others), .deviceTLB(mine)) == [.completion, .timeout])
  }

  // MARK: Caches of a guest's tables

  private static let pasid: UInt32 = 5
  private static let ats = DMAAttributes(pasid: PASID(rawValue: pasid), usesATS: true)

  /// A guest whose table is attached to a PASID. Every cache has a translation.
  private struct BoundFixture {
    let guest: VTdGuestFixture
    let domain: VTdNestedDomain
    let port: DMAPort

    init() throws {
      guest = try VTdGuestFixture()
      let root = guest.makeTable()
      guest.map(0x1000, to: 0x2000, in: root)
      var services = DeviceProperties()
      services.pasidBits = 20
      services.hasATS = true
      try guest.fixture.driver.probe(.test(0), services)
      domain = try #require(try guest.nested(root) as? VTdNestedDomain)
      try guest.attach(domain, pasid: VTdExtensionTests.pasid)
      port = guest.fixture.port(0)
      #expect(port.load(0x1000, VTdExtensionTests.ats) == (.completed, 3))
      #expect(contents == [.pasid, .iotlb, .deviceTLB])
    }

    /// The caches that are not empty.
    var contents: GuestCacheInvalidation.Caches {
      let unit = guest.fixture.unit
      var contents: GuestCacheInvalidation.Caches = []
      if unit.cachedAddressSpaces > 0 { contents.insert(.pasid) }
      if unit.cachedTranslations > 0 { contents.insert(.iotlb) }
      if port.deviceTranslations > 0 { contents.insert(.deviceTLB) }
      return contents
    }

    func contents(
      after caches: GuestCacheInvalidation.Caches, _ granularity: iommu_inv_granularity
    ) throws -> GuestCacheInvalidation.Caches {
      var info = iommu_cache_invalidate_info()
      info.argsz = UInt32(MemoryLayout<iommu_cache_invalidate_info>.size)
      info.version = 1
      info.cache = UInt8(caches.rawValue)
      info.granularity = UInt8(granularity.rawValue)
      switch granularity {
      case IOMMU_INV_GRANU_PASID:
        info.granu.pasid_info.flags = 1
        info.granu.pasid_info.pasid = UInt64(VTdExtensionTests.pasid)
      case IOMMU_INV_GRANU_ADDR:
        info.granu.addr_info = .init(
          flags: 1, archid: 0, pasid: UInt64(VTdExtensionTests.pasid), addr: 0x1000,
          granule_size: 4096, nb_granules: 1)
      default: break
      }
      domain.invalidate(try GuestCacheInvalidation(info))
      return contents
    }
  }

  @Test(
    "an invalidation of PASID entries keeps the IOTLB and the device TLB",
    arguments: [IOMMU_INV_GRANU_DOMAIN, IOMMU_INV_GRANU_PASID])
  func pasidCacheInvalidation(_ granularity: iommu_inv_granularity) throws {
    #expect(try BoundFixture().contents(after: .pasid, granularity) == [.iotlb, .deviceTLB])
  }

  @Test(
    "an invalidation of device TLBs keeps the PASID cache and the IOTLB",
    arguments: [IOMMU_INV_GRANU_PASID, IOMMU_INV_GRANU_ADDR])
  func deviceTLBInvalidation(_ granularity: iommu_inv_granularity) throws {
    #expect(try BoundFixture().contents(after: .deviceTLB, granularity) == [.pasid, .iotlb])
  }

  @Test(
    "an invalidation of the IOTLB also invalidates the device TLBs",
    arguments: [IOMMU_INV_GRANU_DOMAIN, IOMMU_INV_GRANU_PASID, IOMMU_INV_GRANU_ADDR])
  func iotlbInvalidation(_ granularity: iommu_inv_granularity) throws {
    #expect(try BoundFixture().contents(after: .iotlb, granularity) == .pasid)
  }

  @Test("an invalidation of all caches empties them, and one of no cache changes nothing")
  func invalidationOfAllCaches() throws {
    #expect(try BoundFixture().contents(after: .all, IOMMU_INV_GRANU_PASID) == [])
    #expect(
      try BoundFixture().contents(after: [], IOMMU_INV_GRANU_PASID) == [.pasid, .iotlb, .deviceTLB])
  }
}
