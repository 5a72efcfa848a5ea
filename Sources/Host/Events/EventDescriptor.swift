// A client's eventfd as the kernel holds it (struct eventfd_ctx): the counter, not the number. The
// client may close its descriptor; what was handed over keeps working.

internal import CLinux
internal import Glibc
internal import Synchronization
package import SystemPackage

package final class EventDescriptor: Sendable {
  private let descriptor: OwnedDescriptor

  /// - Throws: `.invalidArgument` when `descriptor` is no eventfd (eventfd_ctx_fileget()).
  package init(_ descriptor: OwnedDescriptor) throws(Errno) {
    guard Self.isEventDescriptor(descriptor) else { throw .invalidArgument }
    self.descriptor = descriptor
    _ = Self.own.withLock { $0.insert(descriptor.rawValue) }
  }

  // Before the number can be another file's.
  deinit { _ = Self.own.withLock { $0.remove(descriptor.rawValue) } }

  package var rawValue: Int32 { descriptor.rawValue }

  /// Adds 1 to the counter (eventfd_signal()). A counter at its limit stays there: the client who
  /// filled it cannot make this server wait.
  package func signal() { Signaller.shared?.signal(rawValue) }

  /// Reads the counter back to 0 without ever blocking (eventfd_ctx_do_read()).
  /// - Returns: whether it was above 0.
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

// MARK: Who else has it

extension EventDescriptor {
  /// Numbers in this process that are this class's.
  private static let own = Mutex<Set<Int32>>([])

  /// Whether anybody but this class has a descriptor of it, as far as /proc shows; true where it does
  /// not tell. Takes milliseconds.
  ///
  /// The kernel would hear of the last one's end. Here there is always one: our own.
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

  /// What tells an eventfd from all others.
  private static func number(of information: String) -> Substring? {
    guard let text = try? ProcFile.read(information) else { return nil }
    return ProcFile.field("eventfd-id", of: text)
  }
}

/// How a process signals an eventfd without blocking: by letting the kernel do it for a completion.
private final class Signaller: Sendable {
  /// nil where the host has no asynchronous I/O; interrupts are then lost, as with a masked line.
  static let shared = Signaller()

  /// One at a time, so that there is always room for the completion.
  private let context: Mutex<UInt64>
  private let empty: OwnedDescriptor

  private init?() {
    var context: UInt64 = 0
    let empty = open("/dev/null", O_RDONLY | O_CLOEXEC)
    guard empty >= 0 else { return nil }
    self.empty = OwnedDescriptor(owning: empty)
    guard CLinux_aio_setup(&context) == 0 else { return nil }
    self.context = Mutex(context)
  }

  func signal(_ event: Int32) {
    _ = context.withLock { CLinux_eventfd_signal($0, empty.rawValue, event) }
  }
}
