// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import FrontEnd
internal import Glibc
internal import SystemPackage

/// One connection to /dev/cuse (libfuse: struct fuse_session), for which the kernel makes one node.
///
/// libfuse parses the messages. The threads that read them belong to `CUSESession`, not to libfuse.
/// A connection is never destroyed: threads read it until the process ends.
struct CUSEConnection: @unchecked Sendable {
  private let raw: OpaquePointer

  /// Connects to /dev/cuse. The kernel makes the node, or ends the connection, some time later.
  /// - Parameters:
  ///   - node: the path of the node, which begins with /dev/.
  ///   - number: major and minor number; 0 and 0 let the kernel choose.
  ///   - userData: what ``CUSERequest/session`` is read from.
  init(
    node: String, number: (major: UInt32, minor: UInt32), operations: cuse_lowlevel_ops,
    userData: UnsafeMutableRawPointer
  ) throws(Errno) {
    let channel = try Self.openChannel()
    guard let session = Self.makeSession(node, number, operations, userData) else {
      Glibc.close(channel)
      throw .noMemory
    }
    // libfuse accepts an open channel in this form, and owns it from here on.
    guard fuse_session_mount(session, "/dev/fd/\(channel)") == 0 else {
      fuse_session_destroy(session)
      Glibc.close(channel)
      throw .invalidArgument
    }
    raw = session
  }

  /// Waits for the next message.
  /// - Returns: false when the kernel has ended the connection.
  func receive(into buffer: inout fuse_buf) -> Bool {
    while true {
      let count = fuse_session_receive_buf(raw, &buffer)
      if count == -EINTR || count == -EAGAIN { continue }
      return count > 0
    }
  }

  /// Calls the operation that the message in `buffer` asks for.
  func process(_ buffer: inout fuse_buf) {
    fuse_session_process_buf(raw, &buffer)
  }

  /// Descriptor numbers that are reserved for connections, above all others.
  private static let reservedNumbers: Int32 = 256

  /// Opens /dev/cuse with a higher number than any descriptor that comes later.
  ///
  /// A process that ends closes its descriptors from the highest number down. The close of a copy
  /// of a client's descriptor waits for an answer of this server. The wait ends at once when the
  /// connection is closed already, and never while the process still holds the connection.
  private static func openChannel() throws(Errno) -> Int32 {
    let low = Glibc.open("/dev/cuse", O_RDWR | O_CLOEXEC)
    guard low >= 0 else { throw Errno(rawValue: errno) }
    let top = Int32(clamping: DescriptorLimit.soft) - reservedNumbers
    let high = fcntl(low, F_DUPFD_CLOEXEC, max(low, top))
    guard high >= 0 else { return low }
    Glibc.close(low)
    return high
  }

  private static func makeSession(
    _ node: String, _ number: (major: UInt32, minor: UInt32), _ operations: cuse_lowlevel_ops,
    _ userData: UnsafeMutableRawPointer
  ) -> OpaquePointer? {
    // The kernel turns '!' in the name of a device into '/' in the name of its node.
    let name = node.dropFirst("/dev/".count).split(separator: "/").joined(separator: "!")
    var operations = operations
    let program = strdup("iommufd-sim")
    defer { free(program) }
    var arguments: [UnsafeMutablePointer<CChar>?] = [program, nil]
    return arguments.withUnsafeMutableBufferPointer { vector in
      "DEVNAME=\(name)".withCString { name in
        var information: [UnsafePointer<CChar>?] = [name]
        return information.withUnsafeMutableBufferPointer { lines in
          var fuseArguments = fuse_args(argc: 1, argv: vector.baseAddress, allocated: 0)
          var info = cuse_info()
          info.dev_major = number.major
          info.dev_minor = number.minor
          info.dev_info_argc = 1
          info.dev_info_argv = lines.baseAddress
          info.flags = UInt32(CUSE_UNRESTRICTED_IOCTL)
          return cuse_lowlevel_new(&fuseArguments, &info, &operations, userData)
        }
      }
    }
  }
}
