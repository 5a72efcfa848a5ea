// SPDX-License-Identifier: Apache-2.0

// ptrace(2) of a task that the calling thread traces.

internal import CLinux
internal import Glibc
internal import Host

extension HostTask {
  /// Makes a request whose data is `data`.
  /// - Returns: false when it fails: the task has ended or is being killed.
  func ptrace<T>(
    _ request: __ptrace_request, address: UInt64 = 0, data: inout T
  ) -> Bool {
    withUnsafeMutableBytes(of: &data) { bytes in
      let pointer = UInt64(UInt(bitPattern: bytes.baseAddress))
      return CLinux_ptrace(Int32(request.rawValue), id, address, pointer) >= 0
    }
  }

  /// Waits until the task stops.
  /// - Returns: the wait status; `nil` when the task has ended instead, and is reaped.
  func waitForStop() -> Int32? {
    let wall: Int32 = 0x4000_0000  // __WALL: also threads that are no group leaders
    var status: Int32 = 0
    while true {
      let result = waitpid(id, &status, wall)
      if result < 0 && errno == EINTR { continue }
      return result == id && status & 0xff == 0x7f ? status : nil
    }
  }
}
