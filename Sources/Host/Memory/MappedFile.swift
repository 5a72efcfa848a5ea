// Opening the file that a mapping of another process is of.

internal import CLinux
internal import Glibc
package import SystemPackage

package struct MappedFile {
  package let descriptor: OwnedDescriptor
  package let isWritable: Bool
  /// Its pages are its storage: tmpfs, memfd, shared anonymous memory, hugetlbfs.
  package let isMemory: Bool

  /// More descriptors of a process than these are not looked at.
  private static let descriptorLimit = 4096

  /// A descriptor of ours of `file`, which `area` of `space` maps; nil when it cannot be had or is a
  /// device. That the file opened is the one that was meant is verified by its identity, so
  /// a process that has changed meanwhile does no harm.
  package static func open(
    _ area: VirtualMemoryArea, _ file: FileIdentity, of space: AddressSpace
  ) -> MappedFile? {
    let process = "/proc/\(space.processID)"
    let range = String(area.start, radix: 16) + "-" + String(area.end, radix: 16)
    if let opened = open("\(process)/map_files/\(range)", expecting: file) { return opened }
    for number in descriptors(of: process) {
      if let opened = open("\(process)/fd/\(number)", expecting: file) { return opened }
    }
    return nil
  }

  /// A descriptor of the same file that can write, whatever `descriptor` was opened for.
  package static func reopenForWriting(_ descriptor: OwnedDescriptor) -> OwnedDescriptor? {
    if descriptor.isWritable { return descriptor }
    return try? ProcFile.open("/proc/self/fd/\(descriptor.rawValue)", O_RDWR | O_NONBLOCK)
  }

  /// Allocates what is missing of `range`, which lies in the file, so that an access cannot find the
  /// file system full. A descriptor that can only read leaves that to the first access.
  /// - Throws: `.noSpace`, `.noMemory`.
  package static func allocate(
    _ range: Range<UInt64>, of file: OwnedDescriptor
  ) throws(Errno) {
    let length = range.upperBound - range.lowerBound
    while true {
      switch CLinux_allocate(file.rawValue, range.lowerBound, length) {
      case -EINTR: continue
      case -ENOSPC: throw .noSpace
      case -ENOMEM: throw .noMemory
      default: return
      }
    }
  }

  private static func open(_ path: String, expecting file: FileIdentity) -> MappedFile? {
    // Looked at before it is opened: opening a device does something.
    guard isRegular(path, file) else { return nil }
    for (flags, isWritable) in [(O_RDWR, true), (O_RDONLY, false)] {
      guard let descriptor = try? ProcFile.open(path, flags | O_NONBLOCK) else { continue }
      guard let status = try? FileStatus(of: descriptor), status.identity == file else {
        return nil
      }
      return MappedFile(
        descriptor: descriptor, isWritable: isWritable, isMemory: status.isMemory)
    }
    return nil
  }

  private static func isRegular(_ path: String, _ file: FileIdentity) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
      && FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino)) == file
  }

  private static func descriptors(of process: String) -> [String] {
    var names: [String] = []
    _ = ProcDirectory.contains("\(process)/fd") { name in
      names.append(name)
      return names.count == descriptorLimit
    }
    return names
  }
}
