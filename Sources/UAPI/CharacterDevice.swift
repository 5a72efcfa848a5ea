// SPDX-License-Identifier: Apache-2.0

// The contract between front ends and devices. A front end turns events of the kernel into calls of
// these methods; a device gives the calls their meaning. The contract is the kernel's struct
// file_operations, reduced to the operations that iommufd and VFIO have.
//
// Any thread may call a method, and several threads may call methods of one open file at the same
// time. A front end keeps an ``OpenFile`` until no process has a descriptor or a mapping of it any
// more. Then, after every other call on it has returned, the front end calls ``OpenFile/release()``
// once.

package import SystemPackage

/// A device with a node below /dev.
package protocol CharacterDevice: Sendable {
  /// The path of the node below /dev, for example `vfio/devices/vfio0`.
  var name: String { get }

  /// open(2) of the node.
  func open(by client: any Client) throws(Errno) -> any OpenFile
}

/// An open file of a device: one open(2) of its node, or a queue whose descriptor the device has
/// made.
package protocol OpenFile: AnyObject, Sendable {
  /// ioctl(2). `request` is the whole request number, and `argument` is the third argument as the
  /// caller gave it.
  /// - Returns: the result of the call, which is not negative.
  func ioctl(_ request: UInt32, argument: UInt64, client: any Client) throws(Errno) -> Int32

  /// Whether ioctl `request` can lead to pins of memory of the caller, by this call or by a later
  /// one of any caller. A front end then prepares the address space of the caller before the call.
  func pinsMemory(in request: UInt32) -> Bool

  /// Whether 32-bit callers of a 64-bit kernel are served (file_operations.compat_ioctl). When this
  /// is `false`, a front end answers all their ioctls with ENOTTY and does not call
  /// ``ioctl(_:argument:client:)``.
  var hasCompatIoctl: Bool { get }

  /// Whether KVM accepts the file as the file of a VFIO device (vfio_file_is_valid()).
  var isVFIODevice: Bool { get }

  /// Whether the file has a read operation (file_operations.read). Without it read(2) is EINVAL,
  /// whatever its arguments.
  var hasRead: Bool { get }

  /// Whether the file has a write operation (file_operations.write). Without it write(2) is EINVAL,
  /// whatever its arguments.
  var hasWrite: Bool { get }

  /// read(2) and pread(2). Stores at most `destination.count` bytes.
  /// - Parameter offset: the position in the file; queues ignore it.
  /// - Returns: the number of bytes stored.
  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int

  /// write(2) and pwrite(2). Takes at most `source.count` bytes.
  /// - Parameter offset: the position in the file; queues ignore it.
  /// - Returns: the number of bytes taken.
  func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int

  /// Whether the file has a seek operation (file_operations.llseek). Without it lseek(2) is ESPIPE.
  var hasSeek: Bool { get }

  /// lseek(2).
  /// - Parameter whence: SEEK_SET, SEEK_CUR or SEEK_END.
  /// - Returns: the new position.
  func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> Int64

  /// The flags of a descriptor that the device makes, as open(2) would get them: access mode,
  /// O_NONBLOCK and O_CLOEXEC.
  var descriptorFlags: Int32 { get }

  /// The text of the link to the file in /proc/<pid>/fd, for a file that a device has made.
  var linkText: String { get }

  /// Whether the file has a poll operation (file_operations.poll). Without it epoll_ctl(2) is
  /// EPERM.
  var hasPoll: Bool { get }

  /// Returns what poll(2) reports now. A file without a poll operation returns
  /// ``Readiness/always``.
  func readiness() -> Readiness

  /// Sets the function that the file calls, from any thread, whenever its readiness may have
  /// changed. It replaces the function of an earlier call; `nil` ends the notifications.
  func setReadinessObserver(_ wake: (@Sendable () -> Void)?)

  /// Whether ``region(for:)`` can ever succeed. When this is `false`, a front end need not prepare
  /// for mappings.
  var hasRegions: Bool { get }

  /// mmap(2). Returns the region to map.
  /// - Throws: what the mmap operation of the file answers.
  func region(for request: MappingRequest) throws(Errno) -> any MappableRegion

  /// Releases the file, to which no reference is left. Cannot fail.
  func release()
}

/// The answers of the kernel to calls for which a file has no file_operations member.
extension OpenFile {
  package func pinsMemory(in request: UInt32) -> Bool { false }
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
  package var linkText: String { "anon_inode:[iommufd]" }
  package var hasPoll: Bool { false }
  package func readiness() -> Readiness { .always }
  package func setReadinessObserver(_ wake: (@Sendable () -> Void)?) {}
  package var hasRegions: Bool { false }
  package func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    throw .operationNotSupportedByDevice
  }
}

/// Flags of the descriptors that devices make.
package enum DescriptorFlags {
  /// O_RDWR | O_CLOEXEC
  package static let standard: Int32 = 0o2 | 0o2000000
  /// O_CLOEXEC. It belongs to the descriptor; the other flags belong to the open file.
  package static let closeOnExec: Int32 = 0o2000000
  /// O_ACCMODE | O_NONBLOCK
  package static let status: Int32 = 0o3 | 0o4000
}

/// The buffer of a read or a write. When the transport moves the data itself (CUSE), `memory` is a
/// buffer of the front end and the address starts at 0.
package struct UserBuffer {
  package let memory: any UserMemory
  package let address: UInt64
  /// The number of bytes that the caller asked for.
  package let count: Int

  package init(memory: any UserMemory, address: UInt64, count: Int) {
    self.memory = memory
    self.address = address
    self.count = count
  }
}

/// The events of poll(2) that files of this project report.
package struct Readiness: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// POLLIN | POLLRDNORM
  package static let readable = Readiness(rawValue: 1)
  /// POLLOUT, and POLLWRNORM for a file without a poll operation
  package static let writable = Readiness(rawValue: 2)
  /// What the kernel reports for a file without a poll operation.
  package static let always: Readiness = [.readable, .writable]
}
