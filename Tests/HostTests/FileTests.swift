// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import Host

@Suite struct FileIdentityMappingsTests {
  @Test func mappedRangesOfAFileAreFound() throws {
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "a name", length: 5 * 4096))
    let identity = try FileStatus(of: file).identity
    #expect(!identity.isMapped(0..<20480))
    let base = try #require(
      mmap(nil, 8192, PROT_READ, MAP_SHARED, file.rawValue, 4096))
    for (range, isMapped) in [
      (0..<4096, false), (0..<4097, true), (4096..<8192, true), (8192..<12288, true),
      (12287..<12288, true), (12288..<20480, false), (0..<UInt64.max, true),
    ] as [(Range<UInt64>, Bool)] {
      #expect(identity.isMapped(range) == isMapped)
    }
    let other = FileIdentity(device: identity.device + 1, inode: identity.inode)
    #expect(!other.isMapped(0..<20480))
    munmap(base, 4096)
    #expect(identity.isMapped(8192..<12288) && !identity.isMapped(4096..<8192))
    munmap(base + 4096, 4096)
    #expect(!identity.isMapped(0..<20480))
  }

  @Test func mappingsOfOtherProcessesAreFound() throws {
    let child = try ChildProcess()
    let program = OwnedDescriptor(owning: open("/proc/\(child.id)/exe", O_RDONLY))
    #expect(try FileStatus(of: program).identity.isMapped(0..<1))
  }
}

@Suite struct FileStatusTests {
  @Test func allocationFillsHolesAndKeepsTheSize() throws {
    let memfd = OwnedDescriptor(owning: try MemoryFile.create(name: "holes", length: 16384))
    #expect(try FileStatus(of: memfd).hasHoles)
    try memfd.allocate(0..<16384)
    let status = try FileStatus(of: memfd)
    #expect(!status.hasHoles && status.size == 16384 && status.isMemory)
  }

  @Test func devicesAreNoMemory() throws {
    let null = OwnedDescriptor(owning: open("/dev/null", O_RDWR))
    #expect(try !FileStatus(of: null).isMemory)
  }
}

@Suite struct SharedMemoryFileTests {
  @Test func filesOfOtherFileSystemsAreRejected() throws {
    let program = OwnedDescriptor(owning: open("/proc/self/status", O_RDONLY))
    #expect(throws: Errno.invalidArgument) { try SharedMemoryFile(program) }
  }

  @Test func openModeAndSealsDecideWhetherAFileIsWritable() throws {
    let memfd = OwnedDescriptor(owning: try MemoryFile.create(name: "seals", length: 8192))
    let file = try SharedMemoryFile(memfd)
    #expect(file.isWritable && file.pageSize == 4096 && file.size == 8192)
    let reader = OwnedDescriptor(owning: open("/proc/self/fd/\(memfd.rawValue)", O_RDONLY))
    #expect(try !SharedMemoryFile(reader).isWritable)
    // F_ADD_SEALS, F_SEAL_FUTURE_WRITE
    #expect(fcntl(memfd.rawValue, 1033, 0x10) == 0)
    #expect(try !SharedMemoryFile(memfd).isWritable)
  }

  @Test func writesEndAtTheSizeOfTheFile() throws {
    let memfd = OwnedDescriptor(owning: try MemoryFile.create(name: "short", length: 4096))
    let file = try SharedMemoryFile(memfd)
    withUnsafeBytes(of: UInt64(7)) { bytes in
      #expect(file.write(bytes, at: 4088) == 8)
      #expect(file.write(bytes, at: 4092) == 0)
    }
    #expect(file.size == 4096)
  }
}

@Suite struct OwnedDescriptorTests {
  @Test func aPathOnlyDescriptorIsRecognised() {
    #expect(!OwnedDescriptor(owning: open("/dev/null", O_RDWR)).isPathOnly)
    #expect(OwnedDescriptor(owning: open("/dev/null", 0o10000000)).isPathOnly)
  }

  @Test func aReadOnlyDescriptorIsReopenedForWriting() throws {
    let memfd = OwnedDescriptor(owning: try MemoryFile.create(name: "reopened", length: 4096))
    #expect(memfd.reopenedForWriting() === memfd)
    let reader = OwnedDescriptor(owning: open("/proc/self/fd/\(memfd.rawValue)", O_RDONLY))
    let writer = try #require(reader.reopenedForWriting())
    #expect(writer.isWritable && !reader.isWritable)
  }
}
