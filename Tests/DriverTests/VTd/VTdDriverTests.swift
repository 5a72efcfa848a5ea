// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite struct VTdDriverTests {
  @Test("aperture, page sizes and levels of a domain follow the capabilities of the unit")
  func domainsFollowTheCapabilities() throws {
    func domain(_ change: (inout VTdCapabilities) -> Void) throws -> VTdPagingDomain {
      var configuration = VTdUnit.Configuration()
      change(&configuration.capabilities)
      let memory = try PhysicalMemory(.test)
      return try VTdPagingDomain([], for: VTdUnit(configuration, memory: memory), memory: memory)
    }
    let standard = try domain { _ in }
    #expect(standard.aperture == 0...0xffff_ffff_ffff)
    #expect(standard.pageSizes == 1 << 12 | 1 << 21 | 1 << 30)
    let wide = try domain {
      $0.maximumGuestAddressWidth = 57
      $0.secondStageLevels = [4, 5]
      $0.has1GPages = false
    }
    #expect(wide.aperture == 0...(1 << 57 - 1))
    #expect(wide.pageSizes == 1 << 12 | 1 << 21)
    #expect(wide.makeEntry(id: DomainID(rawValue: 2)).levels == 5)
    let narrow = try domain { $0.maximumGuestAddressWidth = 39 }
    #expect(narrow.aperture == 0...(1 << 39 - 1))
    #expect(narrow.makeEntry(id: DomainID(rawValue: 2)).levels == 4)
    #expect(throws: Errno.notSupported) { try domain { $0.secondStageLevels = [] } }
    #expect(throws: Errno.invalidArgument) {
      try standard.requireCompatibility(with: narrowCapabilities)
    }
  }

  private var narrowCapabilities: VTdCapabilities {
    var capabilities = VTdCapabilities()
    capabilities.maximumGuestAddressWidth = 39
    return capabilities
  }

  @Test("a unit without nesting refuses nesting parents and accepts dirty tracking with PASIDs")
  func flagsOfDomains() throws {
    let fixture = try VTdFixture()
    #expect(throws: Errno.notSupported) {
      try fixture.driver.makePagingDomain(.nestParent, for: .test(0))
    }
    _ = try fixture.driver.makePagingDomain([.dirtyTracking, .pasid], for: .test(0))
  }

  @Test("the lowest free domain ID is allocated, and ENOSPC is thrown when all are in use")
  func domainIDsAreLowestFirst() throws {
    let ids = IDAllocator(2..<4, exhausted: .noSpace)
    #expect(try ids.allocate() == 2)
    #expect(try ids.allocate() == 3)
    #expect(throws: Errno.noSpace) { try ids.allocate() }
    ids.release(2)
    #expect(try ids.allocate() == 2)
  }

  @Test("entries that are made after cache coherency is enforced have SNP")
  func snoopingIsForcedInNewEntries() throws {
    let fixture = try VTdFixture()
    let domain = try #require(try fixture.makeDomain() as? VTdPagingDomain)
    #expect(domain.enforceCacheCoherency())
    try domain.map(IOVA(0), to: PhysicalAddress(0), length: 1 << 30, permissions: .read)
    let top = try #require(
      fixture.memory.word(
        at: VTdSecondStage.entryAddress(0, level: 3, table: domain.root)))
    #expect(fixture.memory.word(at: VTdSecondStage.address(top)) == 0x881)
  }

  @Test("a map that fails leaves no mapping and no table")
  func aFailedMapLeavesNothing() throws {
    var limits = PhysicalMemory.Limits.test
    limits.tablePages = 5
    let memory = try PhysicalMemory(limits)
    let domain = try VTdPagingDomain([], for: VTdUnit(.init(), memory: memory), memory: memory)
    #expect(throws: Errno.noMemory) {
      try domain.map(
        IOVA(0x1f_f000), to: PhysicalAddress(0x1000), length: 1 << 30, permissions: .read)
    }
    #expect(domain.physicalAddress(of: IOVA(0x1f_f000)) == nil)
    #expect(memory.tablePagesInUse == 1)
    #expect(throws: Errno.outOfRange) {
      try domain.map(
        IOVA(1 << 48), to: PhysicalAddress(0), length: 4096, permissions: .read)
    }
  }

  @Test("DMA to the memory of a process that has ended is aborted")
  func framesOfADeadProcessAbort() throws {
    let fixture = try VTdFixture()
    let port = fixture.port(0)
    let domain = try fixture.makeDomain()
    let child = try ForkedProcess()
    let run = try fixture.memory.pin(.process(child.space, address: child.address), pages: 2)[0]
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    try domain.map(IOVA(0), to: run.physical, length: 8192, permissions: [.read, .write])
    let before = port.load(0x1000)
    #expect(before.0 == .completed && before.1 == 0x2222)
    child.end()
    #expect(port.load(0x1000).0 == .aborted)
    #expect(port.store(1, to: 0) == .aborted)
  }
}
