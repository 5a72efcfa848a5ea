// SPDX-License-Identifier: Apache-2.0

// Pages between two pages that cannot be accessed, so that an access beyond an end is EFAULT.

internal import Glibc

package final class TestMemory: Sendable {
  package static let page = 4096

  private nonisolated(unsafe) let reservation: UnsafeMutableRawPointer
  private let reservedBytes: Int
  package let byteCount: Int

  package init(pages: Int = 1) {
    byteCount = pages * Self.page
    reservedBytes = byteCount + 2 * Self.page
    guard
      let base = mmap(
        nil, reservedBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      base != MAP_FAILED
    else { preconditionFailure("mmap") }
    reservation = base
    protect(.readWrite)
  }

  deinit {
    munmap(reservation, reservedBytes)
  }

  package var base: UnsafeMutableRawPointer { reservation + Self.page }
  package var address: UInt64 { UInt64(UInt(bitPattern: base)) }
  package var end: UInt64 { address + UInt64(byteCount) }
  package var bytes: UnsafeMutableRawBufferPointer { .init(start: base, count: byteCount) }

  package enum Access { case none, read, readWrite }

  package func protect(_ access: Access, page: Int? = nil) {
    let flags =
      switch access {
      case .none: PROT_NONE
      case .read: PROT_READ
      case .readWrite: PROT_READ | PROT_WRITE
      }
    if let page {
      mprotect(base + page * Self.page, Self.page, flags)
    } else {
      mprotect(base, byteCount, flags)
    }
  }

  package func fill(_ byte: UInt8) {
    bytes.initializeMemory(as: UInt8.self, repeating: byte)
  }

  package func store<T: BitwiseCopyable>(_ value: T, at offset: Int = 0) {
    base.storeBytes(of: value, toByteOffset: offset, as: T.self)
  }

  package func load<T: BitwiseCopyable>(_ type: T.Type = T.self, at offset: Int = 0) -> T {
    base.loadUnaligned(fromByteOffset: offset, as: T.self)
  }
}
