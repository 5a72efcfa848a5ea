// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage

/// The iommufd that subcommands work on and the buffers that they map. A script has one session for
/// all its lines; a command line has one for its only subcommand. Descriptors and buffers stay
/// until this process ends.
final class ScriptSession {
  /// The nodes that are tried in turn when neither a descriptor nor a node is given.
  static let defaultNodes = ["/dev/iommufd-sim", "/dev/iommu"]

  private let node: String?
  private var iommufd: Int32?
  /// Buffers by address. A buffer subcommand accepts only these addresses, so a script cannot
  /// access other memory of this process.
  var buffers: [UInt64: UnsafeMutableRawBufferPointer] = [:]

  init(descriptor: Int32?, node: String?) {
    iommufd = descriptor
    self.node = node
  }

  /// Returns the descriptor of the iommufd. The first use opens it.
  func iommufdDescriptor() throws(Failure) -> Int32 {
    if let iommufd { return iommufd }
    let path =
      node ?? Self.defaultNodes.first { access($0, F_OK) == 0 } ?? Self.defaultNodes[1]
    let opened = try open(path)
    iommufd = opened
    return opened
  }

  /// Opens a node for reading and writing.
  func open(_ path: String) throws(Failure) -> Int32 {
    let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw .call("open \(path)", Errno(rawValue: errno)) }
    return descriptor
  }
}
