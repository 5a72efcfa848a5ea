// SPDX-License-Identifier: Apache-2.0

// Observes the last close of stand-in files that the server maps itself, for a region that it
// shares with programs. The server's mapping keeps such a file from being deleted, so inotify does
// not report the last close.
//
// `StandInFile.make` locks the file for the open file that programs get (F_OFD_SETLK). Such a lock
// belongs to the open file, not to a process or a descriptor, and the kernel removes it with the
// open file's last descriptor and mapping. The server's own open file of the same file conflicts
// with the lock, so the server can test for the lock and wait for its end.

internal import CLinux
internal import Host
internal import Synchronization
internal import SystemPackage

final class StandInLocks: Sendable {
  /// The server's own open files, one for each stand-in file.
  private let files = Mutex<[StandInIdentity: OwnedDescriptor]>([:])

  /// Watches the lock of the stand-in file with `identity`. Does nothing when it is watched
  /// already.
  /// - Parameters:
  ///   - own: an open file of the server's own of that stand-in file.
  ///   - onUnlock: called on another thread some time after programs have closed the file.
  /// - Throws: `.noMemory` when the host cannot create the thread.
  func watch(
    _ identity: StandInIdentity, _ own: OwnedDescriptor, onUnlock: @escaping @Sendable () -> Void
  ) throws(Errno) {
    let isFirst = files.withLock { files in
      if files[identity] != nil { return false }
      files[identity] = own
      return true
    }
    guard isFirst else { return }
    let isStarted = startThread(named: "stand-in-lock") {
      CLinux_ofd_await_unlock(own.rawValue)
      onUnlock()
    }
    guard isStarted else {
      files.withLock { $0[identity] = nil }
      throw .noMemory
    }
  }

  /// Removes the files that programs have closed, and returns their identities.
  func removeUnlocked() -> [StandInIdentity] {
    files.withLock { files in
      // The common case: this runs before each call is served.
      if files.isEmpty { return [] }
      let unlocked = files.filter { !CLinux_ofd_is_locked($0.value.rawValue) }.map(\.key)
      for identity in unlocked { files[identity] = nil }
      return unlocked
    }
  }
}
