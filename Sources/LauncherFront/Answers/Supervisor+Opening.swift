// SPDX-License-Identifier: Apache-2.0

// open(2), openat(2), openat2(2) and creat(2).

internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

extension Supervisor {
  func open(_ call: TrappedCall) throws(Errno) -> Answer {
    guard let request = OpenRequest(call, memory: client(of: call)) else { return .native }
    guard
      let path = candidate(of: call).path(
        at: request.path, from: request.directory, followsLast: request.followsLast)
    else { return .native }
    if let answer = try openVirtualFile(path, request, call) { return answer }
    let target = try target(
      of: path, from: request.directory, followsLast: request.followsLast,
      restrictions: PathWalk.Restrictions(rawValue: request.resolve), in: call)
    switch target {
    case nil, .foreign: return .native
    case .missing: throw request.creates ? .permissionDenied : .noSuchFileOrDirectory
    // no_open(): the file of an anonymous inode cannot be opened again.
    case .file: throw .noSuchAddressOrDevice
    case .host(let file):
      let flags = Int32(truncatingIfNeeded: request.flags) & ~(O_NOFOLLOW | O_CREAT | O_EXCL)
      let opened = try StandInFile.reopen(file, flags: flags)
      return .value(
        Int64(try listener.install(opened, for: call.id, closeOnExec: request.closesOnExec)))
    case .entry(let entry, let host):
      if let node = entry.node { return try open(node, of: entry, request, call) }
      return try openDirectory(entry, on: host, request, call)
    }
  }

  private func open(
    _ node: DeviceNode, of entry: VirtualEntry, _ request: OpenRequest, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    let flags = try OpenModel.statusFlagsOfDevice(request)
    if request.isPathOnly { return try installPlaceHolder(of: entry, request, call) }
    let client = client(of: call)
    processCloses(before: client)
    let file = try withFaultInjection(for: call) { () throws(Errno) in
      try node.device.open(by: client)
    }
    let standIn = try files.add(file, of: entry, flags: flags, by: client.process)
    // This function closes its own copy of the descriptor before the answer is sent. Otherwise the
    // program's close(2) might not be the last one. That is why the descriptor is not installed
    // with the answer (SECCOMP_ADDFD_FLAG_SEND).
    return .value(
      Int64(
        try listener.install(standIn, for: call.id, closeOnExec: request.closesOnExec)))
  }

  private func installPlaceHolder(
    of entry: VirtualEntry, _ request: OpenRequest, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    // The supervisor cannot install a descriptor with O_PATH. Access mode 3 makes reads and writes
    // fail with EBADF, too.
    let placeHolder = try tree.openPlaceHolder(
      of: entry, flags: entry.isDirectory ? O_RDONLY | O_DIRECTORY : O_ACCMODE)
    return .value(
      Int64(
        try listener.install(placeHolder, for: call.id, closeOnExec: request.closesOnExec)))
  }

  /// Opens a directory of the tree. Its descriptor has a number at which getdents64(2) is trapped.
  /// - Parameter host: the host's directory that the entry is laid over.
  private func openDirectory(
    _ entry: VirtualEntry, on host: OwnedDescriptor?, _ request: OpenRequest, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    if host != nil, request.isPathOnly { return .native }
    let flags = try OpenModel.statusFlags(request, of: "/")
    if request.isPathOnly { return try installPlaceHolder(of: entry, request, call) }
    let reopened = flags & ~O_NOFOLLOW
    let directory =
      if let host { try StandInFile.reopen(host, flags: reopened) } else {
        try tree.openPlaceHolder(of: entry, flags: reopened)
      }
    return try installAtHighNumber(directory, request, call)
  }

  private func installAtHighNumber(
    _ file: OwnedDescriptor, _ request: OpenRequest, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    let process = try call.task.processID()
    let number = try files.numbers.reserve(in: call.task, of: process)
    var isInstalled = false
    defer { files.numbers.cancel(number, of: process, isFree: !isInstalled) }
    try listener.install(file, as: number, for: call.id, closeOnExec: request.closesOnExec)
    isInstalled = true
    return .value(Int64(number))
  }

  // MARK: Virtual files

  /// - Returns: `nil` when the path does not denote a virtual file.
  private func openVirtualFile(
    _ path: [UInt8], _ request: OpenRequest, _ call: TrappedCall
  ) throws(Errno) -> Answer? {
    guard let virtualFiles else { return nil }
    // /proc/<pid>/status must not show pages of files that the program has closed.
    let client = client(of: call)
    processCloses(before: client)
    let flags = Int32(truncatingIfNeeded: request.flags)
    let opened = try virtualFiles.open(
      String(decoding: path, as: UTF8.self), flags: flags, by: call.task)
    switch opened {
    case nil: return nil
    case .native(let descriptor):
      return .value(
        Int64(
          try listener.install(descriptor, for: call.id, closeOnExec: request.closesOnExec)))
    case .served(let file, let path):
      return try installAtHighNumber(
        try files.add(file, path: path, by: client.process), request, call)
    }
  }
}
