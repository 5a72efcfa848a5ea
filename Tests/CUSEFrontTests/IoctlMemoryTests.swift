// SPDX-License-Identifier: Apache-2.0

import Glibc
import Host
import SystemPackage
import Testing
import UAPI

@testable import CUSEFront

@Suite("The memory of an ioctl")
struct IoctlMemoryTests {
  /// This process is the client, because it may read its own memory.
  private let task = HostTask(id: getpid())

  @Test func withoutAFetchedStructTheCallersMemoryIsAccessed() throws {
    let memory = UnsafeMutablePointer<UInt64>.allocate(capacity: 2)
    defer { memory.deallocate() }
    (memory[0], memory[1]) = (5, 6)
    let address = UInt64(UInt(bitPattern: memory))
    let call = IoctlMemory(of: task, argument: address, fetched: nil)
    #expect(try call.load(UInt64.self, at: address + 8) == 6)
    try call.store(UInt64(9), at: address)
    #expect(memory[0] == 9)
    #expect(call.fetched == nil && !call.wasDenied && !call.wasDeniedAtFirst)
    #expect(throws: Errno.badAddress) { try call.load(UInt32.self, at: 8) }
    #expect(!call.wasDenied)
  }

  @Test func aFetchedStructIsReadAndWrittenInItsCopy() throws {
    let call = IoctlMemory(of: task, argument: 0x1000, fetched: [8, 0, 0, 0, 1, 2, 3, 4])
    #expect(try call.load(UInt32.self, at: 0x1000) == 8)
    #expect(try call.load(UInt8.self, at: 0x1007) == 4)
    try call.store(UInt16(0xaabb), at: 0x1004)
    #expect(call.fetched == [8, 0, 0, 0, 0xbb, 0xaa, 3, 4])
  }

  @Test(
    arguments: [
      (0x1000, 16), (0x1004, 8), (0xfff, 4), (0x1008, 1), (UInt64.max, 4), (UInt64.max - 3, 8),
    ] as [(UInt64, Int)])
  func anAccessBeyondTheFetchedStructIsEFAULT(address: UInt64, count: Int) {
    let call = IoctlMemory(of: task, argument: 0x1000, fetched: [UInt8](repeating: 0, count: 8))
    withUnsafeTemporaryAllocation(byteCount: count, alignment: 1) { buffer in
      buffer.initializeMemory(as: UInt8.self, repeating: 0)
      #expect(throws: Errno.badAddress) { try call.copyIn(from: address, into: buffer) }
      #expect(throws: Errno.badAddress) {
        try call.copyOut(UnsafeRawBufferPointer(buffer), to: address)
      }
    }
    #expect(call.fetched == [UInt8](repeating: 0, count: 8))
  }

  @Test func theRoundFollowsFromTheFetchedBytes() {
    let bytes: [UInt8] = [24, 0, 0, 0, 1, 2]
    bytes.withUnsafeBytes { bytes in
      let size = UnsafeRawBufferPointer(rebasing: bytes[..<4])
      #expect(FetchRound(received: .init(start: nil, count: 0), room: 0) == .nothing)
      #expect(FetchRound(received: size, room: 0) == .size(24))
      #expect(FetchRound(received: size, room: 4) == .structure([24, 0, 0, 0]))
      #expect(FetchRound(received: bytes, room: 6) == .structure(Array(bytes)))
    }
  }

  @Test(arguments: [(0, 4), (3, 4), (4, 4), (24, 24), (65536, 65536), (UInt32.max, 65536)])
  func between4BytesAnd64KiBOfAStructAreFetched(size: UInt32, length: Int) {
    #expect(FetchRound.structureLength(size) == length)
  }

  @Test func theAddressesOfABufferBeginAtZero() throws {
    let memory = BufferMemory(count: 4)
    try memory.store(UInt16(0x0201), at: 2)
    #expect(try memory.withBytes { Array($0) } == [0, 0, 1, 2])
    #expect(throws: Errno.badAddress) { try memory.store(UInt16(0), at: 3) }
    #expect(throws: Errno.badAddress) { try memory.load(UInt8.self, at: 4) }
    #expect(throws: Errno.badAddress) { try memory.load(UInt8.self, at: UInt64.max) }
    #expect(throws: Errno.badAddress) { try memory.load(UInt64.self, at: 0) }
  }
}
