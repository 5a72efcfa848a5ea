// SPDX-License-Identifier: Apache-2.0

internal import SystemPackage
internal import UAPI

/// The data of a read or write that FUSE copies from or to the caller. Its addresses begin at 0.
final class BufferMemory: UserMemory {
  private let storage: UnsafeMutableRawBufferPointer

  var count: Int { storage.count }

  init(count: Int) {
    storage = .allocate(byteCount: count, alignment: 16)
    // A device may store fewer bytes than it says it has. The client must not see an answer to
    // another client in the others.
    storage.initializeMemory(as: UInt8.self, repeating: 0)
  }

  init(copying bytes: UnsafeRawBufferPointer) {
    storage = .allocate(byteCount: bytes.count, alignment: 16)
    storage.copyMemory(from: bytes)
  }

  deinit {
    storage.deallocate()
  }

  func withBytes<Result>(
    _ body: (UnsafeMutableRawBufferPointer) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    defer { withExtendedLifetime(self) {} }
    return try body(storage)
  }

  func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    let range = try range(address, buffer.count)
    buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: storage[range]))
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    let range = try range(address, bytes.count)
    UnsafeMutableRawBufferPointer(rebasing: storage[range]).copyMemory(from: bytes)
  }

  private func range(_ address: UInt64, _ length: Int) throws(Errno) -> Range<Int> {
    guard address <= UInt64(count), length <= count - Int(address) else { throw .badAddress }
    return Int(address)..<Int(address) + length
  }
}

extension UserBuffer {
  /// All of `memory`.
  init(_ memory: BufferMemory) {
    self.init(memory: memory, address: 0, count: memory.count)
  }
}
