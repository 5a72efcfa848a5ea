// The descriptors and memory that commands work on. A command line makes a session for one command;
// a script makes one for all its lines.

internal import Glibc
internal import SystemPackage

final class Session {
  /// The nodes tried in turn when no descriptor and no node is given.
  static let defaultNodes = ["/dev/iommufd-sim", "/dev/iommu"]

  private let node: String?
  private var iommufd: Int32?
  /// Buffers by address, so that buffer commands cannot touch anything else of this process.
  var buffers: [UInt64: UnsafeMutableRawBufferPointer] = [:]

  init(descriptor: Int32?, node: String?) {
    iommufd = descriptor
    self.node = node
  }

  /// The iommufd, opened at its first use.
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
