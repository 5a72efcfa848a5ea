// The contract between front ends (a kernel event becomes a call) and devices (what the call means).
// It is the kernel's struct file_operations, reduced to what iommufd and VFIO use.
//
// Any method may be called from any thread, and several at once on one open file. A front end keeps
// the `OpenFile` until the last descriptor and mapping of it, in any process, is gone, then calls
// `release()` once, after every other call on it has returned.

package import SystemPackage

/// A node under /dev.
package protocol CharacterDevice: Sendable {
  /// The node's path below /dev, for example `vfio/devices/vfio0`.
  var name: String { get }
  func open(by client: any Client) throws(Errno) -> any OpenFile
}

/// One open(2) of a device, or a queue descriptor that a device made.
package protocol OpenFile: AnyObject, Sendable {
  /// ioctl(2). `request` is the whole number, `argument` the third argument unchanged.
  /// - Returns: the non-negative result of the call.
  func ioctl(_ request: UInt32, argument: UInt64, client: any Client) throws(Errno) -> Int32

  /// Whether 32-bit callers of a 64-bit kernel are served (file_operations.compat_ioctl). Where not,
  /// a front end answers all their ioctls with ENOTTY, without calling ``ioctl(_:argument:client:)``.
  var hasCompatIoctl: Bool { get }

  /// Whether KVM takes it for the file of a VFIO device (vfio_file_is_valid()).
  var isVFIODevice: Bool { get }

  /// Whether read(2) and write(2) are there at all (file_operations.read, .write). Where not, they are
  /// EINVAL, whatever their arguments.
  var hasRead: Bool { get }
  var hasWrite: Bool { get }

  /// read(2), pread(2): stores at most `destination.count` bytes.
  /// - Parameter offset: the file position; queues ignore it.
  /// - Returns: the bytes stored.
  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int

  /// write(2), pwrite(2): as ``read(into:at:)``, the other way.
  func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int

  /// Whether lseek(2) is there (file_operations.llseek). Where not, it is ESPIPE.
  var hasSeek: Bool { get }

  /// lseek(2): the new position, which `whence` (SEEK_…) and `offset` say.
  func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> Int64

  /// Of a descriptor that a device makes: access mode, O_NONBLOCK and O_CLOEXEC, as of open(2).
  var descriptorFlags: Int32 { get }

  /// What poll(2) would report now. Devices that are not pollable return `.always`.
  func readiness() -> Readiness

  /// Asks for `wake` to be called, from any thread, whenever readiness may have changed. Replaces
  /// the function given before; nil ends it.
  func setReadinessObserver(_ wake: (@Sendable () -> Void)?)

  /// Whether ``region(for:)`` may ever succeed. A front end that can map nothing need not ask.
  var hasRegions: Bool { get }

  /// mmap(2): the region to map, or what the file's mmap operation refuses with.
  func region(for request: MappingRequest) throws(Errno) -> any MappableRegion

  /// The last reference is gone. Cannot fail.
  func release()
}

/// Defaults are what the kernel answers for a file_operations member that is absent.
extension OpenFile {
  package var hasCompatIoctl: Bool { false }
  package var isVFIODevice: Bool { false }
  package var hasRead: Bool { false }
  package var hasWrite: Bool { false }
  package func ioctl(
    _ request: UInt32, argument: UInt64, client: any Client
  ) throws(Errno) -> Int32 {
    throw .inappropriateIOCTLForDevice
  }
  package func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    throw .invalidArgument
  }
  package func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    throw .invalidArgument
  }
  package var hasSeek: Bool { false }
  package func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> Int64 {
    throw .illegalSeek
  }
  package var descriptorFlags: Int32 { DescriptorFlags.standard }
  package func readiness() -> Readiness { .always }
  package func setReadinessObserver(_ wake: (@Sendable () -> Void)?) {}
  package var hasRegions: Bool { false }
  package func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    throw .operationNotSupportedByDevice
  }
}

/// Flags of descriptors that devices make.
package enum DescriptorFlags {
  /// O_RDWR | O_CLOEXEC
  package static let standard: Int32 = 0o2 | 0o2000000
  /// O_CLOEXEC, which is the descriptor's and not the open file's.
  package static let closeOnExec: Int32 = 0o2000000
  /// O_ACCMODE | O_NONBLOCK
  package static let status: Int32 = 0o3 | 0o4000
}

/// The address range of a read or write. Where the transport moves the data itself (CUSE), the
/// memory is a buffer of the front end's and the address starts at 0.
package struct UserBuffer {
  package let memory: any UserMemory
  package let address: UInt64
  /// Bytes asked for by the caller.
  package let count: Int

  package init(memory: any UserMemory, address: UInt64, count: Int) {
    self.memory = memory
    self.address = address
    self.count = count
  }
}

/// The subset of poll(2)'s events that our files report.
package struct Readiness: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// POLLIN | POLLRDNORM
  package static let readable = Readiness(rawValue: 1)
  /// POLLOUT | POLLWRNORM
  package static let writable = Readiness(rawValue: 2)
  /// What the kernel reports for a file without a poll operation.
  package static let always: Readiness = [.readable, .writable]
}
