// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import Host

@Suite struct SharedPagesTests {
  private static let pages = 8
  private let memfd: OwnedDescriptor
  private let base: UnsafeMutableRawPointer
  private let space: AddressSpace

  init() throws {
    memfd = OwnedDescriptor(
      owning: try MemoryFile.create(name: "shared", length: UInt64(Self.pages) << 12))
    base = try #require(
      mmap(nil, Self.pages << 12, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.rawValue, 0))
    space = try AddressSpace(of: HostTask(id: getpid()))
  }

  private func range(_ pages: Range<Int>) -> Range<UInt64> {
    let start = UInt64(UInt(bitPattern: base))
    return start + UInt64(pages.lowerBound) << 12..<start + UInt64(pages.upperBound) << 12
  }

  private var allocatedPages: Int {
    var status = stat()
    fstat(memfd.rawValue, &status)
    return Int(status.st_blocks) / 8
  }

  @Test func missingPagesOfTheRangeAreAllocated() throws {
    defer { munmap(base, Self.pages << 12) }
    for forWriting in [false, true] {
      #expect(space.faultInShared(range(2..<5), forWriting: forWriting))
      #expect(allocatedPages == 3)
    }
    #expect(space.faultInShared(range(0..<8), forWriting: true))
    #expect(allocatedPages == 8)
  }

  @Test func pagesBehindTheEndOfTheFileFail() throws {
    defer { munmap(base, Self.pages << 12) }
    ftruncate(memfd.rawValue, 4 << 12)
    #expect(space.faultInShared(range(0..<4), forWriting: true))
    #expect(!space.faultInShared(range(3..<5), forWriting: false))
  }

  /// A file system that no mount shows is taken for one that writes back.
  @Test func onlyFileSystemsInMemoryWriteNothingBack() throws {
    defer { munmap(base, Self.pages << 12) }
    let own = getpid()
    #expect(try !FileStatus(of: memfd).identity.isWrittenBack(seenBy: own))
    let overlay = "36 35 0:31 / /mnt rw,noatime shared:1 - overlay overlay rw"
    let tmpfs = "37 35 0:32 / /mnt/a rw - tmpfs none rw,size=4k"
    let device = FileIdentity(major: 0, minor: 32, inode: 1).device
    #expect(MemoryFileSystem.isListed(device, in: overlay + "\n" + tmpfs))
    #expect(!MemoryFileSystem.isListed(device - 1, in: overlay + "\n" + tmpfs))
    #expect(FileIdentity(device: 0xfe_dcba, inode: 1).isWrittenBack(seenBy: own))
  }
}
