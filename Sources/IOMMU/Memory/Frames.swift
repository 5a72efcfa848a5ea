// The vocabulary of physical memory: 4 KiB frames, gathered in chunks of 1 GiB.

package import Host

/// Sizes that physical memory is counted in.
package enum Frame {
  package static let shift = 12
  package static let size = 1 << shift
  /// A chunk is as large as the largest leaf of any format in use, so that a leaf never spans two.
  static let chunkShift = 30
  static let framesPerChunk = 1 << (chunkShift - shift)
}

/// What stands behind one frame: the byte that every access tests first.
///
/// The values are shared with the SIGBUS handler, which turns any kind but `none` into `lost`.
struct FrameKind: RawRepresentable, Equatable {
  let rawValue: UInt8

  /// Nothing: an access is a completer abort.
  static let none = FrameKind(rawValue: 0)
  /// Memory of this server, or a client's file mapped into it.
  static let direct = FrameKind(rawValue: 1)
  /// A client's file of which the server was given a read-only descriptor.
  static let directReadOnly = FrameKind(rawValue: 2)
  /// Reached by system calls: an address of another process, or an offset of a file for which there
  /// was no host mapping to spare.
  static let remote = FrameKind(rawValue: 3)
  /// As `remote`, and the server has a copy for when the process is gone.
  static let preserved = FrameKind(rawValue: 4)
  /// Was mapped, but the client's file no longer has that page.
  static let lost = FrameKind(rawValue: 5)

  var isRemote: Bool { self == .remote || self == .preserved }
}

/// Where the client's pages are that are to become frames.
package enum FrameSource: Sendable {
  /// Pages of a process, used in place. `address` is a multiple of 4 KiB. Whoever pins has made sure
  /// that the pages are there; an access to one that is not is reported as `gone`.
  case process(AddressSpace, address: UInt64)
  /// Pages of shared memory (memfd, tmpfs, hugetlbfs). `offset` is a multiple of 4 KiB.
  case file(OwnedDescriptor, offset: UInt64)
}

/// Consecutive frames.
package struct FrameRun: Hashable, Sendable {
  package let physical: PhysicalAddress
  package let pages: Int

  package init(physical: PhysicalAddress, pages: Int) {
    self.physical = physical
    self.pages = pages
  }
}

/// How an access to physical memory ended.
package enum MemoryOutcome: Sendable {
  case done
  /// No memory there, or not any more.
  case gone
  /// A write to memory of which the client only gave a read-only descriptor.
  case readOnly
}
