// A slice of a physical unit that a guest uses (struct iommufd_viommu and its ops): the driver's
// side of the objects vIOMMU, vDEVICE and hardware queue. What iommufd does for it comes as a
// ``VirtualIOMMUHost``, so that a driver needs to know no objects.

package import Host
package import IOMMU
package import SystemPackage

package protocol VirtualIOMMU: AnyObject, Sendable {
  /// viommu_ops.alloc_domain_nested; the default: EOPNOTSUPP.
  func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain

  /// Drops what the unit has cached for the guest (viommu_ops.cache_invalidate); the default:
  /// EOPNOTSUPP.
  /// - Parameter handled: how many entries took effect, also when the next one is an error.
  func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno)

  /// The guest knows `device` as `virtualID` from now on (viommu_ops.vdevice_init).
  func addDevice(_ device: RequesterID, virtualID: UInt64) throws(Errno)
  func removeDevice(_ device: RequesterID, virtualID: UInt64)

  /// Whether ``makeHardwareQueue(_:)`` knows `type` (viommu_ops.get_hw_queue_size). The default: no
  /// type is known.
  func supportsHardwareQueue(type: UInt32) -> Bool

  /// Gives the guest's queue to the hardware (viommu_ops.hw_queue_init_phys).
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

/// A queue of the guest that the hardware reads.
package protocol HardwareQueue: AnyObject, Sendable {
  /// The queue without which this one cannot be (iommufd_hw_queue_depend()).
  var dependsOn: (any HardwareQueue)? { get }
  /// Takes the queue away from the hardware. Cannot fail.
  func destroy()
}

/// The memory of a guest's queue, pinned and physically contiguous.
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

/// Takes the server's own mapping of a region of registers, from when on clients may map it.
package typealias RegionSharing = @Sendable (SharedRegisters) throws(Errno) -> Void

/// What iommufd does for a virtual unit. All of it may be called from any thread and takes no lock
/// of the control plane.
package protocol VirtualIOMMUHost: AnyObject, Sendable {
  /// Lets the client map `length` bytes, whole pages that begin with `contents`, at an offset of the
  /// iommufd (iommufd_viommu_alloc_mmap()).
  /// - Parameter share: for registers; see ``RegionSharing``.
  /// - Returns: the offset.
  func addRegion(
    holding contents: [UInt8], length: UInt64, share: RegionSharing?
  ) throws(Errno) -> UInt64
  func removeRegion(at offset: UInt64)

  /// The device that the guest knows as `virtualID` (iommufd_viommu_find_dev()).
  func device(virtualID: UInt64) -> RequesterID?
  /// What the guest knows `device` as (iommufd_viommu_get_vdev_id()).
  func virtualID(of device: RequesterID) -> UInt64?

  /// Puts an event into the guest's queue for `type` (iommufd_viommu_report_event()).
  /// - Throws: `.notSupported` when there is no such queue.
  func report(_ event: [UInt8], type: UInt32) throws(Errno)
}
