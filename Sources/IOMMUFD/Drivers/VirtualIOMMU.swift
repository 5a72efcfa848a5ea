// SPDX-License-Identifier: Apache-2.0

// The driver's side of the objects vIOMMU, vDEVICE and hardware queue (struct iommufd_viommu and
// its ops). A vIOMMU is the part of a physical unit that one guest uses. A driver reaches iommufd
// through a ``VirtualIOMMUHost``, so that it does not depend on iommufd's objects.

package import Host
package import IOMMU
package import SystemPackage

/// The driver's side of a vIOMMU.
package protocol VirtualIOMMU: AnyObject, Sendable {
  /// Makes a nested domain on the vIOMMU's parent (viommu_ops.alloc_domain_nested). The default
  /// throws EOPNOTSUPP.
  func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain

  /// Invalidates what the unit has cached for the guest (viommu_ops.cache_invalidate). The default
  /// throws EOPNOTSUPP.
  /// - Parameter handled: The number of entries that took effect, also when the next entry is an
  ///   error.
  func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno)

  /// Adds a device that the guest knows as `virtualID` (viommu_ops.vdevice_init).
  func addDevice(_ device: RequesterID, virtualID: UInt64) throws(Errno)
  func removeDevice(_ device: RequesterID, virtualID: UInt64)

  /// Returns whether ``makeHardwareQueue(_:)`` knows `type` (viommu_ops.get_hw_queue_size). The
  /// default knows no type.
  func supportsHardwareQueue(type: UInt32) -> Bool

  /// Lets the hardware read a queue in the guest's memory (viommu_ops.hw_queue_init_phys).
  func makeHardwareQueue(_ request: HardwareQueueRequest) throws(Errno) -> any HardwareQueue
}

extension VirtualIOMMU {
  package func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain { throw .notSupported }

  package func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno) {
    throw .notSupported
  }

  package func addDevice(_ device: RequesterID, virtualID: UInt64) throws(Errno) {}
  package func removeDevice(_ device: RequesterID, virtualID: UInt64) {}
  package func supportsHardwareQueue(type: UInt32) -> Bool { false }

  package func makeHardwareQueue(
    _ request: HardwareQueueRequest
  ) throws(Errno) -> any HardwareQueue { throw .notSupported }
}

/// A guest's queue that the hardware reads.
package protocol HardwareQueue: AnyObject, Sendable {
  /// The queue that must exist as long as this queue (iommufd_hw_queue_depend()).
  var dependsOn: (any HardwareQueue)? { get }
  /// Stops the hardware from reading the queue. Cannot fail.
  func destroy()
}

/// The memory of a guest's queue, which is pinned and physically contiguous.
package struct HardwareQueueRequest: Sendable {
  package let type: UInt32
  package let index: UInt32
  package let iova: IOVA
  package let length: UInt64
  package let physical: PhysicalAddress

  package init(
    type: UInt32, index: UInt32, iova: IOVA, length: UInt64, physical: PhysicalAddress
  ) {
    self.type = type
    self.index = index
    self.iova = iova
    self.length = length
    self.physical = physical
  }
}

/// Receives the server's own mapping of a register region before the first client maps the region.
package typealias RegionSharing = @Sendable (SharedRegisters) throws(Errno) -> Void

/// iommufd's services for a driver's vIOMMU. Any thread may call them. They take no lock of the
/// control plane.
package protocol VirtualIOMMUHost: AnyObject, Sendable {
  /// Lets the client map a region at an offset of the iommufd (iommufd_viommu_alloc_mmap()).
  /// - Parameters:
  ///   - contents: The first bytes of the region.
  ///   - length: Bytes of the region, whole pages.
  ///   - share: For a region of registers; see ``RegionSharing``.
  /// - Returns: The offset.
  func addRegion(
    holding contents: [UInt8], length: UInt64, share: RegionSharing?
  ) throws(Errno) -> UInt64
  func removeRegion(at offset: UInt64)

  /// Returns the device that the guest knows as `virtualID` (iommufd_viommu_find_dev()).
  func device(virtualID: UInt64) -> RequesterID?
  /// Returns the ID by which the guest knows `device` (iommufd_viommu_get_vdev_id()).
  func virtualID(of device: RequesterID) -> UInt64?

  /// Adds an event to the guest's event queue for `type` (iommufd_viommu_report_event()).
  /// - Throws: `.notSupported` when the vIOMMU has no such queue.
  func report(_ event: [UInt8], type: UInt32) throws(Errno)
}
