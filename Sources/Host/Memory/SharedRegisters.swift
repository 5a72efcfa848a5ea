// SPDX-License-Identifier: Apache-2.0

// Registers in pages of a memory file that this process and a client both map. The client accesses
// the registers by plain loads and stores.
//
// A store causes no event, so the owner of the registers polls them. A register has 32 bits, is
// little-endian, and is loaded and stored as a whole with acquire and release order: a load that
// returns a value which the client stored also sees the client's stores before it. When the client
// truncates the file, this process reads zeros: `CLinux_sigbus_guard` replaces the lost pages.

internal import CLinux
internal import Glibc
internal import Synchronization
package import SystemPackage

package final class SharedRegisters: @unchecked Sendable {
  private let base: UnsafeMutableRawPointer
  /// Bytes.
  private let count: Int
  /// One byte per page for `CLinux_sigbus_guard`. The bytes are not evaluated.
  private let marks: UnsafeMutablePointer<UInt8>

  /// Maps `length` bytes, whole pages, of `file` from `offset` on.
  /// - Throws: `.noMemory`, or the errno of mmap(2).
  package init(of file: OwnedDescriptor, at offset: UInt64, length: UInt64) throws(Errno) {
    guard let count = Int(exactly: length), let position = off_t(exactly: offset),
      let base = mmap(
        nil, count, PROT_READ | PROT_WRITE, MAP_SHARED, file.rawValue, position), base != MAP_FAILED
    else { throw Errno(rawValue: errno) }
    let marks = UnsafeMutablePointer<UInt8>.allocate(capacity: count >> 12)
    marks.initialize(repeating: 0, count: count >> 12)
    guard CLinux_sigbus_guard(base, count, marks, 0) == 0 else {
      munmap(base, count)
      marks.deallocate()
      throw .noMemory
    }
    self.base = base
    self.count = count
    self.marks = marks
  }

  deinit {
    CLinux_sigbus_unguard(base)
    munmap(base, count)
    marks.deallocate()
  }

  /// Whether this process has mapped the registers at `address`.
  func isMapped(at address: UInt64) -> Bool { UInt64(UInt(bitPattern: base)) == address }

  /// - Parameter offset: of the register, in bytes: a multiple of 4 within the pages.
  package func load(_ offset: Int) -> UInt32 {
    UInt32(littleEndian: register(offset).pointee.load(ordering: .acquiring))
  }

  /// - Parameter offset: as in ``load(_:)``.
  package func store(_ value: UInt32, at offset: Int) {
    register(offset).pointee.store(value.littleEndian, ordering: .releasing)
  }

  /// SAFETY: the offset is checked; the pages stay mapped until `deinit`; an atomic integer has the
  /// layout of the integer.
  private func register(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
    precondition(offset >= 0 && offset % 4 == 0 && offset < count)
    return (base + offset).assumingMemoryBound(to: Atomic<UInt32>.self)
  }
}
