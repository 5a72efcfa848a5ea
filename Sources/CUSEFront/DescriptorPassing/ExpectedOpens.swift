// SPDX-License-Identifier: Apache-2.0

// How a client gets a descriptor of a file that a device has made.
//
// A thread that the server has registered opens the queue node: the client's own thread, in an
// injected openat(2), or a thread of the server that sends the descriptor to the client. The
// message of that open carries the thread's id. The kernel writes the id, so no other thread can
// get the file. Every other open of the queue node is refused with ENXIO.

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// The opens of this server's nodes that the server expects from a thread, and the file that each
/// of them gets.
final class ExpectedOpens: Sendable {
  private let queuePath: String
  /// By thread.
  private let files = Mutex<[Int32: PendingFile]>([:])

  /// - Parameter queuePath: the path of the queue node.
  init(queuePath: String) {
    self.queuePath = queuePath
  }

  /// Makes a descriptor for `file` in the stopped `thread`.
  func makeDescriptor(of file: PendingFile, in thread: Tracee) throws(Errno) -> Int32 {
    register(file, openedBy: thread.task.id)
    do throws(Errno) {
      defer { unregister(thread.task.id) }
      let number = try thread.open(queuePath)
      if unregister(thread.task.id) { return number }
      thread.close(number)
    } catch {
      guard [.noSuchFileOrDirectory, .permissionDenied, .noSuchAddressOrDevice].contains(error)
      else { throw error }
    }
    // The client sees another file under the path (chroot, another mount namespace), or may not
    // open the node. The server opens the node itself and sends the descriptor.
    return try thread.receiveDescriptor { [self] () throws(Errno) in
      try open(queuePath, expecting: file)
    }
  }

  /// Opens a node of this server, so that the open gets `file`. To be called in an
  /// ``UnsharedTable``, because it waits for a message to this server.
  /// - Throws: `.noSuchAddressOrDevice` when `path` is not a node of this server.
  func open(_ path: String, expecting file: PendingFile) throws(Errno) -> OwnedDescriptor {
    let thread = CLinux_gettid()
    register(file, openedBy: thread)
    let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
    let failure = Errno(rawValue: errno)
    let isOurs = unregister(thread)
    guard descriptor >= 0 else { throw failure }
    let owned = OwnedDescriptor(owning: descriptor)
    guard isOurs else { throw .noSuchAddressOrDevice }
    return owned
  }

  /// Registers `file` for the next open by `thread`.
  func register(_ file: PendingFile, openedBy thread: Int32) {
    files.withLock { $0[thread] = file }
  }

  /// Removes the registration of `thread`.
  /// - Returns: whether the open has happened, so that there was no registration left.
  @discardableResult
  func unregister(_ thread: Int32) -> Bool {
    files.withLock { $0.removeValue(forKey: thread) } == nil
  }

  /// Returns and unregisters the file for an open by `thread`. `nil` when no open is expected from
  /// the thread.
  func claimFile(openedBy thread: Int32) -> PendingFile? {
    files.withLock { $0.removeValue(forKey: thread) }
  }
}

/// A file between the moment when a device offers it and the moment when the client knows its
/// descriptor.
///
/// The file is not released before the device's call has ended in ``install()`` or ``withdraw()``:
/// other threads of the client can see the new descriptor, and close it, before its number is
/// stored.
final class PendingFile: Sendable {
  private enum State { case offered, closedEarly, installed, withdrawn }

  let file: any OpenFile
  private let state = Mutex(State.offered)

  init(_ file: any OpenFile) {
    self.file = file
  }

  /// Makes the file the client's, which has the descriptor and its number.
  func install() {
    let wasClosed = state.withLock { state in
      defer { state = .installed }
      return state == .closedEarly
    }
    if wasClosed { file.release() }
  }

  /// Cancels the installation. The device owns the file again, and `release()` is not called.
  func withdraw() {
    state.withLock { $0 = .withdrawn }
  }

  var isWithdrawn: Bool { state.withLock { $0 == .withdrawn } }

  /// Called when the last descriptor of the file is closed. Releases a file that is installed. A
  /// file that is still offered is released by ``install()``.
  func handleLastClose() {
    let release = state.withLock { state in
      if state == .offered { state = .closedEarly }
      return state == .installed
    }
    if release { file.release() }
  }
}

/// The node on which descriptors that devices make are opened.
struct QueueDevice: CharacterDevice {
  let name: String
  func open(by client: any Client) throws(Errno) -> any OpenFile {
    // ENXIO. `CUSESession.open` does not call this for an expected open.
    throw .noSuchAddressOrDevice
  }
}
