// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import Host
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite struct VTdDMATests {
  let fixture: VTdFixture
  let port: DMAPort
  let domain: any PagingDomain
  let memfd: OwnedDescriptor
  let run: FrameRun

  init() throws {
    fixture = try VTdFixture()
    port = fixture.port(0)
    domain = try fixture.makeDomain()
    memfd = try makeNumberedMemfd(pages: 16)
    run = try fixture.memory.pin(.file(memfd, offset: 0), pages: 16)[0]
  }

  @Test("DMA reads and writes a mapped page")
  func aMappedPageIsReadAndWritten() throws {
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    try domain.map(
      IOVA(0x10000), to: run.page(1), length: 8192, permissions: [.read, .write])
    #expect(port.load(0x10000) == (.completed, 2))
    #expect(port.load(0x11000) == (.completed, 3))
    #expect(port.store(77, to: 0x11008) == .completed)
    var word: UInt64 = 0
    #expect(pread(memfd.rawValue, &word, 8, 2 * 4096 + 8) == 8)
    #expect(word == 77)
    #expect(fixture.faults.drain().isEmpty)
  }

  @Test("a request after a page walk takes the general path, and one after a hit the fast path")
  func pathAfterAWalk() throws {
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    try domain.map(
      IOVA(0x10000), to: run.page(1), length: 8192, permissions: [.read, .write])
    #expect(port.inFlight.expectsHit)
    #expect(port.load(0x10000) == (.completed, 2))
    #expect(!port.inFlight.expectsHit)
    #expect(port.load(0x10000) == (.completed, 2))
    #expect(port.inFlight.expectsHit)
    #expect(port.load(0x10000) == (.completed, 2))
    #expect(port.load(0x11000) == (.completed, 3))
    #expect(!port.inFlight.expectsHit)
  }

  @Test("a request of a device without a domain is blocked")
  func requestsOfADeviceAtRestFault() throws {
    // The bus of a device that was never attached has no context table.
    #expect(port.load(0).0.reason == .rootEntryAbsent)
    try fixture.driver.attach(domain, to: .test(1), pasid: nil)
    #expect(port.load(0).0.reason == .contextEntryAbsent)
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    #expect(port.load(0).0.reason == .readDenied)
    fixture.driver.block(port.requester, pasid: nil)
    #expect(port.load(0).0.reason == .pasidEntryAbsent)
    #expect(fixture.faults.drain().count == 4)
  }

  @Test("a fault record has the requester, the PASID, the address and the access")
  func faultsCarryTheRequest() throws {
    try fixture.driver.probe(port.requester, DeviceProperties(pasidBits: 20))
    try fixture.driver.attach(domain, to: port.requester, pasid: PASID(rawValue: 5))
    let outcome = port.store(1, to: 0x7fff_f123_4568, pasid: PASID(rawValue: 5))
    let record = FaultRecord(
      requester: port.requester, pasid: PASID(rawValue: 5), iova: IOVA(0x7fff_f123_4568),
      access: .write, reason: .vtd(.writeDenied), isSuppressed: false)
    #expect(outcome == .fault(record))
    #expect(fixture.faults.drain() == [record])
    let words = VTdFaultRecordingRegister(record)
    #expect(words.lower == 0x7fff_f123_4000)
    let upper: UInt64 = 1 << 63 | 5 << 40 | 0x85 << 32 | 1 << 31 | 0x100
    #expect(words.upper == upper)
  }

  @Test("a request that faults on its last page moves no byte")
  func aFaultOnTheLastPageMovesNoByte() throws {
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    try domain.map(IOVA(0), to: run.page(0), length: 8192, permissions: [.read, .write])
    let before = (0..<16).map { fixture.memory.word(at: run.page($0)) }
    #expect(port.fill(0x800, count: 8192, with: 0xee).reason == .writeDenied)
    #expect((0..<16).map { fixture.memory.word(at: run.page($0)) } == before)
    #expect(fixture.memory.word(at: PhysicalAddress(run.page(0).rawValue + 0x800)) == 0)
    let record = try #require(fixture.faults.drain().first)
    #expect(record.iova == IOVA(0x2000))
    // A request beyond the address width, and one across the end of the address space.
    #expect(port.load(1 << 48).0.reason == .beyondSecondStage)
    #expect(port.fill(0xffff_ffff_ffff_fff8, count: 16, with: 0) == .aborted)
  }

  @Test("a request needs the permission of its access")
  func permissions() throws {
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    try domain.map(IOVA(0), to: run.page(0), length: 4096, permissions: .read)
    try domain.map(IOVA(0x1000), to: run.page(1), length: 4096, permissions: .write)
    #expect(port.load(0) == (.completed, 1))
    #expect(port.store(1, to: 0).reason == .writeDenied)
    #expect(port.load(0x1000).0.reason == .readDenied)
    #expect(port.store(9, to: 0x1000) == .completed)
    #expect(port.load(0x1000).0.reason == .readDenied)
  }

  @Test("the interrupt address range is reserved, and requests to it are aborted")
  func interruptAddressRange() throws {
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    #expect(
      fixture.driver.reservedRegions(of: port.requester).map(\.range)
        == [0xfee0_0000...0xfeef_ffff])
    #expect(port.store(1, to: 0xfee0_1000) == .aborted)
    #expect(port.load(0xfedf_fff9).0 == .aborted)
    #expect(fixture.faults.drain().isEmpty)
  }

  @Test("unmap() removes the translations from the IOTLB before it returns")
  func unmapRevokesAtOnce() throws {
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    try domain.map(IOVA(0), to: run.page(0), length: 65536, permissions: [.read, .write])
    for page in 0..<16 { #expect(port.load(UInt64(page) << 12) == (.completed, UInt64(page + 1))) }
    #expect(fixture.unit.cachedTranslations == 16)
    #expect(domain.unmap(IOVA(0x4000), length: 0x2000) == 0x2000)
    #expect(fixture.unit.cachedTranslations == 14)
    #expect(port.load(0x4000).0.reason == .readDenied)
    #expect(port.load(0x6000) == (.completed, 7))
    #expect(domain.unmap(IOVA(0), length: 0x10000) == 0x4000)
    #expect(domain.unmap(IOVA(0x6000), length: 0xa000) == 0xa000)
    #expect(fixture.unit.cachedTranslations == 0)
  }

  @Test("a cached translation stays until an invalidation covers it")
  func translationsStayUntilInvalidated() throws {
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    let other = try fixture.makeDomain() as! VTdPagingDomain
    try other.map(IOVA(0), to: run.page(9), length: 4096, permissions: [.read, .write])
    try domain.map(IOVA(0), to: run.page(0), length: 4096, permissions: [.read, .write])
    #expect(port.load(0) == (.completed, 1))
    // The PTE changes without an invalidation.
    let root = (domain as! VTdPagingDomain).makeEntry(id: DomainID(rawValue: 2)).secondStage
    var table = root
    for level in [3, 2, 1] {
      let place = VTdSecondStage.entryAddress(0, level: level, table: table)
      table = VTdSecondStage.address(try #require(fixture.memory.word(at: place)))
    }
    fixture.memory.storeEntry(
      VTdSecondStage.makeLeaf(
        at: run.page(9), level: 0, permissions: [.read, .write], snoops: false), at: table)
    #expect(port.load(0) == (.completed, 1))
    fixture.unit.invalidateIOTLB(.pages(DomainID(rawValue: 2), IOVA(0x1000), shift: 12))
    #expect(port.load(0) == (.completed, 1))
    fixture.unit.invalidateIOTLB(.domain(DomainID(rawValue: 3)))
    #expect(port.load(0) == (.completed, 1))
    fixture.unit.invalidateIOTLB(.pages(DomainID(rawValue: 2), IOVA(0), shift: 13))
    #expect(port.load(0) == (.completed, 10))
  }

  @Test("a replacement changes from the old domain to the new one without a fault")
  func replacementDuringDMA() throws {
    let other = try fixture.makeDomain()
    try domain.map(IOVA(0), to: run.page(0), length: 4096, permissions: .read)
    try other.map(IOVA(0), to: run.page(5), length: 4096, permissions: .read)
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    #expect(port.load(0) == (.completed, 1))
    let stop = Atomic<Bool>(false)
    let bad = Atomic<Int>(0)
    let driver = fixture.driver
    let thread = Thread { [port] in
      while !stop.load(ordering: .relaxed) {
        let (outcome, value) = port.load(0)
        if outcome != .completed || (value != 1 && value != 6) { bad.add(1, ordering: .relaxed) }
      }
      stop.store(false, ordering: .releasing)
    }
    thread.start()
    for round in 0..<200 {
      try driver.attach(round % 2 == 0 ? other : domain, to: port.requester, pasid: nil)
      #expect(port.load(0) == (.completed, round % 2 == 0 ? 6 : 1))
    }
    stop.store(true, ordering: .relaxed)
    while stop.load(ordering: .acquiring) { usleep(100) }
    #expect(bad.load(ordering: .relaxed) == 0)
  }

  @Test("each PASID has its own domain")
  func pasidsAreSeparate() throws {
    try fixture.driver.probe(port.requester, DeviceProperties(pasidBits: 8))
    let (one, two) = (PASID(rawValue: 1), PASID(rawValue: 255))
    let other = try fixture.makeDomain()
    try domain.map(IOVA(0), to: run.page(0), length: 4096, permissions: .read)
    try other.map(IOVA(0), to: run.page(1), length: 4096, permissions: .read)
    try fixture.driver.attach(domain, to: port.requester, pasid: one)
    try fixture.driver.attach(other, to: port.requester, pasid: two)
    #expect(port.load(0, pasid: one) == (.completed, 1))
    #expect(port.load(0, pasid: two) == (.completed, 2))
    #expect(port.load(0).0.reason == .pasidEntryAbsent)
    #expect(port.load(0, pasid: PASID(rawValue: 64)).0.reason == .pasidDirectoryAbsent)
    #expect(port.load(0, pasid: PASID(rawValue: 1 << 19)).0.reason == .pasidTooLarge)
    fixture.driver.block(port.requester, pasid: one)
    #expect(port.load(0, pasid: one).0.reason == .pasidEntryAbsent)
    #expect(port.load(0, pasid: two) == (.completed, 2))
    // A device without the PASID capability cannot use PASIDs.
    let plain = fixture.port(7)
    try fixture.driver.attach(domain, to: plain.requester, pasid: nil)
    #expect(plain.load(0, pasid: one).0.reason == .pasidDisabled)
    #expect(throws: Errno.invalidArgument) {
      try fixture.driver.attach(domain, to: plain.requester, pasid: one)
    }
  }

  @Test("DMA to a truncated page of a file that is used in place is aborted")
  func truncationUnderDMAIsAnAbort() throws {
    let fixture = try VTdFixture(limits: .inPlace)
    let (port, domain) = (fixture.port(0), try fixture.makeDomain())
    let run = try fixture.memory.pin(.file(memfd, offset: 0), pages: 16)[0]
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    try domain.map(IOVA(0), to: run.page(0), length: 65536, permissions: [.read, .write])
    #expect(port.load(0xf000) == (.completed, 16))
    #expect(ftruncate(memfd.rawValue, 4096) == 0)
    #expect(port.load(0xf000).0 == .aborted)
    #expect(port.fill(0, count: 65536, with: 1) == .aborted)
    #expect(port.load(0) == (.completed, 0x0101_0101_0101_0101))
  }

  @Test("no access to the pages is in progress when unmap() returns")
  func afterUnmapNoAccessIsUnderWay() throws {
    try fixture.driver.attach(domain, to: port.requester, pasid: nil)
    let stop = Atomic<Bool>(false)
    let thread = Thread { [port] in
      while !stop.load(ordering: .relaxed) { _ = port.fill(0, count: 32768, with: 0xff) }
      stop.store(false, ordering: .releasing)
    }
    thread.start()
    for _ in 0..<300 {
      try domain.map(IOVA(0), to: run.page(0), length: 32768, permissions: [.read, .write])
      sched_yield()
      #expect(domain.unmap(IOVA(0), length: 32768) == 32768)
      // The device writes no further byte.
      let zeros = [UInt8](repeating: 0, count: 32768)
      _ = zeros.withUnsafeBytes { fixture.memory.write($0, to: run.page(0)) }
      for page in 0..<8 { #expect(fixture.memory.word(at: run.page(page)) == 0) }
    }
    stop.store(true, ordering: .relaxed)
    while stop.load(ordering: .acquiring) { usleep(100) }
  }
}

private func == (a: (DMAOutcome, UInt64), b: (DMAOutcome, UInt64)) -> Bool {
  a.0 == b.0 && a.1 == b.1
}
