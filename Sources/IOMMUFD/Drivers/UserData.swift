// Structures of a driver's own that a client hands through iommufd (struct iommu_user_data). A type
// number says which structure it is, and a length which version of it; the driver names both when
// it reads.

package import SystemPackage
package import UAPI

/// One structure.
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

  /// The structure, zero-extended.
  /// - Parameter member: the last one that its first version had.
  /// - Throws: `.invalidArgument` for another type and for a length that no version has (longer ones
  ///   included, unlike in a command), `.badAddress`. iommu_copy_struct_from_user()
  package func load<Value: BitwiseCopyable, Member>(
    _: Value.Type = Value.self, type: UInt32, minimumThrough member: KeyPath<Value, Member>
  ) throws(Errno) -> Value {
    let length = try checkedLength(Value.self, type: type, minimumThrough: member)
    return try memory.loadPrefix(count: length, at: address)
  }

  /// Stores as much of `value` as the client has room for. iommu_copy_struct_to_user()
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
  /// More than any driver's structure has.
  private static let prefetchLimit: UInt64 = 256

  /// The same, for a driver that is called with the control lock held: what it will load has been
  /// read from the client, and it is told then whether that was possible.
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

/// A client's memory, of which one piece was read before.
private struct PrefetchedMemory: UserMemory {
  let address: UInt64
  /// Nil: it could not be read.
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

/// A client's memory, of which many small pieces of one range are read: by large ones.
private final class ReadAheadMemory: UserMemory {
  private static let pieceLimit: UInt64 = 65536

  private let memory: any UserMemory
  private let end: UInt64
  private var start: UInt64
  private var bytes: [UInt8] = []

  init(_ memory: any UserMemory, _ address: UInt64, length: UInt64) {
    self.memory = memory
    start = address
    end = address &+ length
  }

  func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    if !holds(address, buffer.count) { readAhead(from: address) }
    // Near memory that cannot be read, exactly what is asked for decides.
    guard holds(address, buffer.count) else {
      return try memory.copyIn(from: address, into: buffer)
    }
    let offset = Int(address - start)
    buffer.copyBytes(from: bytes[offset..<offset + buffer.count])
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    try memory.copyOut(bytes, to: address)
  }

  private func holds(_ address: UInt64, _ count: Int) -> Bool {
    let offset = address &- start
    return offset <= UInt64(bytes.count) && count <= bytes.count - Int(offset)
  }

  private func readAhead(from address: UInt64) {
    guard address < end else { return }
    start = address
    bytes = Array(repeating: 0, count: Int(min(end - address, Self.pieceLimit)))
    let isRead = bytes.withUnsafeMutableBytes { buffer in
      (try? memory.copyIn(from: address, into: buffer)) != nil
    }
    if !isRead { bytes = [] }
  }
}

/// Structures one after the other (struct iommu_user_data_array).
package struct UserDataArray {
  package let type: UInt32
  package let address: UInt64
  package let entryLength: Int
  package let count: Int
  package let memory: any UserMemory

  package init(
    type: UInt32, address: UInt64, entryLength: Int, count: Int, memory: any UserMemory
  ) {
    self.type = type
    self.address = address
    self.entryLength = entryLength
    self.count = count
    let (length, _) = count.multipliedReportingOverflow(by: entryLength)
    self.memory = ReadAheadMemory(memory, address, length: UInt64(truncatingIfNeeded: length))
  }

  /// One of them, by the rules of ``UserData/load(_:type:minimumThrough:)``.
  /// iommu_copy_struct_from_user_array()
  package func load<Value: BitwiseCopyable, Member>(
    _: Value.Type = Value.self, at index: Int, type: UInt32,
    minimumThrough member: KeyPath<Value, Member>
  ) throws(Errno) -> Value {
    guard index < count else { throw .invalidArgument }
    let entry = UserData(
      type: self.type, address: try entryAddress(index), length: UInt64(entryLength),
      memory: memory)
    return try entry.load(type: type, minimumThrough: member)
  }

  /// Stores `value` into one of them, `offset` bytes from its start.
  package func store(
    _ value: some BitwiseCopyable, at index: Int, offset: Int
  ) throws(Errno) {
    let (place, overflow) = try entryAddress(index).addingReportingOverflow(UInt64(offset))
    guard !overflow else { throw .badAddress }
    try memory.store(value, at: place)
  }

  /// All of them, before any is used, with the size rules of a command: shorter ones are
  /// zero-extended, longer ones must end in zeros (E2BIG).
  /// iommu_copy_struct_from_full_user_array()
  package func loadAll<Value: BitwiseCopyable>(
    _: Value.Type = Value.self, type: UInt32
  ) throws(Errno) -> [Value] {
    guard type == self.type, count > 0 else { throw .invalidArgument }
    var failure: Errno?
    let values = [Value](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(Errno) {
        try copyAll(into: UnsafeMutableRawBufferPointer(buffer))
        initialized = count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return values
  }

  /// KMALLOC_MAX_SIZE
  private static let largestAllocation = 4 << 20

  /// Drivers make room for all entries before they look at them, and there is a most that the kernel
  /// allocates. The count in the command then stays what it was.
  package func requireRoom<Value>(for _: Value.Type, handled: inout Int) throws(Errno) {
    let (size, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Value>.stride)
    guard !overflow, size <= Self.largestAllocation else {
      handled = count
      throw .noMemory
    }
  }

  private func copyAll(into buffer: UnsafeMutableRawBufferPointer) throws(Errno) {
    let size = buffer.count / count
    if entryLength == size { return try memory.copyIn(from: address, into: buffer) }
    for index in 0..<count {
      let place = UnsafeMutableRawBufferPointer(rebasing: buffer[index * size..<(index + 1) * size])
      try memory.copyStruct(from: try entryAddress(index), userSize: entryLength, into: place)
    }
  }

  private func entryAddress(_ index: Int) throws(Errno) -> UInt64 {
    let (offset, tooLong) = index.multipliedReportingOverflow(by: entryLength)
    let (address, wraps) = address.addingReportingOverflow(UInt64(truncatingIfNeeded: offset))
    guard !tooLong, !wraps else { throw .badAddress }
    return address
  }
}
