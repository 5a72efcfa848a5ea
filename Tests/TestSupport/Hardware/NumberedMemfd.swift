// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
package import Host
package import IOMMU
internal import SystemPackage

/// Makes a memfd whose page n begins with the word n + 1.
package func makeNumberedMemfd(pages: Int) throws -> OwnedDescriptor {
  let memfd = try OwnedDescriptor(checking: CLinux_memfd_create("test", 1))
  guard ftruncate(memfd.rawValue, pages * Frame.size) == 0 else { throw Errno(rawValue: errno) }
  for page in 0..<pages {
    var word = UInt64(page + 1)
    guard pwrite(memfd.rawValue, &word, 8, off_t(page * Frame.size)) == 8 else {
      throw Errno(rawValue: errno)
    }
  }
  return memfd
}

extension FrameRun {
  /// The physical address of a page of the run.
  package func page(_ index: Int) -> PhysicalAddress {
    PhysicalAddress(physical.rawValue + UInt64(index * Frame.size))
  }
}
