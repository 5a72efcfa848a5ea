// SPDX-License-Identifier: Apache-2.0

// open(2), openat(2), openat2(2) and creat(2).

internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

extension Supervisor {
  func open(_ call: TrappedCall) throws(Errno) -> Answer {
    let client = client(of: call)
    guard let request = OpenRequest(call, memory: client) else { return .native }
    let flags = Int32(truncatingIfNeeded: request.flags)
    // /proc/<pid>/status must not show pages of files that the program has closed.
    if virtualFiles != nil { processCloses(before: client) }
    if let virtualFiles,
      let opened = try virtualFiles.open(request.path, flags: flags, by: call.task)
    {
      return try install(opened, in: client, closeOnExec: flags & O_CLOEXEC != 0)
    }
    guard
      case .node(let node) = paths.target(
        of: request.path, from: request.directory, in: call.task)
    else { return .native }
    let status = try OpenModel.statusFlags(request)
    processCloses(before: client)
    let file = try withFaultInjection(for: call) { () throws(Errno) in
      try node.device.open(by: client)
    }
    let standIn = try files.add(file, of: node, flags: status, by: client.process)
    // This function closes its own copy of the descriptor before the answer is sent. Otherwise the
    // program's close(2) might not be the last one. That is why the descriptor is not installed
    // with the answer (SECCOMP_ADDFD_FLAG_SEND).
    return .value(
      Int64(
        try listener.install(standIn, for: call.id, closeOnExec: flags & O_CLOEXEC != 0)))
  }

  private func install(
    _ opened: OpenedVirtualFile, in client: LauncherClient, closeOnExec: Bool
  ) throws(Errno) -> Answer {
    switch opened {
    case .native(let descriptor):
      return .value(
        Int64(try listener.install(descriptor, for: client.call, closeOnExec: closeOnExec)))
    case .served(let file, let path):
      let process = try client.task.processID()
      let number = try files.numbers.reserve(in: client.task, of: process)
      var isInstalled = false
      defer { files.numbers.cancel(number, of: process, isFree: !isInstalled) }
      try listener.install(
        try files.add(file, path: path, by: process), as: number, for: client.call,
        closeOnExec: closeOnExec)
      isInstalled = true
      return .value(Int64(number))
    }
  }
}
