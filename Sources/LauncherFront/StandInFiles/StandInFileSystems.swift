// SPDX-License-Identifier: Apache-2.0

internal import Host
internal import Synchronization

/// The device numbers of the file systems that stand-ins are on: that of memfds and that of
/// sockets. Each is known from the first stand-in on.
struct StandInFileSystems: ~Copyable {
  /// 0 is the number of no file system.
  private let memory = Atomic<UInt64>(0)
  private let sockets = Atomic<UInt64>(0)

  func add(_ standIn: StandInIdentity, ofQueue isQueue: Bool = false) {
    if isQueue {
      sockets.store(standIn.device, ordering: .relaxed)
    } else {
      memory.store(standIn.device, ordering: .relaxed)
    }
  }

  func contains(_ file: StandInIdentity) -> Bool {
    file.device == memory.load(ordering: .relaxed)
      || file.device == sockets.load(ordering: .relaxed)
  }
}
