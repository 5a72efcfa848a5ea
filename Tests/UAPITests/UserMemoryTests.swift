// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing
import UAPI

/// The caller's memory is one page; the pages before and behind it are not mapped.
@Suite("Structs and arrays in a caller's memory") struct UserMemoryTests {
  private let client = InProcessClient()
  private let memory = TestMemory()

  init() {
    for index in memory.bytes.indices { memory.bytes[index] = UInt8(truncatingIfNeeded: index | 1) }
  }

  private func clear(from offset: Int) {
    for index in offset..<memory.byteCount { memory.bytes[index] = 0 }
  }

  /// Returns a struct of 16 bytes that is copied from the caller's struct of `userSize` bytes.
  private func copyStruct(userSize: Int, at address: UInt64) throws(Errno) -> [UInt8] {
    var ours = InlineStruct()
    try withUnsafeMutableBytes(of: &ours) { buffer throws(Errno) in
      try client.copyStruct(from: address, userSize: userSize, into: buffer)
    }
    return withUnsafeBytes(of: ours) { Array($0) }
  }

  private struct InlineStruct {
    var low: UInt64 = .max
    var high: UInt64 = .max
  }

  @Test("A shorter struct of the caller is followed by zeros", arguments: [0, 1, 8, 15, 16])
  func shorterStructs(_ size: Int) throws {
    let copied = try copyStruct(userSize: size, at: memory.address)
    #expect(Array(copied.prefix(size)) == Array(memory.bytes.prefix(size)))
    #expect(copied.dropFirst(size).allSatisfy { $0 == 0 })
  }

  /// The sizes are smaller and larger than the pieces in which the surplus is read.
  @Test(
    "The surplus of a longer struct must be zero, to its last byte",
    arguments: [17, 24, 100, 4096])
  func surplus(_ size: Int) throws {
    clear(from: 16)
    let copied = try copyStruct(userSize: size, at: memory.address)
    #expect(copied == Array(memory.bytes.prefix(16)))
    for place in Set([16, (16 + size) / 2, size - 1]) {
      memory.bytes[place] = 0x80
      #expect(throws: Errno.argListTooLong) {
        try copyStruct(userSize: size, at: memory.address)
      }
      memory.bytes[place] = 0
    }
    memory.bytes[memory.byteCount - 1] = 1
    #expect(throws: Never.self, "the byte behind the surplus is not read") {
      try copyStruct(userSize: 4095, at: memory.address)
    }
  }

  @Test("The surplus is read upwards: E2BIG for a byte before a hole, else EFAULT")
  func surplusBeforeAHole() {
    let address = memory.end - 64
    clear(from: memory.byteCount - 48)
    #expect(throws: Errno.badAddress) {
      try copyStruct(userSize: 1 << 20, at: address)
    }
    memory.bytes[memory.byteCount - 1] = 1
    #expect(throws: Errno.argListTooLong) {
      try copyStruct(userSize: 1 << 20, at: address)
    }
    #expect(throws: Errno.badAddress) {
      try copyStruct(userSize: 32, at: memory.end)
    }
    #expect(throws: Errno.badAddress) {
      try copyStruct(userSize: 32, at: .max - 8)
    }
    #expect(throws: Errno.badAddress) {
      try copyStruct(userSize: 1 << 20, at: 0x7fff_ffff_e000)
    }
  }

  @Test("A prefix of a value is loaded and stored without the bytes behind it")
  func prefixes() throws {
    let low = memory.load(UInt32.self)
    #expect(try client.loadPrefix(of: UInt64.self, count: 4, at: memory.address) == UInt64(low))
    #expect(try client.loadPrefix(of: UInt64.self, count: 4, at: memory.end - 4) >> 32 == 0)
    #expect(throws: Errno.badAddress) {
      try client.loadPrefix(of: UInt64.self, count: 5, at: memory.end - 4)
    }
    let behind = memory.load(UInt8.self, at: 3)
    try client.storePrefix(of: UInt64.max, count: 3, at: memory.address)
    #expect(memory.load(UInt32.self) == UInt32(behind) << 24 | 0xff_ffff)
  }

  @Test("An array need not be aligned; a store stops at a hole")
  func arrays() throws {
    let words: [UInt32] = [1, 0x8000_0000, .max]
    try client.storeArray(words, at: memory.address + 1)
    #expect(try client.loadArray(of: UInt32.self, 3, at: memory.address + 1) == words)
    #expect(try client.loadArray(of: UInt32.self, 0, at: memory.address) == [])
    #expect(throws: Errno.badAddress) {
      try client.storeArray(words, at: memory.end - 8)
    }
    #expect(memory.load(UInt64.self, at: 4088) == 0x8000_0000_0000_0001, "stored before the hole")
    #expect(throws: Errno.badAddress) {
      try client.loadArray(of: UInt64.self, 2, at: memory.end - 8)
    }
  }
}
