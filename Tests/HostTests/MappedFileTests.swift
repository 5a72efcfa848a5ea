// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing

@testable import Host

@Suite struct MappedFileTests {
  @Test func aMappedFileIsOpenedAndItsIdentityChecked() throws {
    let memfd = OwnedDescriptor(owning: try MemoryFile.create(name: "mapped", length: 4096))
    let base = try #require(
      mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.rawValue, 0))
    defer { munmap(base, 4096) }
    let space = try AddressSpace(of: HostTask(id: getpid()))
    let area = try #require(try space.area(containing: UInt64(UInt(bitPattern: base))))
    let file = try #require(area.file)
    let opened = try #require(MappedFile.open(area, file, of: space))
    #expect(opened.isMemory && opened.isWritable)
    #expect(try FileStatus(of: opened.descriptor).identity == file)
    let other = FileIdentity(device: file.device, inode: file.inode + 1_000_000)
    #expect(MappedFile.open(area, other, of: space) == nil)
  }
}
