// SPDX-License-Identifier: Apache-2.0

package import SystemPackage
package import UAPI

/// The type, address, length and number of driver-specific structs that follow each other (struct
/// iommu_user_data_array).
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

  /// Loads entry `index` by the rules of ``UserData/load(_:type:minimumThrough:)``:
  /// iommu_copy_struct_from_user_array().
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

  /// Stores `value` in entry `index`, `offset` bytes from the start of the entry.
  package func store(
    _ value: some BitwiseCopyable, at index: Int, offset: Int
  ) throws(Errno) {
    let (address, overflow) = try entryAddress(index).addingReportingOverflow(UInt64(offset))
    guard !overflow else { throw .badAddress }
    try memory.store(value, at: address)
  }

  /// Loads all entries before any entry is used: iommu_copy_struct_from_full_user_array(). The size
  /// rules are those of a command: a shorter entry is filled with zeros, a longer entry must end in
  /// zeros (E2BIG).
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

  /// Checks that the kernel could allocate memory for all entries, which drivers do before they
  /// read an entry. On an error the count in the command stays unchanged.
  /// - Throws: `.noMemory`.
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
      let entry = UnsafeMutableRawBufferPointer(rebasing: buffer[index * size..<(index + 1) * size])
      try memory.copyStruct(from: try entryAddress(index), userSize: entryLength, into: entry)
    }
  }

  private func entryAddress(_ index: Int) throws(Errno) -> UInt64 {
    let (offset, tooLong) = index.multipliedReportingOverflow(by: entryLength)
    let (address, wraps) = address.addingReportingOverflow(UInt64(truncatingIfNeeded: offset))
    guard !tooLong, !wraps else { throw .badAddress }
    return address
  }
}

/// Client memory of which one range is read in many small accesses. Each access to the client reads
/// up to 64 KiB of the range.
private final class ReadAheadMemory: UserMemory {
  private static let pieceLimit: UInt64 = 65536

  private let memory: any UserMemory
  private let end: UInt64
  /// The address of `bytes`.
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
    if !contains(address, buffer.count) { readAhead(from: address) }
    // The piece also fails when only its end cannot be read. The access itself then decides.
    guard contains(address, buffer.count) else {
      return try memory.copyIn(from: address, into: buffer)
    }
    let offset = Int(address - start)
    buffer.copyBytes(from: bytes[offset..<offset + buffer.count])
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    try memory.copyOut(bytes, to: address)
  }

  private func contains(_ address: UInt64, _ count: Int) -> Bool {
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
