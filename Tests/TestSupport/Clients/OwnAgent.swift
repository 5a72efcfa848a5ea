// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
package import Host
package import SystemPackage

/// An agent that pins pages of the test's own process: it makes the calls itself, except those that
/// change the process.
package final class OwnAgent: MemoryAgent {
  package let task = HostTask(id: getpid())

  package init() {}

  package func call(_ systemCall: AgentCall, _ arguments: UInt64...) throws(Errno) -> UInt64 {
    switch systemCall {
    case .closeRange, .setsid, .prctl: return 0
    case .mmap, .madvise, .close, .memfdCreate, .ioUringSetup, .ioUringRegister: break
    }
    let six = arguments + [UInt64](repeating: 0, count: 6 - arguments.count)
    let result = CLinux_syscall(Int(systemCall.rawValue), six)
    guard !(-4095..<0).contains(result) else { throw Errno(rawValue: CInt(-result)) }
    return UInt64(bitPattern: Int64(result))
  }

  package func end() {}
}
