// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage
internal import UAPI

extension Supervisor {
  /// AT_EMPTY_PATH
  private static let emptyPath: UInt32 = 0x1000

  /// Answers stat(2) and related calls, by path and by descriptor, for device nodes and for the
  /// directories above them that the host does not have.
  func status(_ call: TrappedCall) throws(Errno) -> Answer {
    let client = client(of: call)
    let status: NodeStatus?
    let destination: UInt64
    switch call.systemCall {
    case .fstat:
      status = self.status(of: call.descriptor(0), call)
      destination = call[1]
    case .stat, .lstat:
      status = self.status(at: call[0], from: AT_FDCWD, call, client)
      destination = call[1]
    case .fstatat:
      status = self.status(at: call[1], from: call.descriptor(0), flags: call.word(3), call, client)
      destination = call[2]
    default:
      status = self.status(at: call[1], from: call.descriptor(0), flags: call.word(2), call, client)
      destination = call[4]
    }
    guard let status else { return .native }
    let bytes =
      call.systemCall == .statx ? status.extendedBytes : status.bytes(for: call.architecture)
    try client.storeArray(bytes, at: destination)
    return .value(0)
  }

  private func status(
    at address: UInt64, from directory: Int32, flags: UInt32 = 0, _ call: TrappedCall,
    _ client: LauncherClient
  ) -> NodeStatus? {
    let isEmptyAllowed = flags & Self.emptyPath != 0
    // Since Linux 6.11 a null pointer stands for the empty path.
    if isEmptyAllowed, address == 0 { return status(of: directory, call) }
    guard let path = client.loadPath(at: address) else { return nil }
    if path.isEmpty { return isEmptyAllowed ? status(of: directory, call) : nil }
    return switch paths.target(of: path, from: directory, in: call.task) {
    case .node(let node): NodeStatus(of: node)
    case .directory: Self.existsOnHost(path) ? nil : .directory
    case nil: nil
    }
  }

  private func status(of descriptor: Int32, _ call: TrappedCall) -> NodeStatus? {
    guard let entry = try? files.beginCall(on: descriptor, of: call.task) else { return nil }
    defer { files.endCall(on: entry) }
    return entry.node.map(NodeStatus.init(of:))
  }

  private static func existsOnHost(_ path: String) -> Bool {
    path.hasPrefix("/") && Glibc.access(path, F_OK) == 0
  }
}
