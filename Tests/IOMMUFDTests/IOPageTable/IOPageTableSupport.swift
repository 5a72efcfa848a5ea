// SPDX-License-Identifier: Apache-2.0

import Glibc
import Host
import IOMMU
import Synchronization
import SystemPackage
import TestSupport
import UAPI

@testable import IOMMUFD

extension PhysicalMemory {
  /// A physical memory for tests that do not count frames.
  private static let shared = Result { () throws(Errno) in try PhysicalMemory(.test) }
  static var testMemory: PhysicalMemory { get throws { try shared.get() } }
}

extension IOPTPages {
  /// Makes pages that can be mapped and not pinned.
  static func unpinnable() throws -> IOPTPages {
    let account = try PinAccount(InProcessClient(), mode: .user, needsAddressSpace: false)
    let file = OwnedDescriptor(owning: open("/dev/null", O_RDWR))
    return IOPTPages(
      .file(file, base: 0), pageCount: 1 << 40, isWritable: true, account: account,
      memory: try .testMemory, host: PinningHost())
  }
}

extension RecordingDriver {
  func newDomain() throws -> RecordingDomain {
    let device = RequesterID(bus: 0, device: 0, function: 0)
    guard let domain = try makePagingDomain([], for: device) as? RecordingDomain else {
      throw Errno.invalidArgument
    }
    return domain
  }
}

/// A mapping of anonymous memory or of a file.
final class TestMapping {
  let pointer: UnsafeMutableRawPointer
  let length: Int
  var address: UInt64 { UInt64(UInt(bitPattern: pointer)) }

  init(
    _ pages: Int, protection: Int32 = PROT_READ | PROT_WRITE,
    flags: Int32 = MAP_PRIVATE | MAP_ANONYMOUS, file: Int32 = -1, offset: Int = 0
  ) throws {
    length = pages * 4096
    guard let base = mmap(nil, length, protection, flags, file, offset), base != MAP_FAILED else {
      throw Errno(rawValue: errno)
    }
    pointer = base
  }

  deinit { munmap(pointer, length) }

  func protect(page: Int, count: Int = 1, _ protection: Int32) {
    mprotect(pointer + page * 4096, count * 4096, protection)
  }

  /// Returns whether the page is present (/proc/self/pagemap).
  func isPresent(_ page: Int) -> Bool {
    let file = open("/proc/self/pagemap", O_RDONLY)
    defer { close(file) }
    var entry: UInt64 = 0
    pread(file, &entry, 8, off_t((Int(address) / 4096 + page) * 8))
    return entry >> 63 == 1
  }
}
