// SPDX-License-Identifier: Apache-2.0

// RLIMIT_MEMLOCK accounting of pinned pages.

import Glibc
import Host
import IOMMU
import SystemPackage
import TestSupport
import Testing

@testable import IOMMUFD

/// Page tables that share their pin counters, and a client without privileges that may lock four
/// pages.
private struct AccountingFixture {
  let memory: PhysicalMemory
  let host = PinningHost()
  let child: ChildProcess
  let client: InProcessClient
  let user: UInt32
  let mapping: TestMapping

  init(user: UInt32 = 65534) throws {
    memory = try PhysicalMemory(.test)
    child = try ChildProcess.unprivileged(user: user, lockablePages: 4)
    client = InProcessClient(identity: child.task)
    self.user = try child.task.realUserID()
    mapping = try TestMapping(16)
  }

  func table(domains: Int = 1) throws -> IOPageTable {
    let table = IOPageTable(memory: memory, host: host)
    for _ in 0..<domains { try table.addDomain(RecordingDriver().newDomain()) }
    return table
  }

  /// - Returns: The errno, or `nil`.
  func map(
    _ table: IOPageTable, page: Int, pages: Int = 1, mode: PinAccountingMode = .user,
    client: InProcessClient? = nil
  ) -> Errno? {
    do throws(Errno) {
      _ = try table.map(
        userAddress: mapping.address + UInt64(page * 4096), length: UInt64(pages * 4096),
        at: IOVA(UInt64(page * 4096)), permissions: [.read, .write], accounting: mode,
        client: client ?? self.client)
      return nil
    } catch {
      return error
    }
  }

  var charged: UInt64 { host.counters.total(of: .user(user)) }
}

@Suite struct AccountingTests {
  @Test("the limit applies to the pages of one user in all page tables")
  func limitOfAUser() throws {
    let fixture = try AccountingFixture()
    let (first, second) = (try fixture.table(), try fixture.table())
    #expect(fixture.map(first, page: 0, pages: 3) == nil)
    #expect(fixture.map(second, page: 4) == nil)
    #expect(fixture.map(second, page: 5) == .noMemory)
    #expect(fixture.map(first, page: 5) == .noMemory)
    #expect(fixture.charged == 4 && fixture.memory.pinnedFrames == 4)
    #expect(first.areaCount == 1 && second.areaCount == 1)
    _ = second.unmapAll()
    #expect(fixture.charged == 3)
    #expect(fixture.map(first, page: 5) == nil)
    _ = first.unmapAll()
    #expect(fixture.charged == 0)
  }

  @Test("a file above the limit is refused before its pages are allocated")
  func limitBeforeAllocation() throws {
    let fixture = try AccountingFixture()
    let table = try fixture.table()
    let length: UInt64 = 4 << 20
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "sparse", length: length))
    for (bytes, error) in [(length, Errno.noMemory), (2 * length, .invalidArgument)] {
      #expect(throws: error) {
        try table.map(
          file: file.rawValue, start: 0, length: bytes, at: 0, permissions: [.read, .write],
          accounting: .user, client: fixture.client)
      }
    }
    var status = stat()
    #expect(fstat(file.rawValue, &status) == 0 && status.st_blocks == 0)
    #expect(fixture.charged == 0)
  }

  @Test(
    "pages are charged while they are pinned, once for all page tables that share them, against the present limit"
  )
  func pinnedPagesAreCharged() throws {
    let fixture = try AccountingFixture()
    let table = try fixture.table(domains: 0)
    #expect(fixture.map(table, page: 0, pages: 5) == nil)
    #expect(fixture.charged == 0)
    let domains = [try RecordingDriver().newDomain(), try RecordingDriver().newDomain()]
    #expect(throws: Errno.noMemory) { try table.addDomain(domains[0]) }
    #expect(domains[0].mappings.isEmpty && fixture.memory.pinnedFrames == 0)
    // The limit at the time of the pin applies.
    try fixture.child.setLockablePages(5)
    for domain in domains { try table.addDomain(domain) }
    #expect(fixture.charged == 5)

    let other = try fixture.table()
    let slices = try table.pages(at: 0x1000, length: 0x2000)
    _ = try other.map(slices, length: 0x2000, at: 0, permissions: .read)
    #expect(fixture.charged == 5)
    _ = table.unmapAll()
    #expect(fixture.charged == 2)
    _ = other.unmapAll()
    #expect(fixture.charged == 0)
  }

  @Test("pages that are mapped twice are charged twice")
  func pagesMappedTwice() throws {
    let fixture = try AccountingFixture()
    let table = try fixture.table()
    #expect(fixture.map(table, page: 0, pages: 4) == nil)
    let again = try fixture.table()
    #expect(fixture.map(again, page: 0) == .noMemory)
    // Mapped pages are charged, and not frames.
    #expect(fixture.memory.pinnedFrames == 4)
  }

  @Test("the pages of a client with CAP_IPC_LOCK are not charged")
  func privilegedClients() throws {
    let own = HostTask(id: getpid())
    guard own.isCapable(of: .ipcLock) else { return }
    let fixture = try AccountingFixture()
    let table = try fixture.table()
    #expect(fixture.map(table, page: 0, pages: 16, client: InProcessClient()) == nil)
    #expect(fixture.host.counters.total(of: .user(try own.realUserID())) == 0)
  }

  @Test("in mode PROCESS the pages are charged to the address space and not to the user")
  func processMode() throws {
    let fixture = try AccountingFixture()
    let table = try fixture.table()
    let account = PinCounters.Counter.addressSpace(
      ObjectIdentifier(try fixture.client.addressSpace()))
    #expect(fixture.map(table, page: 0, pages: 4, mode: .process) == nil)
    #expect(fixture.host.counters.total(of: account) == 4 && fixture.charged == 0)
    #expect(fixture.map(table, page: 5, mode: .process) == .noMemory)
    // The counter of the user does not limit the charge to the address space.
    #expect(fixture.map(table, page: 5, pages: 4) == nil)
    _ = table.unmapAll()
    #expect(fixture.host.counters.total(of: account) == 0 && fixture.charged == 0)
  }

  @Test("IOMMU_IOAS_CHANGE_PROCESS moves the charge to the new process")
  func changeOfProcess() throws {
    let fixture = try AccountingFixture()
    let successor = try ChildProcess.unprivileged(user: 65533, lockablePages: 2)
    guard try successor.task.realUserID() != fixture.user else { return }
    let successorCounter = PinCounters.Counter.user(try successor.task.realUserID())
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "file", length: 1 << 16))
    let tables = [try fixture.table(), try fixture.table()]
    _ = try tables[0].map(
      file: file.rawValue, start: 0, length: 0x3000, at: 0, permissions: .read,
      accounting: .user, client: fixture.client)
    // Pages that both page tables share are charged once.
    let slices = try tables[0].pages(at: 0, length: 0x3000)
    _ = try tables[1].map(slices, length: 0x3000, at: 0, permissions: .read)
    #expect(fixture.charged == 3)

    let client = InProcessClient(identity: successor.task)
    #expect(throws: Errno.noMemory) { try IOPageTable.changeProcess(of: tables, to: client) }
    #expect(fixture.charged == 3 && fixture.host.counters.total(of: successorCounter) == 0)
    try successor.setLockablePages(3)
    try IOPageTable.changeProcess(of: tables, to: client)
    #expect(fixture.charged == 0 && fixture.host.counters.total(of: successorCounter) == 3)
    // A change to the same process charges nothing.
    try IOPageTable.changeProcess(of: tables, to: client)
    #expect(fixture.host.counters.total(of: successorCounter) == 3)

    #expect(fixture.map(tables[0], page: 8) == nil)
    #expect(throws: Errno.invalidArgument) {
      try IOPageTable.changeProcess(of: tables, to: fixture.client)
    }
    for table in tables { _ = table.unmapAll() }
    #expect(fixture.host.counters.total(of: successorCounter) == 0)
  }
}
