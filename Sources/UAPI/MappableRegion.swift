// SPDX-License-Identifier: Apache-2.0

// Memory of a device that a program maps with mmap(2) of the device's open file.
//
// The program maps its stand-in file: the file that its descriptor refers to in the kernel. Before
// a region is mapped first, the front end writes the contents of the region into the stand-in file,
// at the offset of the region. From then on the programs that map the file share that memory, and
// the device does not see their stores. A *shared* region is also mapped by the server, which
// watches the registers in it.

package import Host
package import SystemPackage

/// The arguments of mmap(2) that the mmap operation of a file checks.
package struct MappingRequest: Sendable {
  package let offset: UInt64
  /// Bytes; a multiple of the page size.
  package let length: UInt64
  package let isShared: Bool
  package let isExecutable: Bool

  package init(offset: UInt64, length: UInt64, isShared: Bool, isExecutable: Bool) {
    self.offset = offset
    self.length = length
    self.isShared = isShared
    self.isExecutable = isExecutable
  }
}

/// Memory of a device that programs can map.
package protocol MappableRegion: AnyObject, Sendable {
  /// The offset of the region, in the device's file and in the program's stand-in file.
  var offset: UInt64 { get }
  /// Bytes; a multiple of the page size. The region ends at ``RegionOffset/end`` or before.
  var length: UInt64 { get }
  /// The bytes with which the region begins when it is mapped first. Zeros follow.
  var contents: [UInt8] { get }

  /// Whether the server maps the region as well.
  var isShared: Bool { get }

  /// Prepares `file`, of which the region will be mapped.
  /// - Parameter fill: writes ``contents`` into `file`, and returns the server's mapping when the
  ///   region is shared. It is not called when `file` has been prepared before.
  /// - Throws: the error of `fill`; `.noSuchAddressOrDevice` (ENXIO) when the region no longer
  ///   exists.
  func prepareMapping(
    in file: FileIdentity, fill: () throws(Errno) -> SharedRegisters?
  ) throws(Errno)
}

extension MappableRegion {
  package var isShared: Bool { false }
}
