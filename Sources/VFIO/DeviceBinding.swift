// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import IOMMUFD
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// The binding of an opened device to an iommufd (struct vfio_device_file between
/// VFIO_DEVICE_BIND_IOMMUFD and close). One attach or detach runs at a time. It can wait for pages
/// of the client, so it has a lock of its own; in the kernel it holds the lock of the device set.
final class DeviceBinding: Sendable {
  /// The device file that has been bound.
  let owner: ObjectIdentifier
  let context: Context
  let boundDevice: BoundDevice
  let openedDevice: OpenedDevice
  /// Held by an attach or a detach.
  let attachLock = AssertableLock()
  private let attachments = Mutex(Attachments())

  /// What the device is attached to (struct vfio_device: iommufd_attached, pasids).
  private struct Attachments: Sendable {
    /// Whether the device is unbound, so that it cannot be attached any more.
    var isOver = false
    var isAttached = false
    var pasids: Set<PASID> = []
  }

  init(
    owner: ObjectIdentifier, context: Context, boundDevice: BoundDevice, openedDevice: OpenedDevice
  ) {
    self.owner = owner
    self.context = context
    self.boundDevice = boundDevice
    self.openedDevice = openedDevice
  }

  /// Attaches the device, or one of its PASIDs, to a page table:
  /// vfio_iommufd_physical_attach_ioas(), vfio_iommufd_physical_pasid_attach_ioas(). iommufd has
  /// one function for the first page table and another one for every later page table.
  /// - Returns: The ID of the HWPT that the device uses: `table`, or a HWPT of the IOAS `table`.
  func attach(
    _ table: ObjectID, pasid: PASID?, client: any Client
  ) throws(Errno) -> ObjectID {
    let attachments = attachments.withLock { $0 }
    if attachments.isOver { throw .invalidArgument }
    let isAttached = pasid.map { attachments.pasids.contains($0) } ?? attachments.isAttached
    // ida_alloc_range()
    if let pasid, !isAttached, pasid.rawValue > Int32.max { throw .noSpace }
    var table = table
    if isAttached {
      try boundDevice.replace(with: &table, pasid: Self.iommufdPASID(pasid), client: client)
    } else {
      try boundDevice.attach(to: &table, pasid: Self.iommufdPASID(pasid), client: client)
    }
    self.attachments.withLock { attachments in
      if let pasid { attachments.pasids.insert(pasid) } else { attachments.isAttached = true }
    }
    return table
  }

  /// Detaches the device or one of its PASIDs: vfio_iommufd_physical_detach_ioas(),
  /// vfio_iommufd_physical_pasid_detach_ioas(). A detach without an attachment is no error.
  func detach(pasid: PASID?) {
    let wasAttached = attachments.withLock { attachments in
      if let pasid { return attachments.pasids.remove(pasid) != nil }
      let wasAttached = attachments.isAttached
      attachments.isAttached = false
      return wasAttached
    }
    if wasAttached { boundDevice.detach(pasid: Self.iommufdPASID(pasid)) }
  }

  /// Detaches every PASID and the device, unbinds the device and releases the iommufd.
  func unbind() {
    attachments.withLock { attachments in
      for pasid in attachments.pasids.sorted(by: { $0.rawValue < $1.rawValue }) {
        boundDevice.detach(pasid: Self.iommufdPASID(pasid))
      }
      if attachments.isAttached { boundDevice.detach() }
      attachments = .init(isOver: true)
    }
    boundDevice.unbind()
    context.release()
  }

  /// Returns `nil` for PASID 0, which the kernel uses for requests without a PASID
  /// (IOMMU_NO_PASID), also when a client asks for PASID 0.
  private static func iommufdPASID(_ pasid: PASID?) -> PASID? {
    pasid.flatMap { $0.rawValue == 0 ? nil : $0 }
  }
}
