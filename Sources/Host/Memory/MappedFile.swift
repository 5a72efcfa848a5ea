// SPDX-License-Identifier: Apache-2.0

// A descriptor of this process for a file that another process maps.

internal import Glibc
internal import SystemPackage

package struct MappedFile {
  package let descriptor: OwnedDescriptor
  package let isWritable: Bool
  /// Whether the file's pages are its storage, see ``MemoryFileSystem``.
  package let isMemory: Bool

  /// The number of descriptors of a process that are searched.
  private static let descriptorLimit = 4096

  /// Opens `file`, which `area` of `space` maps, through /proc/<pid>/map_files or through a
  /// descriptor of the process. The identity of the opened file is checked, so the process may
  /// change its mappings and descriptors meanwhile.
  /// - Returns: `nil` when no path leads to the file, it is not a regular file, or the process has
  ///   used up its share of descriptors.
  package static func open(
    _ area: VirtualMemoryArea, _ file: FileIdentity, of space: AddressSpace
  ) -> MappedFile? {
    let process = "/proc/\(space.processID)"
    let client = ClientIdentity(
      user: (try? HostTask(id: space.processID).realUserID()) ?? 0, process: space.processID)
    guard let charge = try? ChargedShares.descriptors.charge(client) else { return nil }
    let range = String(area.start, radix: 16) + "-" + String(area.end, radix: 16)
    if let opened = open("\(process)/map_files/\(range)", expecting: file, charge) { return opened }
    for number in descriptors(of: process) {
      if let opened = open("\(process)/fd/\(number)", expecting: file, charge) { return opened }
    }
    return nil
  }

  private static func open(
    _ path: String, expecting file: FileIdentity, _ charge: ChargedShares.Charge
  ) -> MappedFile? {
    // stat(2) comes first, because opening a device has effects.
    guard isRegular(path, file) else { return nil }
    for (flags, isWritable) in [(O_RDWR, true), (O_RDONLY, false)] {
      guard let descriptor = try? ProcFile.open(path, flags | O_NONBLOCK, charge) else { continue }
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
