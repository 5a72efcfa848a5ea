// Structs that grow: the caller says how long its version is, ours may be longer or shorter.

package import SystemPackage

extension UserMemory {
  /// The first `count` bytes of a `T` at `address`, the rest zero (copy_from_user() of `minsz`).
  package func loadPrefix<T: BitwiseCopyable>(
    of type: T.Type = T.self, count: Int, at address: UInt64
  ) throws(Errno) -> T {
    var result: Result<T, Errno> = .failure(.badAddress)
    withUnsafeTemporaryAllocation(
      byteCount: MemoryLayout<T>.size, alignment: MemoryLayout<T>.alignment
    ) { buffer in
      buffer.initializeMemory(as: UInt8.self, repeating: 0)
      do throws(Errno) {
        try copyIn(
          from: address, into: UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(count)))
        result = .success(buffer.loadUnaligned(as: T.self))
      } catch {
        result = .failure(error)
      }
    }
    return try result.get()
  }

  /// Stores the first `count` bytes of `value`, a number or a struct of C.
  package func storePrefix<T>(
    of value: T, count: Int, at address: UInt64
  ) throws(Errno) {
    try withUnsafeBytes(of: value) { bytes throws(Errno) in
      try copyOut(UnsafeRawBufferPointer(rebasing: bytes.prefix(count)), to: address)
    }
  }

  /// Fills `value`, without the array. For C structs that end in a flexible array, which are not
  /// BitwiseCopyable to Swift; `T` must be such a struct.
  package func loadBytes<T>(of value: inout T, at address: UInt64) throws(Errno) {
    try withUnsafeMutableBytes(of: &value) { bytes throws(Errno) in
      try copyIn(from: address, into: bytes)
    }
  }

  /// Fills the first `count` bytes of `value` and leaves the others, as ``loadBytes(of:at:)``.
  package func loadBytes<T>(of value: inout T, count: Int, at address: UInt64) throws(Errno) {
    try withUnsafeMutableBytes(of: &value) { bytes throws(Errno) in
      try copyIn(from: address, into: UnsafeMutableRawBufferPointer(rebasing: bytes.prefix(count)))
    }
  }

  /// Stores the bytes of `value`, as ``loadBytes(of:at:)``.
  package func storeBytes<T>(of value: T, at address: UInt64) throws(Errno) {
    try withUnsafeBytes(of: value) { bytes throws(Errno) in try copyOut(bytes, to: address) }
  }

  /// Fills `buffer`, our struct, from the caller's, which claims to be `userSize` bytes long
  /// (include/linux/uaccess.h: copy_struct_from_user()). A shorter one is followed by zeros; the
  /// surplus of a longer one must be zero and is looked at first.
  /// - Throws: `.argListTooLong` (E2BIG) when it is not, `.badAddress`.
  package func copyStruct(
    from address: UInt64, userSize: Int, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    let common = min(userSize, buffer.count)
    if userSize > buffer.count {
      let (tail, overflow) = address.addingReportingOverflow(UInt64(buffer.count))
      guard !overflow else { throw .badAddress }
      try requireZeros(at: tail, count: userSize - buffer.count)
    }
    buffer.initializeMemory(as: UInt8.self, repeating: 0)
    try copyIn(from: address, into: UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(common)))
  }

  /// lib/usercopy.c: check_zeroed_user(): upwards, so that a byte that is not zero is found before a
  /// page behind it that cannot be read.
  private func requireZeros(at address: UInt64, count: Int) throws(Errno) {
    guard UserSpace.contains(address, count: UInt64(count)) else { throw .badAddress }
    let end = address + UInt64(count)
    var position = address
    var pieceSize = Self.largestPiece
    while position < end {
      let piece = min(end, (position & ~(pieceSize - 1)) + pieceSize)
      do throws(Errno) {
        guard try isZero(at: position, count: Int(piece - position)) else {
          throw Errno.argListTooLong
        }
        position = piece
      } catch {
        // Some page of the piece cannot be read: find out by pages whether a byte before it decides.
        guard error == .badAddress, pieceSize > Self.page else { throw error }
        pieceSize = Self.page
      }
    }
  }

  private func isZero(at address: UInt64, count: Int) throws(Errno) -> Bool {
    var result: Result<Bool, Errno> = .success(true)
    withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) { buffer in
      do throws(Errno) {
        try copyIn(from: address, into: buffer)
        let words = count / 8
        var bits: UInt64 = 0
        for word in 0..<words {
          bits |= buffer.loadUnaligned(fromByteOffset: word * 8, as: UInt64.self)
        }
        for byte in words * 8..<count { bits |= UInt64(buffer[byte]) }
        result = .success(bits == 0)
      } catch {
        result = .failure(error)
      }
    }
    return try result.get()
  }

  private static var page: UInt64 { 4096 }
  private static var largestPiece: UInt64 { 65536 }
}
