// SPDX-License-Identifier: Apache-2.0

/// The rows of the catalogue that one kind of open file answers, by number. The kind decides,
/// because VFIO's container and VFIO devices share numbers.
package struct IoctlTable: Sendable {
  package let rows: [Ioctl]
  private let byNumber: [IoctlNumber: Ioctl]

  /// No two rows may have the same number.
  private init(_ rows: [Ioctl]) {
    self.rows = rows
    byNumber = Dictionary(uniqueKeysWithValues: rows.map { ($0.number, $0) })
  }

  /// Returns the row of a request, or `nil` when no such file has an ioctl with this number.
  package subscript(_ number: IoctlNumber) -> Ioctl? { byNumber[number] }

  /// The ioctls of an open /dev/iommu, those included that only some servers answer.
  package static let iommufd = IoctlTable(
    Ioctl.ofIOMMUFD + Ioctl.ofContainer + Ioctl.ofSelftest + Ioctl.ofSimulator)

  /// The ioctls of an open VFIO device.
  package static let vfioDevice = IoctlTable(Ioctl.ofVFIODevice)
}

extension OpenFile {
  /// The ioctls whose names and structs a trace shows for this file.
  package var ioctls: IoctlTable { isVFIODevice ? .vfioDevice : .iommufd }
}
