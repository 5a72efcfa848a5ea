// Pages of a memory file that this process and a client have both mapped: registers that the client
// reaches by plain loads and stores.
//
// Nobody is told of a store, so who serves the registers looks at them. A register has 32 bits, little-
// endian, and is loaded and stored whole; what a client stored before one is seen with it. Whatever
// the client does to the file, the pages stay.

internal import CLinux
internal import Glibc
internal import Synchronization
package import SystemPackage

package final class SharedPages: @unchecked Sendable {
  private let base: UnsafeMutableRawPointer
  private let count: Int
  /// Nobody asks which pages were lost.
  private let marks: UnsafeMutablePointer<UInt8>

  /// Maps `length` bytes, whole pages, of `file` from `offset` on.
  /// - Throws: `.noMemory`, and what mmap(2) says.
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

  /// Whether `address` is where this process has mapped them.
  func begin(at address: UInt64) -> Bool { UInt64(UInt(bitPattern: base)) == address }

  /// - Parameter offset: of a register, a multiple of 4 within the pages.
  package func load(_ offset: Int) -> UInt32 {
    UInt32(littleEndian: register(offset).pointee.load(ordering: .acquiring))
  }

  package func store(_ value: UInt32, at offset: Int) {
    register(offset).pointee.store(value.littleEndian, ordering: .releasing)
  }

  /// SAFETY: the offset is checked; the pages are mapped as long as this lives, and an atomic integer
  /// has the layout of the integer.
  private func register(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
    precondition(offset >= 0 && offset % 4 == 0 && offset < count)
    return (base + offset).assumingMemoryBound(to: Atomic<UInt32>.self)
  }
}
