// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import FrontEnd
internal import Host
internal import Synchronization
internal import SystemPackage

/// Finds the open file of this server behind a descriptor of a client.
///
/// The server copies the descriptor and sends a private ioctl to the copy. The ioctl arrives at
/// this server as a message that carries the handle of the open file. The sender of the message is
/// a thread of this server; the kernel writes the sender's id, so no client can forge it. Only a
/// thread that is registered as asking gets an answer.
///
/// This takes another round trip, on another thread. A file that is looked up a second time is
/// therefore marked (``EpollMark``), and later lookups of the file send no message.
final class DescriptorLookup: Sendable {
  /// `_IO('S', 0x49)`, a request number that no device of ours has.
  static let request: UInt32 = 0x5349

  private let nodes: ServedNodes
  /// The threads of this server that are asking. The value is `nil` until the answer has arrived.
  private let asking = Mutex<[Int32: ServedFile?]>([:])

  init(nodes: ServedNodes) {
    self.nodes = nodes
  }

  /// Returns the open file of this server behind the task's descriptor `number`. `nil` for other
  /// files.
  ///
  /// To be called only for calls that the ``CallLimiter`` has admitted, because it may wait for a
  /// message to this server.
  /// - Parameter cache: the results of earlier calls on the same file.
  /// - Throws: as ``HostTask/duplicateDescriptor(_:closedBy:charge:)``.
  func openFile(
    _ number: Int32, of task: HostTask, cache: DescriptorCache?
  ) throws(Errno) -> ServedFile? {
    let last = cache?.file(number)
    if let last, last.mark?.matches(number, of: task) == true {
      return last.isUsable ? last : nil
    }
    let set = last.flatMap { $0.mark == nil ? EpollMark.emptySet() : nil }
    let file = try UnsharedTable.run { [self] () throws(Errno) -> ServedFile? in
      let copy = try task.duplicateDescriptor(number)
      guard nodes.isFileOfNode(copy.rawValue), let file = ask(copy) else { return nil }
      if let set, file === last, let own = try? UnsharedTable.copy(of: set.descriptor.rawValue) {
        file.mark = EpollMark(copy.rawValue, in: set, copy: EpollSet(own))
      }
      return file
    }
    if let file { cache?.store(file, for: number) }
    return file
  }

  /// Sends the private ioctl to `copy`, a descriptor of one of this server's nodes. To be called in
  /// an ``UnsharedTable``, because it waits for a message to this server.
  private func ask(_ copy: OwnedDescriptor) -> ServedFile? {
    let thread = CLinux_gettid()
    asking.withLock { $0[thread] = .some(nil) }
    _ = CLinux_ioctl(copy.rawValue, UInt(Self.request), 0)
    return asking.withLock { $0.removeValue(forKey: thread) ?? nil }
  }

  /// Answers a message with ``request`` that `thread` has sent on `file`.
  /// - Returns: whether `thread` was asking.
  func answer(_ file: ServedFile, to thread: Int32) -> Bool {
    asking.withLock { asking in
      guard asking.keys.contains(thread) else { return false }
      asking[thread] = file
      return true
    }
  }
}
