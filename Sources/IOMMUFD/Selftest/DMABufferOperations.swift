// SPDX-License-Identifier: Apache-2.0

// Operations of the selftest interface on dma-bufs. The exporter is the test; on real hardware it
// would be the driver of another device, and the memory that device's BAR.

internal import CUAPI
internal import SystemPackage
internal import UAPI

/// The descriptor of a dma-buf. A client can map the dma-buf into an IOAS and ask for its length,
/// and nothing else.
final class DMABufferFile: OpenFile {
  let buffer: DMABuffer
  let descriptorFlags: Int32

  init(_ buffer: DMABuffer, flags: UInt32) {
    self.buffer = buffer
    descriptorFlags =
      Int32(bitPattern: flags) & (DescriptorFlags.status | DescriptorFlags.closeOnExec)
  }

  var hasPoll: Bool { true }
  var linkText: String { "/dmabuf:" }
  var hasSeek: Bool { true }

  /// Accepts only offset 0 from the start or from the end. dma_buf_llseek()
  func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> Int64 {
    guard offset == 0 else { throw .invalidArgument }
    switch whence {
    case Whence.start: return 0
    case Whence.end: return Int64(buffer.length)
    default: throw .invalidArgument
    }
  }

  /// SEEK_SET, SEEK_END
  private enum Whence {
    static let start: Int32 = 0
    static let end: Int32 = 2
  }

  /// Returns the dma-buf of a descriptor of the caller; `nil` when the descriptor is of another
  /// kind.
  static func buffer(of number: Int32, _ client: any Client) -> DMABuffer? {
    ((try? client.openFile(number)) as? DMABufferFile)?.buffer
  }

  /// The selftest's dma_buf_ops have no mmap.
  func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    throw .invalidArgument
  }

  /// The mappings keep the dma-buf alive.
  func release() {}
}

enum DMABufferOperations {
  private static let lengthLimit: UInt64 = 512 * 4096

  /// DMABUF_GET. The result of the ioctl is the descriptor; in Linux 7.3 it is 0.
  /// selftest.c: iommufd_test_dmabuf_get()
  static func make(_ command: inout TestCommand) throws(Errno) {
    // The kernel's rounding up wraps too.
    let length = (UInt64(command.arguments.dmabuf_get.length) &+ 4095) & ~4095
    guard length > 0, length <= lengthLimit else { throw .invalidArgument }
    let file = DMABufferFile(
      try DMABuffer(length: length), flags: command.arguments.dmabuf_get.open_flags)
    var result: Int32 = 0
    try command.client.install(file) { (number: Int32) throws(Errno) in result = number }
    command.result = result
  }

  /// DMABUF_REVOKE. Every call invalidates all mappings; the argument says whether later mappings
  /// fail. selftest.c: iommufd_test_dmabuf_revoke()
  static func revoke(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments.dmabuf_revoke
    guard let file = try command.client.openFile(arguments.dmabuf_fd) as? DMABufferFile else {
      throw .invalidArgument
    }
    file.buffer.invalidateMappings(revoke: arguments.revoked != 0)
  }
}
