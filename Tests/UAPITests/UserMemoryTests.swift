import SystemPackage
import TestSupport
import Testing
import UAPI

/// Structs and arrays in a caller's memory, which is one page between pages that cannot be
/// accessed.
@Suite struct UserMemoryTests {
  private let client = InProcessClient()
  private let memory = TestMemory()

  init() {
    for index in memory.bytes.indices { memory.bytes[index] = UInt8(truncatingIfNeeded: index | 1) }
  }

  private func clear(from offset: Int) {
    for index in offset..<memory.byteCount { memory.bytes[index] = 0 }
  }

  /// Copies a struct of `userSize` bytes from the caller into a struct of 16 bytes.
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

  @Test("the missing end of a shorter struct is zero", arguments: [0, 1, 8, 15, 16])
  func shorterStructsEndInZeros(_ size: Int) throws {
    let copied = try copyStruct(userSize: size, at: memory.address)
    #expect(Array(copied.prefix(size)) == Array(memory.bytes.prefix(size)))
    #expect(copied.dropFirst(size).allSatisfy { $0 == 0 })
  }

  @Test("a surplus that is not zero is E2BIG", arguments: [17, 24, 100, 4096])
  func surplusMustBeZero(_ size: Int) throws {
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
    #expect(throws: Never.self, "just behind") {
      try copyStruct(userSize: 4095, at: memory.address)
    }
  }

  @Test("a surplus that is not zero is E2BIG even when memory behind it cannot be read")
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

  @Test("a prefix of a struct can be read and written")
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

  @Test("an array is read and written by element")
  func arrays() throws {
    let words: [UInt32] = [1, 0x8000_0000, .max]
    try client.storeArray(words, at: memory.address + 1)
    #expect(try client.loadArray(of: UInt32.self, 3, at: memory.address + 1) == words)
    #expect(try client.loadArray(of: UInt32.self, 0, at: memory.address) == [])
    #expect(throws: Errno.badAddress) {
      try client.storeArray(words, at: memory.end - 8)
    }
    #expect(memory.load(UInt64.self, at: 4088) == 0x8000_0000_0000_0001, "what there was room for")
    #expect(throws: Errno.badAddress) {
      try client.loadArray(of: UInt64.self, 2, at: memory.end - 8)
    }
  }
}
