// A dma-buf whose exporter is the test: a stand-in for the registers of another device.

internal import CUAPI
internal import SystemPackage
internal import UAPI

/// A descriptor of the buffer. It is for devices; its holder can but map it into an IOAS.
final class DMABufferFile: OpenFile {
  let buffer: DMABuffer
  let descriptorFlags: Int32

  init(_ buffer: DMABuffer, flags: UInt32) {
    self.buffer = buffer
    descriptorFlags =
      Int32(bitPattern: flags) & (DescriptorFlags.status | DescriptorFlags.closeOnExec)
  }

  var hasSeek: Bool { true }

  /// How long it is can be asked for, and nothing else. dma_buf_llseek()
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

  /// The buffer of a descriptor of the caller, if it is one.
  static func of(_ number: Int32, _ client: any Client) -> DMABuffer? {
    ((try? client.openFile(number)) as? DMABufferFile)?.buffer
  }

  /// dma_buf_ops::mmap is absent.
  func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    throw .invalidArgument
  }

  /// Mappings keep the buffer.
  func release() {}
}

enum DMABufferOperations {
  private static let lengthLimit: UInt64 = 512 * 4096

  /// DMABUF_GET. The descriptor is the result; Linux 7.3 answers 0 in its place.
  /// selftest.c: iommufd_test_dmabuf_get()
  static func make(_ command: inout TestCommand) throws(Errno) {
    // A length that wraps when it is rounded up is 0 for the kernel, too.
    let length = (UInt64(command.arguments.dmabuf_get.length) &+ 4095) & ~4095
    guard length > 0, length <= lengthLimit else { throw .invalidArgument }
    let file = DMABufferFile(
      try DMABuffer(length: length), flags: command.arguments.dmabuf_get.open_flags)
    var result: Int32 = 0
    try command.client.install(file) { (number: Int32) throws(Errno) in result = number }
    command.result = result
  }

  /// DMABUF_REVOKE. Each call takes the memory back from all who have it; the argument is about later
  /// mappings. selftest.c: iommufd_test_dmabuf_revoke()
  static func revoke(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments.dmabuf_revoke
    guard let file = try command.client.openFile(arguments.dmabuf_fd) as? DMABufferFile else {
      throw .invalidArgument
    }
    file.buffer.invalidateMappings(revoke: arguments.revoked != 0)
  }
}
