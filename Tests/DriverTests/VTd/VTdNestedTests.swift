// SPDX-License-Identifier: Apache-2.0

import CUAPI
import Foundation
import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// Nested domains of the driver, and the errors of units that lack a capability. The C clients
/// vtd_… test the rest.
@Suite struct VTdNestedTests {
  private static func configuration(
    _ change: (inout VTdCapabilities) -> Void
  ) -> VTdUnit.Configuration {
    var configuration = VTdUnit.Configuration.nesting
    change(&configuration.capabilities)
    return configuration
  }

  @Test("a paging domain uses the first stage unless its flags need the second stage")
  func firstStageIsPreferred() throws {
    let driver = try VTdFixture(.nesting).driver
    func stage(_ flags: PagingDomainFlags) throws -> VTdPagingDomain.Stage? {
      (try driver.makePagingDomain(flags, for: .test(0)) as? VTdPagingDomain)?.stage
    }
    #expect(try stage([]) == .first)
    #expect(try stage(.pasid) == .first)
    #expect(try stage(.dirtyTracking) == .second)
    #expect(try stage([.nestParent, .dirtyTracking, .pasid]) == .second)
    let domain = try driver.makePagingDomain([], for: .test(0))
    #expect(domain.aperture == 0...0x7fff_ffff_ffff)
    #expect(domain.pageSizes == 1 << 12 | 1 << 21 | 1 << 30)

    let wide = try VTdFixture(
      Self.configuration {
        $0.maximumGuestAddressWidth = 57
        $0.firstStage1GPages = false
      }
    ).driver.makePagingDomain([], for: .test(0))
    #expect(wide.aperture == 0...(1 << 56 - 1))
    #expect(wide.pageSizes == 1 << 12 | 1 << 21)
    let old = try VTdFixture().driver.makePagingDomain([], for: .test(0)) as? VTdPagingDomain
    #expect(old?.stage == .second)
  }

  @Test("DMA goes through a first-stage table of the driver")
  func aFirstStageOfOursTranslates() throws {
    let guest = try VTdGuestFixture()
    let domain = try guest.fixture.driver.makePagingDomain([], for: .test(0))
    let frames = try #require(guest.parent.physicalAddress(of: IOVA(0)))
    try domain.map(
      IOVA(0x20_0000), to: frames, length: 8192, permissions: [.read, .write])
    try domain.map(
      IOVA(0x30_0000), to: frames, length: 4096, permissions: .read)
    try guest.attach(domain)
    let port = guest.fixture.port(0)
    #expect(port.load(0x20_1000) == (.completed, 2))
    #expect(port.store(7, to: 0x20_1008) == .completed)
    #expect(guest[0x1008] == 7)
    #expect(port.store(7, to: 0x30_0000).reason == .writeDenied)
    #expect(port.load(1 << 47).0.reason == .notCanonical)
    domain.unmap(IOVA(0x20_0000), length: 8192)
    #expect(port.load(0x20_1000).0.reason == .firstStageAbsent)
    domain.unmap(IOVA(0x30_0000), length: 4096)
    #expect(port.load(0x30_0000).0.reason == .firstStageAbsent)
  }

  @Test(
    "a nesting parent refuses read-only mappings only on a unit with the erratum, which the hardware information reports"
  )
  func readOnlyErratum() throws {
    var configuration = VTdUnit.Configuration.nesting
    configuration.hasReadOnlyErratum = false
    let guest = try VTdGuestFixture(configuration)
    let frames = try #require(guest.parent.physicalAddress(of: IOVA(0)))
    try guest.parent.map(IOVA(1 << 40), to: frames, length: 4096, permissions: .read)
    let plain = try guest.fixture.driver.hardwareInfo(of: .test(0), type: 0)
    #expect(plain?.bytes.prefix(4).elementsEqual([0, 0, 0, 0]) == true)

    let concerned = try VTdGuestFixture()
    #expect(throws: Errno.invalidArgument) {
      try concerned.parent.map(IOVA(1 << 40), to: frames, length: 4096, permissions: .read)
    }
    let told = try concerned.fixture.driver.hardwareInfo(of: .test(0), type: 0)
    #expect(told?.bytes.prefix(4).elementsEqual([1, 0, 0, 0]) == true)
    let reader = try concerned.fixture.driver.makePagingDomain(.dirtyTracking, for: .test(0))
    try reader.map(IOVA(1 << 40), to: frames, length: 4096, permissions: .read)
  }

  @Test("dirty tracking requires SSADS of the unit")
  func dirtyTrackingNeedsTheUnit() throws {
    let driver = try VTdFixture(Self.configuration { $0.secondStageFlags = false }).driver
    #expect(throws: Errno.notSupported) {
      try driver.makePagingDomain(.dirtyTracking, for: .test(0))
    }
    #expect(driver.capabilities(of: .test(0)).isEmpty)
  }

  @Test("nesting requires a unit with nested translation, and the parent must be of that unit")
  func nestingNeedsTheUnit() throws {
    let driver = try VTdFixture(Self.configuration { $0.nested = false }).driver
    #expect(throws: Errno.notSupported) {
      try driver.makePagingDomain(.nestParent, for: .test(0))
    }
    // The parent belongs to another unit of the same vendor.
    let guest = try VTdGuestFixture()
    let nested = try guest.nested(0)
    #expect(throws: Errno.invalidArgument) {
      try driver.attach(nested, to: .test(0), pasid: nil)
    }
  }

  @Test("PASIDs require a unit with PASIDs")
  func pasidsNeedTheUnit() throws {
    let fixture = try VTdFixture(Self.configuration { $0.pasidBits = 0 })
    let domain = try fixture.makeDomain()
    #expect(throws: Errno.notSupported) {
      try fixture.driver.attach(domain, to: .test(0), pasid: PASID(rawValue: 1))
    }
    try fixture.driver.attach(domain, to: .test(0), pasid: nil)
  }

  @Test("flags and address width of a guest's table require the capabilities of the unit")
  func flagsOfNestedTablesNeedTheUnit() throws {
    let supervisor = UInt64(IOMMU_VTD_S1_SRE.rawValue)
    let extended = UInt64(IOMMU_VTD_S1_EAFE.rawValue)
    let protect = UInt64(IOMMU_VTD_S1_WPE.rawValue)
    let guest = try VTdGuestFixture(
      Self.configuration {
        $0.privilegedRequests = false
        $0.extendedAccessedFlag = false
        $0.fiveLevelFirstStage = false
      })
    for (flags, width) in [(supervisor, 48), (extended, 48), (0, 57)] as [(UInt64, UInt32)] {
      let nested = try guest.nested(0, flags: flags, width: width)
      #expect(throws: Errno.invalidArgument) { try guest.attach(nested) }
    }
    let nested = try guest.nested(0, flags: protect)
    try guest.attach(nested)
    let entry = (nested as? VTdNestedDomain)?.makeEntry(id: DomainID(rawValue: 2))
    #expect(entry?.protectsFromPrivilege == false)
  }

  @Test("an attach that fails releases its domain ID")
  func failedAttach() throws {
    let guest = try VTdGuestFixture()
    for _ in 0..<3 {
      let bad = try guest.nested(0, width: 3)
      #expect(throws: Errno.invalidArgument) { try guest.attach(bad) }
      let deaf = try guest.nested(0)
      #expect(throws: Errno.operationNotSupportedByDevice) {
        try guest.attach(deaf, requests: true)
      }
    }
    #expect(try guest.fixture.driver.domainIDs.allocate() == 2)
  }

  @Test("a request during a replacement goes through one of two tables that differ in every page")
  func replacementIsAtomic() throws {
    let guest = try VTdGuestFixture()
    let roots = [guest.makeTable(), guest.makeTable()]
    for (index, root) in roots.enumerated() {
      for page in 0..<64 as Range<UInt64> {
        guest.map(page << 12, to: UInt64(index) * 64 + page << 12, in: root)
      }
    }
    let domains = try roots.map { try guest.nested($0) }
    for page in 0..<128 as Range<UInt64> { guest[page << 12] = page < 64 ? 1 : 2 }
    guest.fixture.driver.block(.test(0), pasid: nil)
    try guest.attach(domains[0])
    let port = guest.fixture.port(0)
    let isDone = Atomic<Bool>(false)
    let mixed = Atomic<Int>(0)
    let reader = Thread {
      var buffer = [UInt64](repeating: 0, count: 64 * 512)
      while !isDone.load(ordering: .acquiring) {
        let outcome = buffer.withUnsafeMutableBytes { port.read(IOVA(0), into: $0) }
        let first = buffer[0]
        let isWhole = (0..<64).allSatisfy { buffer[$0 * 512] == first }
        if outcome != .completed || !isWhole { mixed.wrappingAdd(1, ordering: .relaxed) }
      }
      isDone.store(false, ordering: .releasing)
    }
    reader.start()
    for turn in 0..<300 { try guest.attach(domains[turn & 1 ^ 1]) }
    isDone.store(true, ordering: .releasing)
    while isDone.load(ordering: .acquiring) { usleep(100) }
    #expect(mixed.load(ordering: .relaxed) == 0)
    #expect(guest.fixture.faults.drain().isEmpty)
  }

  @Test("PASID table entries have the fields of the specification")
  func pasidTableEntries() throws {
    let guest = try VTdGuestFixture()
    let nested = try #require(
      try guest.nested(0x1234_5000, flags: 7, width: 57) as? VTdNestedDomain)
    var entry = nested.makeEntry(id: DomainID(rawValue: 0x1234))
    #expect(entry.words[0] == guest.parent.root.rawValue | 2 << 2 | 3 << 6 | 1)
    #expect(entry.words[1] == 0x1234 | 1 << 23)
    #expect(entry.words[2] == 0x1234_5000 | 1 << 0 | 1 << 2 | 1 << 4 | 1 << 7)
    #expect((3..<8).allSatisfy { entry.words[$0] == 0 })
    #expect(guest.parent.enforceCacheCoherency())
    entry = nested.makeEntry(id: DomainID(rawValue: 1))
    #expect(entry.words[1] == 1 | 1 << 23 | 1 << 24)

    let first = try #require(
      try guest.fixture.driver.makePagingDomain([], for: .test(0)) as? VTdPagingDomain)
    #expect(first.enforceCacheCoherency())
    entry = first.makeEntry(id: DomainID(rawValue: 7))
    #expect(entry.words[0] == 1 << 6 | 1)
    #expect(entry.words[1] == 7 | 1 << 23 | 1 << 24)
    #expect(entry.words[2] == first.root.rawValue)
  }
}
