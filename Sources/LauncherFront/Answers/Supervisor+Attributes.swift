// SPDX-License-Identifier: Apache-2.0

// chmod(2), chown(2) and utimensat(2) of entries of the tree (notify_change(), setattr_prepare()).

internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

extension Supervisor {
  func changeMode(
    of entry: VirtualEntry, _ mode: UInt32, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    guard isOwner(of: entry, call) else { throw .notPermitted }
    entry.update { attributes in
      attributes.permissions = mode & 0o7777
      attributes.changeTime = FileAttributes.now()
    }
    return .value(0)
  }

  func changeOwner(
    of entry: VirtualEntry, _ user: UInt32, _ group: UInt32, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    // The ID -1 stands for no change.
    if user == .max, group == .max { return .value(0) }
    guard call.task.isRootUser else { throw .notPermitted }
    entry.update { attributes in
      if user != .max { attributes.user = user }
      if group != .max { attributes.group = group }
      attributes.changeTime = FileAttributes.now()
    }
    return .value(0)
  }

  /// - Parameter address: of the times, or 0 for the current time.
  func changeTimes(
    of entry: VirtualEntry, _ address: UInt64, _ isArrayOfTimespec: Bool, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    let now = FileAttributes.now()
    var times = [now, now]
    if address != 0 {
      if isArrayOfTimespec {
        let words: [Int64] = try client(of: call).loadArray(4, at: address)
        times = [
          timespec(tv_sec: Int(words[0]), tv_nsec: Int(words[1])),
          timespec(tv_sec: Int(words[2]), tv_nsec: Int(words[3])),
        ]
      }
      for time in times {
        guard 0..<1_000_000_000 ~= time.tv_nsec || Self.isSpecial(time) else {
          throw .invalidArgument
        }
      }
      // The owner may set any time, a process that may write only the current time
      // (utimensat(2)).
      let setsNow = times.allSatisfy { $0.tv_nsec == Self.currentTime }
      let setsNothing = times.allSatisfy { $0.tv_nsec == Self.noTime }
      if setsNothing { return .value(0) }
      guard setsNow || isOwner(of: entry, call) else { throw .notPermitted }
    }
    entry.update { attributes in
      if times[0].tv_nsec != Self.noTime {
        attributes.accessTime = Self.isSpecial(times[0]) ? now : times[0]
      }
      if times[1].tv_nsec != Self.noTime {
        attributes.modificationTime = Self.isSpecial(times[1]) ? now : times[1]
      }
      attributes.changeTime = now
    }
    return .value(0)
  }

  /// UTIME_NOW and UTIME_OMIT
  private static let currentTime = 0x3fff_ffff
  private static let noTime = 0x3fff_fffe

  private static func isSpecial(_ time: timespec) -> Bool {
    time.tv_nsec == currentTime || time.tv_nsec == noTime
  }

  private func isOwner(of entry: VirtualEntry, _ call: TrappedCall) -> Bool {
    guard let user = call.task.fileSystemUserID else { return false }
    return user == 0 || user == entry.attributes.user
  }
}

extension HostTask {
  /// The user ID by which the kernel checks access to files, as this process's user namespace shows
  /// it.
  fileprivate var fileSystemUserID: UInt32? {
    guard let status = try? ProcFile.read("/proc/\(id)/status") else { return nil }
    let line = status.split(separator: "\n").first { $0.hasPrefix("Uid:") }
    return line?.split(whereSeparator: \.isWhitespace).last.flatMap { UInt32($0) }
  }

  /// Whether the thread may do to files what the root user may.
  var isRootUser: Bool { fileSystemUserID == 0 }
}
