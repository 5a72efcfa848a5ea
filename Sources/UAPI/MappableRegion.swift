// Memory of a device that programs reach by mmap(2) of its open file.
//
// What a program maps is the file that its descriptor really refers to, and in that file the front end
// puts what the region holds, at the region's own offset, when it is mapped first. From then on
// the memory belongs to those who map it, and the device does not see what they store; but a *shared*
// region is mapped by the server, too, and whose registers it holds looks at them.

package import Host
package import SystemPackage

/// What mmap(2) asks of a file, as far as a file's own mmap operation looks at it.
package struct MappingRequest: Sendable {
  package let offset: UInt64
  /// Whole pages.
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

package protocol MappableRegion: AnyObject, Sendable {
  /// Where it begins, in the program's file as in the device's.
  var offset: UInt64 { get }
  /// Whole pages. The region ends at ``RegionOffset/end`` or before.
  var length: UInt64 { get }
  /// What it holds when it is mapped first; zeros follow.
  var contents: [UInt8] { get }

  /// Whether `fill` of ``place(in:fill:)`` is to map it into the server.
  var isShared: Bool { get }

  /// The region is about to be mapped as part of `file`, which `fill` makes hold its contents. `fill`
  /// is called when that has not happened yet; of a shared region it gives the server's mapping.
  /// - Throws: what `fill` throws; `.noSuchAddressOrDevice` (ENXIO) when the region has gone.
  func place(
    in file: FileIdentity, fill: () throws(Errno) -> SharedRegisters?
  ) throws(Errno)
}

extension MappableRegion {
  package var isShared: Bool { false }
}
