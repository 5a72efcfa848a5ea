// SPDX-License-Identifier: Apache-2.0

// Units of physical memory: frames of 4 KiB, and chunks of 1 GiB.

package import Host

/// The size of a frame, the unit in which physical memory is mapped and pinned.
package enum Frame {
  package static let shift = 12
  package static let size = 1 << shift
}

/// The size of a chunk, the unit in which physical memory is assigned. A chunk is as large as the
/// largest leaf of any format in use, so that a leaf never spans two chunks.
enum Chunk {
  static let shift = 30
  static let size = 1 << shift
  static let frames = 1 << (shift - Frame.shift)

  /// Returns the frames of chunk number `chunk`.
  static func frames(of chunk: Int) -> Range<Int> { chunk * frames..<(chunk + 1) * frames }
}

extension PhysicalAddress {
  /// Makes the address of the first byte of frame number `frame`.
  init(frame: Int) { self.init(UInt64(frame) << UInt64(Frame.shift)) }

  /// The number of the frame that holds this address.
  var frame: Int { Int(rawValue >> UInt64(Frame.shift)) }

  /// The number of the chunk that holds this address.
  var chunk: Int { Int(rawValue >> UInt64(Chunk.shift)) }
}

/// How the server reaches the memory of one frame. Every access tests this byte first.
///
/// The SIGBUS handler (CLinux) writes the same bytes: it changes every kind but `none` to
/// `truncated`.
struct FrameKind: RawRepresentable, Equatable {
  let rawValue: UInt8

  /// No memory. A PCIe request to this frame ends in Completer Abort.
  static let none = FrameKind(rawValue: 0)
  /// Mapped in this process: memory of this server, or a client's file that is mapped into it.
  static let mapped = FrameKind(rawValue: 1)
  /// A client's file that is mapped read-only, because its descriptor is read-only.
  static let mappedReadOnly = FrameKind(rawValue: 2)
  /// Reached by system calls: an address of another process, or an offset of a file when the limit
  /// of host mappings is reached.
  static let remote = FrameKind(rawValue: 3)
  /// As `remote`. The server also has a copy, which it uses once the process has ended.
  static let copied = FrameKind(rawValue: 4)
  /// A mapped page that the client's file no longer has.
  static let truncated = FrameKind(rawValue: 5)

  /// A page that the kernel keeps pinned (``PinnedBuffer``). Reached by system calls.
  static let pinned = FrameKind(rawValue: 6)

  /// Whether the frame is reached by system calls.
  var isRemote: Bool { self == .remote || self == .copied || self == .pinned }
}

/// The client pages that a pin operation makes frames of.
package enum FrameSource: Sendable {
  /// Pages that the kernel keeps pinned. They get frames of their own, also when other frames stand
  /// for the same addresses: the pages there may have changed.
  case buffer(PinnedBuffer)
  /// Pages of a process, used in place. `address` is a multiple of 4 KiB. The caller has made sure
  /// that the pages are present. An access to a page that is not present ends in `gone`.
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

  init(_ frames: Range<Int>) {
    self.init(physical: PhysicalAddress(frame: frames.lowerBound), pages: frames.count)
  }

  /// The numbers of the frames.
  var frames: Range<Int> { physical.frame..<physical.frame + pages }
}

/// The result of an access to physical memory.
package enum MemoryOutcome: Sendable {
  case done
  /// The address has no memory, or its memory is no longer available.
  case gone
  /// A write to memory for which the client gave a read-only descriptor.
  case readOnly
}
