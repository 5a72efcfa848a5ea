// SPDX-License-Identifier: Apache-2.0

// read(2) and write(2) of a device file. The file offset selects the region and the position in the
// region (vfio_pci_rw()).

package import SystemPackage
package import UAPI

extension DeviceFile {
  package var hasRead: Bool { true }
  package var hasWrite: Bool { true }

  package func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard let binding else { throw .invalidArgument }
    guard destination.count > 0 else { return 0 }
    return try binding.openedDevice.read(
      RegionOffset.index(of: offset), into: destination, at: RegionOffset.position(in: offset))
  }

  package func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard let binding else { throw .invalidArgument }
    guard source.count > 0 else { return 0 }
    return try binding.openedDevice.write(
      RegionOffset.index(of: offset), from: source, at: RegionOffset.position(in: offset))
  }
}
