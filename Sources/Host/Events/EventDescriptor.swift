// SPDX-License-Identifier: Apache-2.0

// A reference to a client's eventfd (Linux: struct eventfd_ctx). The object owns a descriptor of
// its own, so it keeps working when the client closes the client's descriptor.

internal import CLinux
internal import Glibc
internal import Synchronization
package import SystemPackage

package final class EventDescriptor: Sendable {
  private let descriptor: OwnedDescriptor

  /// - Throws: `.invalidArgument` when `descriptor` is no eventfd (Linux: eventfd_ctx_fileget()).
  package init(_ descriptor: OwnedDescriptor) throws(Errno) {
    guard Self.isEventDescriptor(descriptor) else { throw .invalidArgument }
    self.descriptor = descriptor
    _ = Self.own.withLock { $0.insert(descriptor.rawValue) }
  }

  // The number leaves the set before the descriptor is closed, after which the number may be
  // reused.
  deinit { _ = Self.own.withLock { $0.remove(descriptor.rawValue) } }

  package var rawValue: Int32 { descriptor.rawValue }

  /// Adds 1 to the counter (Linux: eventfd_signal()). A counter at its limit stays there, so that a
  /// client that fills the counter cannot block this server.
  package func signal() { Signaller.shared?.signal(rawValue) }

  /// Resets the counter to 0 without blocking (Linux: eventfd_ctx_do_read()).
  /// - Returns: whether the counter was above 0.
  package func consume() -> Bool {
    var count: UInt64 = 0
    return withUnsafeMutableBytes(of: &count) { bytes in
      CLinux_read_nowait(rawValue, bytes.baseAddress, bytes.count) == bytes.count
    }
  }

  private static func isEventDescriptor(_ descriptor: OwnedDescriptor) -> Bool {
    ProcFile.link("/proc/self/fd/\(descriptor.rawValue)", is: kind)
  }

  private static let kind = "anon_inode:[eventfd]"
}

// MARK: Other descriptors of the eventfd

extension EventDescriptor {
  /// The descriptor numbers of this process that objects of this class own.
  private static let own = Mutex<Set<Int32>>([])

  /// Whether /proc shows a descriptor of the eventfd that no object of this class owns. True when
  /// /proc does not show the eventfd's ID. The search takes milliseconds.
  ///
  /// The kernel gets EPOLLHUP when the last descriptor of an eventfd is closed. This process does
  /// not, because it owns a descriptor itself.
  package var isOpenElsewhere: Bool {
    guard let number = Self.number(of: "/proc/self/fdinfo/\(rawValue)") else { return true }
    let own = Self.own.withLock { $0 }
    return ProcDirectory.contains("/proc") { process in
      guard let id = Int32(process) else { return false }
      return ProcDirectory.contains("/proc/\(id)/fd") { name in
        guard let descriptor = Int32(name), id != getpid() || !own.contains(descriptor) else {
          return false
        }
        return ProcFile.link("/proc/\(id)/fd/\(name)", is: Self.kind)
          && Self.number(of: "/proc/\(id)/fdinfo/\(name)") == number
      }
    }
  }

  /// The system-wide number of the eventfd whose fdinfo file is at `path`.
  private static func number(of path: String) -> Substring? {
    guard let text = try? ProcFile.read(path) else { return nil }
    return ProcFile.field("eventfd-id", of: text)
  }
}

/// Signals eventfds without blocking: the kernel signals an eventfd on completion of an
/// asynchronous read.
private final class Signaller: Sendable {
  /// `nil` where the host has no asynchronous I/O. Interrupts are then lost, as with a masked
  /// interrupt.
  static let shared = Signaller()

  /// The io_setup(2) context. Under the lock there is one request at a time, so there is always
  /// room for its completion.
  private let context: Mutex<UInt64>
  /// An open /dev/null, from which 0 bytes are read.
  private let empty: OwnedDescriptor

  private init?() {
    var context: UInt64 = 0
    let empty = open("/dev/null", O_RDONLY | O_CLOEXEC)
    guard empty >= 0 else { return nil }
    self.empty = OwnedDescriptor(owning: empty)
    guard CLinux_io_setup(&context) == 0 else { return nil }
    self.context = Mutex(context)
  }

  func signal(_ event: Int32) {
    _ = context.withLock { CLinux_eventfd_signal($0, empty.rawValue, event) }
  }
}
