// SPDX-License-Identifier: Apache-2.0

// Driver-specific structs that a client passes through iommufd (struct iommu_user_data). The type
// number says which struct it is, and the length says which version of the struct. The driver names
// the struct and its first version when it loads the struct.

package import SystemPackage
package import UAPI

/// The type, address and length of one driver-specific struct.
package struct UserData {
  package let type: UInt32
  package let address: UInt64
  package let length: UInt64
  package let memory: any UserMemory

  package init(type: UInt32, address: UInt64, length: UInt64, memory: any UserMemory) {
    self.type = type
    self.address = address
    self.length = length
    self.memory = memory
  }

  /// Loads the struct and fills the members that the client's version lacks with zeros:
  /// iommu_copy_struct_from_user().
  /// - Parameter member: The last member of the struct's first version.
  /// - Throws: `.invalidArgument` for another type and for a length that no version has. A longer
  ///   struct is such an error too, unlike in a command. `.badAddress`.
  package func load<Value: BitwiseCopyable, Member>(
    _: Value.Type = Value.self, type: UInt32, minimumThrough member: KeyPath<Value, Member>
  ) throws(Errno) -> Value {
    let length = try checkedLength(Value.self, type: type, minimumThrough: member)
    return try memory.loadPrefix(count: length, at: address)
  }

  /// Stores as much of `value` as the client's version has: iommu_copy_struct_to_user().
  package func store<Value: BitwiseCopyable, Member>(
    _ value: Value, type: UInt32, minimumThrough member: KeyPath<Value, Member>
  ) throws(Errno) {
    guard type == self.type, length >= UInt64(MemoryLayout<Value>.end(of: member)) else {
      throw .invalidArgument
    }
    let size = UInt64(MemoryLayout<Value>.size)
    try memory.storePrefix(of: value, count: Int(min(length, size)), at: address)
  }

  private func checkedLength<Value: BitwiseCopyable, Member>(
    _: Value.Type, type: UInt32, minimumThrough member: KeyPath<Value, Member>
  ) throws(Errno) -> Int {
    guard type == self.type, length >= UInt64(MemoryLayout<Value>.end(of: member)),
      length <= UInt64(MemoryLayout<Value>.size)
    else { throw .invalidArgument }
    return Int(length)
  }
}

extension UserData {
  /// More bytes than any driver's struct has.
  private static let prefetchLimit: UInt64 = 256

  /// Reads the struct from the client now, for a driver that is called with the context's lock
  /// held. When the bytes cannot be read, the driver gets the error when it loads the struct.
  func prefetched() -> UserData {
    var bytes = [UInt8](repeating: 0, count: Int(min(length, Self.prefetchLimit)))
    let isRead = bytes.withUnsafeMutableBytes { buffer in
      (try? memory.copyIn(from: address, into: buffer)) != nil
    }
    return UserData(
      type: type, address: address, length: length,
      memory: PrefetchedMemory(address: address, bytes: isRead ? bytes : nil, memory: memory))
  }
}

/// Client memory of which one range has been read in advance. Only this range can be read.
private struct PrefetchedMemory: UserMemory {
  let address: UInt64
  /// `nil` when the range could not be read.
  let bytes: [UInt8]?
  let memory: any UserMemory

  func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    let offset = address &- self.address
    guard let bytes, offset <= UInt64(bytes.count), buffer.count <= bytes.count - Int(offset)
    else { throw .badAddress }
    buffer.copyBytes(from: bytes[Int(offset)..<Int(offset) + buffer.count])
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    try memory.copyOut(bytes, to: address)
  }
}
