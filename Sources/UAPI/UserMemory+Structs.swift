// SPDX-License-Identifier: Apache-2.0

// Structs that have grown over the versions of the uAPI. The caller gives the size of its version;
// the struct that this program was compiled with may be longer or shorter.

package import SystemPackage

extension UserMemory {
  /// Returns a `T` whose first `count` bytes come from `address` and whose other bytes are 0, as
  /// copy_from_user() of `minsz` bytes does.
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

  /// Stores the first `count` bytes of `value`, which must be a number or a C struct.
  package func storePrefix<T>(
    of value: T, count: Int, at address: UInt64
  ) throws(Errno) {
    try withUnsafeBytes(of: value) { bytes throws(Errno) in
      try copyOut(UnsafeRawBufferPointer(rebasing: bytes.prefix(count)), to: address)
    }
  }

  /// Loads a C struct that ends in a flexible array, without the array. Such a struct is not
  /// BitwiseCopyable in Swift; `T` must be one.
  package func loadBytes<T>(of value: inout T, at address: UInt64) throws(Errno) {
    try withUnsafeMutableBytes(of: &value) { bytes throws(Errno) in
      try copyIn(from: address, into: bytes)
    }
  }

  /// Loads the first `count` bytes of a C struct that ends in a flexible array, and leaves its
  /// other bytes unchanged.
  package func loadBytes<T>(of value: inout T, count: Int, at address: UInt64) throws(Errno) {
    try withUnsafeMutableBytes(of: &value) { bytes throws(Errno) in
      try copyIn(from: address, into: UnsafeMutableRawBufferPointer(rebasing: bytes.prefix(count)))
    }
  }

  /// Stores a C struct that ends in a flexible array, without the array.
  package func storeBytes<T>(of value: T, at address: UInt64) throws(Errno) {
    try withUnsafeBytes(of: value) { bytes throws(Errno) in try copyOut(bytes, to: address) }
  }

  /// Copies a struct of the caller, which has `userSize` bytes, into `buffer`, which is the struct
  /// as this program knows it (include/linux/uaccess.h: copy_struct_from_user()). When the caller's
  /// struct is shorter, zeros follow it. When it is longer, its surplus must be zero; the surplus
  /// is checked before the struct is copied.
  /// - Throws: `.argListTooLong` (E2BIG) when the surplus is not zero; `.badAddress`.
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

  /// Checks that `count` bytes are zero, from the lowest address upwards, so that a byte that is
  /// not zero is found before an unreadable page behind it (lib/usercopy.c: check_zeroed_user()).
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
        // A page of the piece cannot be read. The next pass reads page by page, because a byte
        // before the unreadable page can be E2BIG.
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
