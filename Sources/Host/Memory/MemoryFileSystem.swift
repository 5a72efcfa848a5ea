// SPDX-License-Identifier: Apache-2.0

// The file systems whose pages *are* the storage of their files: there is no disk that the pages
// are a cache of. Devices may write to such pages for long
// (mm: writable_file_mapping_allowed()).

internal import CLinux
internal import Glibc
internal import SystemPackage

enum MemoryFileSystem {
  // <linux/magic.h>
  private static let tmpfsMagic: Int64 = 0x0102_1994
  private static let hugetlbfsMagic: Int64 = 0x9584_58f6

  /// Bytes of the file's pages that can only be mapped together. `nil` for files that are neither
  /// on tmpfs, as a memfd and shared anonymous memory are, nor on hugetlbfs.
  /// - Throws: the errno of fstatfs(2).
  static func pageSize(of descriptor: OwnedDescriptor) throws(Errno) -> Int? {
    var (type, blockSize): (Int64, Int64) = (0, 0)
    let result = CLinux_fstatfs(descriptor.rawValue, &type, &blockSize)
    guard result == 0 else { throw Errno(rawValue: -result) }
    return switch type {
    case tmpfsMagic: 4096
    case hugetlbfsMagic: max(4096, Int(blockSize))
    default: nil
    }
  }

  // MARK: Files that this process cannot open

  /// The devices of the mounts that only the kernel has: one of tmpfs, and one of hugetlbfs for
  /// each size of huge pages.
  private static let internalDevices: Set<UInt64> = {
    // MFD_HUGETLB; the size is in the upper bits as log2 (MFD_HUGE_SHIFT).
    let sizes = [16, 21, 24, 25, 29, 30, 34].map { UInt32(4) | UInt32($0) << 26 }
    return Set(([0] + sizes).compactMap(device(ofMemfdWith:)))
  }()

  private static func device(ofMemfdWith flags: UInt32) -> UInt64? {
    let number = CLinux_memfd_create("probe", flags | UInt32(CLinux_MFD_CLOEXEC))
    guard number >= 0 else { return nil }
    return try? FileStatus(of: OwnedDescriptor(owning: number)).identity.device
  }

  /// The types of file systems in mountinfo that write nothing back.
  private static let types: Set<Substring> = ["tmpfs", "devtmpfs", "hugetlbfs", "ramfs", "rootfs"]

  /// Whether `device` is that of a file system without writeback, mounted where process `process`
  /// or this process sees it, or by the kernel itself. False when no mount is found.
  static func contains(_ device: UInt64, seenBy process: Int32) -> Bool {
    internalDevices.contains(device)
      || ["/proc/\(process)/mountinfo", "/proc/self/mountinfo"].contains { path in
        (try? ProcFile.read(path)).map { isListed(device, in: $0) } ?? false
      }
  }

  /// - Parameter text: lines "36 35 0:31 / /mnt rw,noatime shared:1 - tmpfs none rw"
  ///   (proc_pid_mountinfo(5)).
  static func isListed(_ device: UInt64, in text: String) -> Bool {
    text.split(separator: "\n").contains { line in
      let words = line.split(separator: " ")
      guard words.count > 3, let dash = words.firstIndex(of: "-"), dash + 1 < words.count,
        types.contains(words[dash + 1])
      else { return false }
      let numbers = words[2].split(separator: ":").compactMap { UInt32($0) }
      return numbers.count == 2
        && FileIdentity(major: numbers[0], minor: numbers[1], inode: 0).device == device
    }
  }
}

extension FileIdentity {
  /// Whether a file system writes changed pages of the file to a device or to a server. Only for a
  /// file that process `process` maps.
  package func isWrittenBack(seenBy process: Int32) -> Bool {
    !MemoryFileSystem.contains(device, seenBy: process)
  }
}
