// Files that a device made and a client is about to get a descriptor of.
//
// The descriptor comes into being by an open(2) of the queue node, done by a thread that was named
// beforehand. The message of that open carries the thread's id, written by the kernel, so nobody
// else can take the file; any other open of the node is refused with ENXIO.

internal import Synchronization
internal import SystemPackage
internal import UAPI

final class ExpectedOpens: Sendable {
  private let expected = Mutex<[Int32: PendingFile]>([:])

  /// The next open of the queue node by `thread` gets `file`.
  func expect(_ file: PendingFile, openedBy thread: Int32) {
    expected.withLock { $0[thread] = file }
  }

  /// `thread` will not open the queue node any more.
  /// - Returns: whether it has.
  @discardableResult
  func forget(_ thread: Int32) -> Bool {
    expected.withLock { $0.removeValue(forKey: thread) } == nil
  }

  /// `thread` opens the queue node.
  func take(by thread: Int32) -> PendingFile? {
    expected.withLock { $0.removeValue(forKey: thread) }
  }
}

/// A file between the moment a device offers it and the moment the client knows its descriptor.
///
/// Until the device's call has settled that, nothing is released: the client's other threads can
/// see the new descriptor, and close it, before the number is stored.
final class PendingFile: Sendable {
  private enum State { case offered, closedEarly, installed, withdrawn }

  let file: any OpenFile
  private let state = Mutex(State.offered)

  init(_ file: any OpenFile) {
    self.file = file
  }

  /// The client has the descriptor and its number.
  func install() {
    let wasClosed = state.withLock { state in
      defer { state = .installed }
      return state == .closedEarly
    }
    if wasClosed { file.release() }
  }

  /// The client does not get it: the file is the device's again, and is never released.
  func withdraw() {
    state.withLock { $0 = .withdrawn }
  }

  var isWithdrawn: Bool { state.withLock { $0 == .withdrawn } }

  /// The last descriptor is gone.
  func closed() {
    let release = state.withLock { state in
      if state == .offered { state = .closedEarly }
      return state == .installed
    }
    if release { file.release() }
  }
}

/// The node that descriptors made by devices are opened on.
struct QueueDevice: CharacterDevice {
  let name: String
  func open(by client: any Client) throws(Errno) -> any OpenFile {
    // ENXIO; `Session` looks for an expected file first.
    throw .noSuchAddressOrDevice
  }
}
