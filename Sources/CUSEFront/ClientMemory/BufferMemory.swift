internal import SystemPackage
internal import UAPI

extension UserBuffer {
  /// A buffer of this server as the memory of a read or write.
  init(_ memory: BufferMemory) {
    self.init(memory: memory, address: 0, count: memory.count)
  }
}

/// The data of a read or write, which CUSE moves itself.
final class BufferMemory: UserMemory {
  private let storage: UnsafeMutableRawBufferPointer

  var count: Int { storage.count }

  init(count: Int) {
    storage = .allocate(byteCount: count, alignment: 16)
    // A device that stores less than it says must not show an old answer to another client.
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
