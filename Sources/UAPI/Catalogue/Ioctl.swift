// SPDX-License-Identifier: Apache-2.0

// The ioctl catalogue. A row, ``Ioctl``, has everything that this project knows about an ioctl as
// data: number, C name, owner, struct, minimum size, and the names of the struct's fields and
// flags.
//
// The rows are the `static let`s of Ioctl+IOMMUFD.swift, Ioctl+Container.swift,
// Ioctl+VFIODevice.swift, Ioctl+Selftest.swift and Ioctl+Simulator.swift; each file also lists its
// rows in an array. Readers of the catalogue are the dispatcher of /dev/iommu, the VFIO container
// commands and the VFIO device files (numbers and sizes), the ioctl traces of both front ends
// (names and fields), and iommufdctl (names and numbers). scripts/dev/check/uapi compares every row
// with the headers of uapi/.
//
// To add an ioctl, add its row and its handler.

/// One ioctl of the uAPI.
package struct Ioctl: Sendable {
  /// The part of the uAPI that defines an ioctl.
  package enum Owner: String, CaseIterable, Sendable {
    /// /dev/iommu: uapi/linux/iommufd.h.
    case iommufd
    /// VFIO's container, which every /dev/iommu answers as well: uapi/linux/vfio.h.
    case container
    /// A VFIO device file: uapi/linux/vfio.h. The numbers overlap with the container's.
    case vfioDevice
    /// The selftest interface of /dev/iommu: uapi/iommufd_test.h.
    case selftest
    /// The simulator: requests on /dev/iommu that no kernel answers, uapi/iommufd_sim.h.
    case simulator
  }

  /// The name of the request in C, for example `IOMMU_IOAS_MAP`.
  package let name: String
  package let number: IoctlNumber
  package let owner: Owner
  /// The struct that the argument points to. `nil` when the argument is a number or is not used.
  package let structure: IoctlStructure?

  /// Makes a row whose argument is a number or is not used.
  init(_ name: String, _ number: IoctlNumber, _ owner: Owner) {
    (self.name, self.number, self.owner) = (name, number, owner)
    structure = nil
  }

  /// Makes a row whose argument points to a struct.
  /// - Parameters:
  ///   - member: the last member of the struct's first version. Every caller must give the struct
  ///     through this member.
  ///   - flags: the members that consist of flags, by name.
  init<Structure, Member>(
    _ name: String, _ number: IoctlNumber, _ owner: Owner,
    minimumThrough member: KeyPath<Structure, Member>, flags: [String: [IoctlFlag]] = [:]
  ) {
    (self.name, self.number, self.owner) = (name, number, owner)
    structure = IoctlStructure(minimumThrough: member, flags: flags)
  }

  /// Bytes of today's struct; 0 without a struct.
  package var size: Int { structure?.size ?? 0 }

  /// Bytes of the shortest struct that the ioctl accepts; 0 without a struct.
  package var minimumSize: Int { structure?.minimumSize ?? 0 }
}

extension Ioctl: Hashable {
  package static func == (a: Ioctl, b: Ioctl) -> Bool {
    a.number == b.number && a.owner == b.owner
  }

  package func hash(into hasher: inout Hasher) {
    hasher.combine(number)
    hasher.combine(owner)
  }
}

extension Ioctl: CustomStringConvertible {
  package var description: String { name }
}
