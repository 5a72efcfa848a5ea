// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// An open file of programs, with its stand-in.
final class OpenFileEntry: Sendable {
  /// The identity of the stand-in file.
  let identity: StandInIdentity
  let file: any OpenFile
  /// The entry of the node that was opened. `nil` for a file that a device has made, and for a
  /// virtual file.
  let node: VirtualEntry?
  /// The stand-in of a queue. `nil` for other files.
  let queue: QueueStandIn?
  /// The file position of a virtual file. `nil` for other files.
  let position: FilePosition?
  /// The status flags (F_GETFL) with which the file was opened.
  let flags: Int32
  /// The process that opened the file, or whose call made it.
  let opener: Int32
  /// The opener's charge for an open file.
  private let charge: ChargedShares.Charge
  /// Where the descriptor of a queue was installed first.
  private let installation = Mutex<(process: Int32, number: Int32)?>(nil)

  private let ownLocks = Mutex<(file: OwnedDescriptor, charge: ChargedShares.Charge)?>(nil)

  init(
    identity: StandInIdentity, file: any OpenFile, opener: Int32, node: VirtualEntry? = nil,
    queue: QueueStandIn? = nil, position: FilePosition? = nil, flags: Int32 = O_RDWR
  ) throws(Errno) {
    charge = try ChargedShares.openFiles.charge(ClientIdentity(user: 0, process: opener))
    self.opener = opener
    self.identity = identity
    self.file = file
    self.node = node
    self.queue = queue
    self.position = position
    self.flags = flags
  }

  /// O_RDONLY, O_WRONLY, O_RDWR or 3, with which no byte can be read or written.
  var accessMode: Int32 { flags & O_ACCMODE }
  var isReadable: Bool { accessMode == O_RDONLY || accessMode == O_RDWR }
  var isWritable: Bool { accessMode == O_WRONLY || accessMode == O_RDWR }
  /// Whether the server has locked the stand-in, see StandInLocks.
  var hasOwnLock: Bool { node != nil && file.hasRegions }

  /// The open file that has this file's locks of the node, see ``NodeLocks``. It is made for the
  /// first lock.
  func lockFile(_ locks: NodeLocks, for client: ClientIdentity) throws(Errno) -> OwnedDescriptor {
    try ownLocks.withLock { own throws(Errno) in
      if let own { return own.file }
      let made = (
        file: try locks.open(for: node?.path ?? ""),
        charge: try ChargedShares.descriptors.charge(client)
      )
      own = made
      return made.file
    }
  }

  func recordInstallation(at number: Int32, of process: Int32) {
    installation.withLock { $0 = (process, number) }
  }

  /// Tells `numbers` that the descriptor is closed.
  func releaseNumber(to numbers: QueueNumbers) {
    guard let installed = installation.withLock({ $0 }) else { return }
    numbers.release(installed.number, of: installed.process)
  }
}

/// The file position of an open file, which read(2) and write(2) use.
final class FilePosition: Sendable {
  let offset = Mutex<UInt64>(0)
}
