// SPDX-License-Identifier: Apache-2.0

package import SystemPackage

/// Memory of a process that a call copies from and to, as with the kernel's copy_from_user() and
/// copy_to_user().
package protocol UserMemory {
  /// Copies the memory at `address` into `buffer`.
  /// - Throws: `.badAddress` when any byte is inaccessible.
  func copyIn(from address: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(Errno)
  /// Stores `bytes` at `address`.
  /// - Throws: `.badAddress` when any byte is inaccessible. As in the kernel, the bytes before the
  ///   first inaccessible page have been stored then.
  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno)
}

extension UserMemory {
  /// Returns the value at `address`, which need not be aligned.
  package func load<T: BitwiseCopyable>(
    _ type: T.Type = T.self, at address: UInt64
  ) throws(Errno) -> T {
    var result: Result<T, Errno> = .failure(.badAddress)
    withUnsafeTemporaryAllocation(byteCount: MemoryLayout<T>.size, alignment: 16) { buffer in
      do throws(Errno) {
        try copyIn(from: address, into: buffer)
        result = .success(buffer.loadUnaligned(as: T.self))
      } catch {
        result = .failure(error)
      }
    }
    return try result.get()
  }

  /// Stores `value` at `address`, which need not be aligned.
  package func store<T: BitwiseCopyable>(_ value: T, at address: UInt64) throws(Errno) {
    try withUnsafeBytes(of: value) { bytes throws(Errno) in try copyOut(bytes, to: address) }
  }

  /// Returns the `count` elements of the array at `address`.
  package func loadArray<T: BitwiseCopyable>(
    of type: T.Type = T.self, _ count: Int, at address: UInt64
  ) throws(Errno) -> [T] {
    var failure: Errno?
    let elements = [T](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(Errno) {
        try copyIn(from: address, into: UnsafeMutableRawBufferPointer(buffer))
        initialized = count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return elements
  }

  /// Stores `elements` as an array at `address`.
  /// - Throws: `.badAddress`, with the same partial effect as ``copyOut(_:to:)``.
  package func storeArray<T: BitwiseCopyable>(
    _ elements: some Sequence<T>, at address: UInt64
  ) throws(Errno) {
    var failure: Errno?
    Array(elements).withUnsafeBytes { bytes in
      do throws(Errno) { try copyOut(bytes, to: address) } catch { failure = error }
    }
    if let failure { throw failure }
  }
}
