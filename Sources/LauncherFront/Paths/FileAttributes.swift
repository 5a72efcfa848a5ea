// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// What chmod(2), chown(2) and utimensat(2) change of a file.
struct FileAttributes {
  /// The permission bits of st_mode.
  var permissions: UInt32
  var user: UInt32 = 0
  var group: UInt32 = 0
  var accessTime: timespec
  var modificationTime: timespec
  /// The time of the last change of these attributes.
  var changeTime: timespec

  init(permissions: UInt32) {
    self.permissions = permissions
    let now = Self.now()
    (accessTime, modificationTime, changeTime) = (now, now, now)
  }

  static func now() -> timespec {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return time
  }

}
