// Carriers that the server maps some of, for a region that it shares with programs. Such a carrier is
// not deleted when the last program lets go of it, so its last close is told in another way.
//
// A lock belongs to the open file that programs have (F_OFD_SETLK), not to a process or to a
// descriptor, and goes with the file's last descriptor and mapping. The server maps the carrier through
// an open file of its own, and through that it sees the lock, and can wait for its end.

internal import CLinux
internal import Host
internal import Synchronization
internal import SystemPackage

final class StandInLocks: Sendable {
  /// The server's own open files, one of a carrier.
  private let files = Mutex<[StandInIdentity: OwnedDescriptor]>([:])

  /// - Parameters:
  ///   - own: of the same carrier, opened anew.
  ///   - onRelease: called some time after programs have let go of it.
  func add(
    _ identity: StandInIdentity, _ own: OwnedDescriptor, onRelease: @escaping @Sendable () -> Void
  ) throws(Errno) {
    let isFirst = files.withLock { files in
      if files[identity] != nil { return false }
      files[identity] = own
      return true
    }
    guard isFirst else { return }
    let isStarted = startThread(named: "claim") {
      CLinux_ofd_await_unlock(own.rawValue)
      onRelease()
    }
    guard isStarted else {
      files.withLock { $0[identity] = nil }
      throw .noMemory
    }
  }

  /// Those that programs have let go of since somebody asked.
  func takeReleased() -> [StandInIdentity] {
    files.withLock { files in
      // As nearly always, before every call.
      if files.isEmpty { return [] }
      let released = files.filter { !CLinux_ofd_is_locked($0.value.rawValue) }.map(\.key)
      for identity in released { files[identity] = nil }
      return released
    }
  }
}
