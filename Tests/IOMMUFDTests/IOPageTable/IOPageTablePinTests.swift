// SPDX-License-Identifier: Apache-2.0

// Pins of this process's memory and of files.

import Glibc
import Host
import IOMMU
import SystemPackage
import TestSupport
import Testing

@testable import IOMMUFD

@Suite struct PinTests {
  @Test("private memory is pinned in place, and a pin makes every page present")
  func privateMemoryIsUsedInPlace() throws {
    let fixture = try PinFixture()
    let mapping = try TestMapping(4)
    (mapping.pointer + 4096).storeBytes(of: 7, as: UInt64.self)
    #expect(!mapping.isPresent(2))
    #expect(fixture.map(mapping, pages: 4) == nil)
    // A pin faults in every page, also those that were never accessed.
    #expect((0..<4).allSatisfy(mapping.isPresent))
    #expect(fixture.memory.pinnedFrames == 4)
    #expect(fixture.word(at: 0x11000) == 7)
    try fixture.store(9, at: 0x12008)
    #expect((mapping.pointer + 0x2008).load(as: UInt64.self) == 9)
    #expect(try fixture.table.unmap(0x10000, length: 0x4000).get() == 0x4000)
    #expect(fixture.memory.pinnedFrames == 0)
    #expect(fixture.domain.mappings.isEmpty)
  }

  @Test("a pin requires the protection of its access, and one bad page unpins the pages before it")
  func protectionDecides() throws {
    let fixture = try PinFixture()
    let mapping = try TestMapping(8)
    mapping.protect(page: 1, PROT_READ)
    mapping.protect(page: 3, PROT_NONE)
    mapping.protect(page: 5, PROT_WRITE)
    mapping.protect(page: 6, PROT_WRITE)
    #expect(fixture.map(mapping, page: 1) == .badAddress)
    #expect(fixture.map(mapping, page: 1, writable: false) == nil)
    #expect(fixture.map(mapping, page: 3, writable: false, at: 0x20000) == .badAddress)
    // Memory that can only be written can be pinned for writing.
    #expect(fixture.map(mapping, page: 5, at: 0x30000) == nil)
    #expect(fixture.map(mapping, page: 5, writable: false, at: 0x40000) == nil)
    // It can be pinned for reading only once it was touched, which the pin for writing has done.
    #expect(fixture.map(mapping, page: 6, writable: false, at: 0x60000) == .badAddress)
    // One page that cannot be pinned fails the whole pin, and the pages before it are unpinned.
    let before = fixture.memory.pinnedFrames
    #expect(fixture.map(mapping, page: 2, pages: 2, at: 0x50000) == .badAddress)
    #expect(fixture.memory.pinnedFrames == before)
    #expect(fixture.table.areaCount == 3)
  }

  @Test("addresses that no VMA covers, the vsyscall page and the last page cannot be pinned")
  func unmappedAddresses() throws {
    let fixture = try PinFixture()
    let mapping = try TestMapping(3)
    munmap(mapping.pointer + 4096, 4096)
    #expect(fixture.map(mapping, pages: 3) == .badAddress)
    #expect(fixture.map(0, 4096, writable: false, at: 0x10000) == .badAddress)
    #expect(fixture.map(1 << 63, 4096, writable: false, at: 0x10000) == .badAddress)
    // The vsyscall page, which /proc/self/maps lists, and the last page of the address space.
    let vsyscall: UInt64 = 0xffff_ffff_ff60_0000
    #expect(fixture.map(vsyscall, 4096, writable: false, at: 0x10000) == .badAddress)
    #expect(fixture.map(0 &- 4096, 4096, writable: false, at: 0x10000) == .overflow)
  }

  /// The test uses the time page (vvar) that the kernel maps into every process.
  @Test("a VM_IO mapping cannot be pinned")
  func deviceMemory() throws {
    let maps = try ProcFile.read("/proc/self/maps")
    let line = try #require(maps.split(separator: "\n").first { $0.hasSuffix("[vvar]") })
    let address = try #require(UInt64(line.prefix { $0 != "-" }, radix: 16))
    let fixture = try PinFixture()
    #expect(fixture.map(address, 4096, writable: false, at: 0x10000) == .badAddress)
  }

  @Test("pages of a file that the host refuses cannot be pinned")
  func refusedFiles() throws {
    let fixture = try PinFixture()
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "registers", length: 4096))
    let mapping = try TestMapping(1, flags: MAP_SHARED, file: file.rawValue)
    let identity = try FileStatus(of: file).identity
    fixture.table.host.files.refuse(identity)
    #expect(fixture.map(mapping) == .badAddress)
    fixture.table.host.files.permit(identity)
    #expect(fixture.map(mapping) == nil)
  }

  // MARK: Files

  @Test(
    "pinned shared memory stays accessible after the process unmaps it", arguments: [true, false])
  func sharedMemoryOutlivesItsMapping(keepsFile: Bool) throws {
    let fixture = try PinFixture()
    var file: OwnedDescriptor? = OwnedDescriptor(
      owning: try MemoryFile.create(name: "shared", length: 16384))
    do {
      let mapping = try TestMapping(2, flags: MAP_SHARED, file: file!.rawValue, offset: 8192)
      if !keepsFile { file = nil }
      (mapping.pointer + 4096).storeBytes(of: 5, as: UInt64.self)
      #expect(fixture.map(mapping, pages: 2) == nil)
      #expect(fixture.word(at: 0x11000) == 5)
    }
    #expect(fixture.word(at: 0x11000) == 5)
    try fixture.store(6, at: 0x11000)
    #expect(fixture.word(at: 0x11000) == 6)
  }

  @Test("a page of a file has one frame through a mapping and through a descriptor")
  func framesOfAFile() throws {
    let fixture = try PinFixture()
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "shared", length: 16384))
    let first = try TestMapping(4, flags: MAP_SHARED, file: file.rawValue)
    let second = try TestMapping(4, flags: MAP_SHARED, file: file.rawValue)
    #expect(fixture.map(first, pages: 4) == nil)
    #expect(fixture.map(second, pages: 4, at: 0x20000) == nil)
    #expect(fixture.memory.pinnedFrames == 4)
    let physical = fixture.domain.physicalAddress(of: IOVA(0x12000))
    #expect(fixture.domain.physicalAddress(of: IOVA(0x22000)) == physical)
    // All pages are one run, so a domain can use large pages.
    #expect(fixture.domain.mappings[0x10000]?.length == 0x4000)
  }

  @Test("pages behind the end of a file cannot be pinned")
  func behindTheEndOfAFile() throws {
    let fixture = try PinFixture()
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "short", length: 4096 + 5))
    let mapping = try TestMapping(4, flags: MAP_SHARED, file: file.rawValue)
    #expect(fixture.map(mapping, pages: 2) == nil)
    #expect(fixture.map(mapping, page: 2, at: 0x20000) == .badAddress)
    let copy = try TestMapping(4, flags: MAP_PRIVATE, file: file.rawValue)
    #expect(fixture.map(copy, page: 1, at: 0x30000) == nil)
    #expect(fixture.map(copy, page: 2, at: 0x40000) == .badAddress)
  }

  @Test("a writable pin of a private file mapping copies the page")
  func privateFilePagesAreCopied() throws {
    let fixture = try PinFixture()
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "private", length: 8192))
    let mapping = try TestMapping(2, flags: MAP_PRIVATE, file: file.rawValue)
    #expect(fixture.map(mapping, pages: 2) == nil)
    try fixture.store(3, at: 0x10000)
    #expect(mapping.pointer.load(as: UInt64.self) == 3)
    var word: UInt64 = 1
    #expect(pread(file.rawValue, &word, 8, 0) == 8)
    #expect(word == 0)
  }

  @Test("pages of a file on a disk can be pinned for reading only")
  func pagesOfADiskFileCannotBeWritten() throws {
    var name = Array("/var/tmp/iommufd-sim-test-XXXXXX".utf8CString)
    let file = OwnedDescriptor(owning: mkstemp(&name))
    unlink(name)
    #expect(ftruncate(file.rawValue, 8192) == 0)
    guard try !FileStatus(of: file).isMemory else { return }
    let fixture = try PinFixture()
    let mapping = try TestMapping(2, flags: MAP_SHARED, file: file.rawValue)
    #expect(fixture.map(mapping) == .badAddress)
    #expect(fixture.map(mapping, writable: false) == nil)
    let copy = try TestMapping(2, flags: MAP_PRIVATE, file: file.rawValue)
    #expect(fixture.map(copy, at: 0x20000) == nil)
    #expect(fixture.mapFile(file.rawValue, 0, 4096) == .fileExists)
    _ = fixture.table.unmapAll()
    #expect(fixture.mapFile(file.rawValue, 0, 4096) == .invalidArgument)
  }

  @Test(
    "IOMMU_IOAS_MAP_FILE requires whole pages inside the file and accepts a read-only descriptor")
  func mapFile() throws {
    let fixture = try PinFixture()
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "file", length: 0x4800))
    var word: UInt64 = 77
    #expect(pwrite(file.rawValue, &word, 8, 0x1000) == 8)
    #expect(fixture.mapFile(file.rawValue, 0x1000, 0x3000) == nil)
    #expect(fixture.word(at: 0x10000) == 77)
    _ = fixture.table.unmapAll()
    // The file must contain whole pages.
    #expect(fixture.mapFile(file.rawValue, 0x4000, 0x1000) == .invalidArgument)
    #expect(fixture.mapFile(file.rawValue, 1 << 63, 0x1000) == .invalidArgument)
    #expect(fixture.mapFile(file.rawValue, .max - 4094, 0x1000) == .overflow)
    #expect(fixture.mapFile(file.rawValue, 0, 0) == .invalidArgument)
    #expect(fixture.mapFile(-1, 0, 0x1000) == .badFileDescriptor)

    let path = open("/proc/self/fd/\(file.rawValue)", 0o10000000)  // O_PATH
    defer { close(path) }
    #expect(fixture.mapFile(path, 0, 0x1000) == .badFileDescriptor)
    // The open mode of the descriptor is not checked.
    let readOnly = open("/proc/self/fd/\(file.rawValue)", O_RDONLY)
    defer { close(readOnly) }
    #expect(fixture.mapFile(readOnly, 0x1000, 0x1000) == nil)
    try fixture.store(78, at: 0x10000)
    #expect(pread(file.rawValue, &word, 8, 0x1000) == 8)
    #expect(word == 78)
  }

  @Test("the server keeps one descriptor for each file that is mapped")
  func oneDescriptorForEachFile() throws {
    let fixture = try PinFixture()
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "file", length: 1 << 20))
    let mapping = try TestMapping(256, flags: MAP_SHARED, file: file.rawValue)
    func descriptors() -> Int {
      (0..<1024 as Range<Int32>).count { number in
        let own = (try? fixture.client.duplicateDescriptor(number)).map { try? FileStatus(of: $0) }
        let wanted = try? FileStatus(of: file).identity
        return own??.identity == wanted
      }
    }
    for page in 0..<100 as Range<UInt64> {
      _ = try fixture.table.map(
        file: file.rawValue, start: page * 4096, length: 4096, at: nil,
        permissions: [.read, .write], accounting: .user, client: fixture.client)
      #expect(fixture.map(mapping, page: 100 + Int(page), at: 1 << 32 + page << 12) == nil)
    }
    #expect(descriptors() <= 3)
  }

  @Test("a file that is not shared memory is refused when it is pinned")
  func otherFiles() throws {
    let memory = try PhysicalMemory(.test)
    let table = IOPageTable(memory: memory, host: PinningHost())
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    defer { ends.forEach { close($0) } }
    _ = try table.map(
      file: ends[0], start: 0, length: 4096, at: 0x1000, permissions: .read, accounting: .user,
      client: InProcessClient())
    let domain = try RecordingDriver().newDomain()
    #expect(throws: Errno.invalidArgument) { try table.addDomain(domain) }
    #expect(domain.mappings.isEmpty && table.alignment == 1)
    #expect(table.usableRanges == [0...UInt64.max])
  }

  // MARK: Users of pages

  @Test("a copy shares the pinned pages of its source and keeps them when the source is unmapped")
  func copiesShareTheirPages() throws {
    let fixture = try PinFixture()
    let other = IOPageTable(memory: fixture.memory, host: fixture.table.host)
    let domain = try RecordingDriver().newDomain()
    try other.addDomain(domain)
    let mapping = try TestMapping(4)
    #expect(fixture.map(mapping, pages: 4) == nil)
    let slices = try fixture.table.pages(at: 0x11000, length: 0x2000)
    _ = try other.map(slices, length: 0x2000, at: 0x50000, permissions: [.read, .write])
    #expect(fixture.memory.pinnedFrames == 4)
    // The pinned pages are shared even when the process has removed the permissions.
    mapping.protect(page: 0, count: 4, PROT_NONE)
    _ = try other.map(slices, length: 0x2000, at: 0x60000, permissions: [.read])
    #expect(fixture.memory.pinnedFrames == 4)
    let physical = fixture.domain.physicalAddress(of: IOVA(0x12000))
    #expect(domain.physicalAddress(of: IOVA(0x51000)) == physical)
    #expect(domain.physicalAddress(of: IOVA(0x61000)) == physical)
    // The copies keep their pages pinned when the first mapping is unmapped.
    _ = fixture.table.unmapAll()
    #expect(fixture.memory.pinnedFrames == 2)
    _ = try other.unmap(0x50000, length: 0x2000).get()
    #expect(fixture.memory.pinnedFrames == 2)
    _ = other.unmapAll()
    #expect(fixture.memory.pinnedFrames == 0)
  }

  @Test("pages are pinned only while a domain uses them")
  func pagesArePinnedOnlyForDomains() throws {
    let memory = try PhysicalMemory(.test)
    let table = IOPageTable(memory: memory, host: PinningHost())
    let mapping = try TestMapping(4)
    _ = try table.map(
      userAddress: mapping.address, length: 0x4000, at: 0x1000, permissions: .read,
      accounting: .user, client: InProcessClient())
    #expect(memory.pinnedFrames == 0)
    let domains = [try RecordingDriver().newDomain(), try RecordingDriver().newDomain()]
    for domain in domains { try table.addDomain(domain) }
    #expect(memory.pinnedFrames == 4)
    #expect(domains[0].mappings == domains[1].mappings)
    table.removeDomain(domains[0])
    #expect(memory.pinnedFrames == 4 && domains[0].mappings.isEmpty)
    #expect(domains[1].mappedBytes == 0x4000)
    table.removeDomain(domains[1])
    #expect(memory.pinnedFrames == 0)
    #expect(table.areaCount == 1)
  }

  @Test("a domain is not attached when a page cannot be pinned")
  func unpinnablePages() throws {
    let memory = try PhysicalMemory(.test)
    let table = IOPageTable(memory: memory, host: PinningHost())
    let mapping = try TestMapping(4)
    for page in 0..<4 as Range<UInt64> {
      _ = try table.map(
        userAddress: mapping.address + page * 4096, length: 4096, at: IOVA(page * 4096),
        permissions: [.read, .write], accounting: .user, client: InProcessClient())
    }
    mapping.protect(page: 2, PROT_READ)
    let driver = RecordingDriver(aperture: 0...0xffff_ffff)
    let domain = try driver.newDomain()
    #expect(throws: Errno.badAddress) { try table.addDomain(domain) }
    #expect(memory.pinnedFrames == 0 && domain.mappings.isEmpty)
    #expect(table.alignment == 1 && table.usableRanges == [0...UInt64.max])
    mapping.protect(page: 2, PROT_READ | PROT_WRITE)
    try table.addDomain(domain)
    #expect(domain.mappedBytes == 0x4000)
    #expect(table.usableRanges == [0...0xffff_ffff])
  }

  @Test("a domain is not attached when an area is outside its aperture")
  func areasOutsideTheAperture() throws {
    let table = IOPageTable(memory: try .testMemory, host: PinningHost())
    let mapping = try TestMapping(1)
    _ = try table.map(
      userAddress: mapping.address, length: 4096, at: IOVA(1 << 32), permissions: .read,
      accounting: .user, client: InProcessClient())
    let domain = try RecordingDriver(aperture: 0x1000...0xffff_ffff).newDomain()
    #expect(throws: Errno.addressInUse) { try table.addDomain(domain) }
    #expect(table.usableRanges == [0...UInt64.max])
    _ = table.unmapAll()
    try table.setAllowed([0...0xfff])
    #expect(throws: Errno.addressInUse) { try table.addDomain(domain) }
    try table.setAllowed([])
    try table.addDomain(domain)
    #expect(table.usableRanges == [0x1000...0xffff_ffff])
    #expect(throws: Errno.addressInUse) { try table.setAllowed([0...0x1fff]) }
    table.removeDomain(domain)
    #expect(table.usableRanges == [0...UInt64.max])
  }

  @Test("a domain of 2 KiB pages maps IOVAs and lengths that are not whole pages")
  func domainsOfSmallerPages() throws {
    let memory = try PhysicalMemory(.test)
    let table = IOPageTable(memory: memory, host: PinningHost())
    let domain = try RecordingDriver(pageSizes: 0x800 | 0x1000).newDomain()
    try table.addDomain(domain)
    #expect(table.alignment == 0x800)
    let mapping = try TestMapping(2)
    (mapping.pointer + 0x1000).storeBytes(of: 4, as: UInt64.self)
    let iova = try table.map(
      userAddress: mapping.address + 0x800, length: 0x1000, at: 0x2800,
      permissions: [.read, .write], accounting: .user, client: InProcessClient())
    #expect(iova == 0x2800)
    #expect(memory.pinnedFrames == 2)
    let physical = try #require(domain.physicalAddress(of: IOVA(0x3000)))
    #expect(memory.word(at: physical) == 4)
    #expect(domain.mappedBytes == 0x1000)
    #expect(try table.unmap(0x2800, length: 0x1000).get() == 0x1000)
    #expect(domain.mappings.isEmpty && memory.pinnedFrames == 0)
    let coarse = try RecordingDriver(pageSizes: 0x1_0000).newDomain()
    #expect(throws: Errno.invalidArgument) { try table.addDomain(coarse) }
  }
}
